-- Statements of the writer thread.  The last group of a VALUES clause is repeated for as many
-- rows as go out at once; ? is the flow run's integer id, the other marks are one row's values.

-- name: flow_run_reserve
INSERT INTO flow_run (flow_run_id) VALUES (?) ON CONFLICT (flow_run_id) DO NOTHING

-- name: flow_run_key
SELECT id FROM flow_run WHERE flow_run_id = ?

-- name: flow_run
UPDATE flow_run SET
    name = ?, flow_name = ?, flow_version = ?, state = ?, message = ?, parameters = ?,
    tags = ?, parent_flow_run_id = ?, parent_task_run = ?, attempt = ?, created_at = ?,
    started_at = ?, ended_at = ?, entrypoint = ?, code_digest = ?, environment = ?,
    task_runner = ?, host = ?, pid = ?, process_started_at = ?, boot_id = ?
WHERE flow_run_id = ?

-- name: tasks
INSERT OR REPLACE INTO task (flow_run, task_number, name, version, tags, code_digest, options)
VALUES (?, ?, ?, ?, ?, ?, ?)

-- name: task_runs
INSERT OR REPLACE INTO task_run (
    flow_run, number, task_number, place, name, state, message, attempt, crashes, parents,
    created_at, started_at, ended_at, run_s, encode_s, cpu_s, worker, pid, result_bytes,
    peak_memory, cache
)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: transitions
INSERT INTO transition (flow_run, sequence, number, at, state, message, attempt, worker)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)

-- name: transitions_last
SELECT coalesce(max(sequence), -1) FROM transition WHERE flow_run = ?

-- name: logs
INSERT INTO log (flow_run, sequence, number, attempt, at, level, logger, message, worker)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: logs_last
SELECT coalesce(max(sequence), -1) FROM log WHERE flow_run = ?

-- name: events
INSERT INTO event (flow_run, sequence, at, event, resource, number, payload)
VALUES (?, ?, ?, ?, ?, ?, ?)

-- name: events_last
SELECT coalesce(max(sequence), -1) FROM event WHERE flow_run = ?

-- name: spool_bytes_read
SELECT bytes_read FROM spool WHERE name = ?

-- name: spool_advance
INSERT OR REPLACE INTO spool (name, bytes_read) VALUES (?, ?)

-- name: spool_forget
DELETE FROM spool WHERE name = ?
