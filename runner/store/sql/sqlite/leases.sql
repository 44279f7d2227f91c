-- Statements of leases on flow runs; each stands in a transaction that holds the write lock.

-- name: fence
SELECT fence FROM lease WHERE flow_run_id = ?

-- name: seen
SELECT fence, heartbeat, host, pid, process_started_at, boot_id
FROM lease
WHERE flow_run_id = :flow_run_id

-- name: first_holder
SELECT state, host, pid, process_started_at, boot_id
FROM flow_run
WHERE flow_run_id = :flow_run_id AND state IS NOT NULL

-- name: taken
INSERT INTO lease (flow_run_id, fence, heartbeat, host, pid, process_started_at, boot_id)
VALUES (:flow_run_id, :fence, 0, :host, :pid, :process_started_at, :boot_id)
ON CONFLICT (flow_run_id) DO UPDATE SET
    fence = excluded.fence,
    heartbeat = 0,
    host = excluded.host,
    pid = excluded.pid,
    process_started_at = excluded.process_started_at,
    boot_id = excluded.boot_id

-- name: noted
INSERT INTO lease (flow_run_id, fence, heartbeat, host, pid, process_started_at, boot_id)
VALUES (:flow_run_id, :fence, 1, :host, :pid, :process_started_at, :boot_id)
ON CONFLICT (flow_run_id) DO NOTHING

-- name: renewed
UPDATE lease SET heartbeat = heartbeat + 1
WHERE flow_run_id = :flow_run_id AND fence = :fence AND host IS NOT NULL

-- name: released
UPDATE lease SET host = NULL, pid = NULL, process_started_at = NULL, boot_id = NULL
WHERE flow_run_id = :flow_run_id AND fence = :fence

-- name: lapsed
INSERT INTO lease (flow_run_id, fence, heartbeat) VALUES (:flow_run_id, :fence, 0)
ON CONFLICT (flow_run_id) DO UPDATE SET
    fence = excluded.fence,
    heartbeat = 0,
    host = NULL,
    pid = NULL,
    process_started_at = NULL,
    boot_id = NULL

-- name: gone
UPDATE flow_run SET
    state = 'Crashed',
    message = :message,
    ended_at = max(
        coalesce(started_at, created_at),
        coalesce((SELECT max(ended_at) FROM task_run WHERE flow_run = flow_run.id), 0),
        coalesce((SELECT max(at) FROM log WHERE flow_run = flow_run.id), 0)
    )
WHERE flow_run_id = :flow_run_id AND state = :state

-- name: gone_note
INSERT INTO transition (flow_run, sequence, number, at, state, message, attempt, worker)
SELECT
    id,
    (SELECT coalesce(max(sequence), -1) + 1 FROM transition WHERE flow_run = flow_run.id),
    NULL, ended_at, state, message, attempt, NULL
FROM flow_run
WHERE flow_run_id = :flow_run_id

-- name: cancellation_asked
INSERT INTO cancellation (flow_run_id, asked_at, asked_by, grace_s)
VALUES (:flow_run_id, :asked_at, :asked_by, :grace_s)
ON CONFLICT (flow_run_id) DO UPDATE SET
    asked_at = excluded.asked_at,
    asked_by = excluded.asked_by,
    grace_s = excluded.grace_s

-- name: cancellation_over
DELETE FROM cancellation WHERE flow_run_id = :flow_run_id
