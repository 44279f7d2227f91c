-- A flow run that ended goes on in another process; all in one transaction.

-- name: taken
UPDATE flow_run SET
    state = 'Retrying',
    message = NULL,
    ended_at = NULL,
    attempt = :attempt + 1,
    host = :host,
    pid = :pid,
    process_started_at = :process_started_at,
    boot_id = :boot_id
WHERE flow_run_id = :flow_run_id AND state = :state AND attempt = :attempt

-- name: left_open
UPDATE task_run SET
    state = 'Crashed',
    message = 'its flow process was gone',
    ended_at = coalesce(ended_at, max(coalesce(started_at, created_at), coalesce(:at, 0)))
WHERE
    flow_run = (SELECT id FROM flow_run WHERE flow_run_id = :flow_run_id)
    AND state IN ('Scheduled', 'Late', 'Pending', 'Running', 'Retrying', 'AwaitingRetry', 'Paused')
