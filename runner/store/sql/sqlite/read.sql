-- Statements of the readers; columns stand in the order of the row types in rows.py.
-- A flow run without a state is only reserved: its own row has not arrived yet.

-- name: table_count
SELECT count(*) FROM sqlite_master

-- name: flow_runs
SELECT
    flow_run_id, name, flow_name, flow_version, state, message, parameters, tags,
    parent_flow_run_id, parent_task_run, attempt, created_at, started_at, ended_at, entrypoint,
    code_digest, environment, task_runner, host, pid, process_started_at, boot_id
FROM flow_run
WHERE
    state IS NOT NULL
    AND (:state IS NULL OR state = :state)
    AND (:flow IS NULL OR flow_name = :flow)
    AND (:before IS NULL OR created_at < :before)
    AND (:parent IS NULL OR parent_flow_run_id = :parent)
ORDER BY created_at DESC, id DESC
LIMIT :limit

-- name: last_flow_run
SELECT
    flow_run_id, name, flow_name, flow_version, state, message, parameters, tags,
    parent_flow_run_id, parent_task_run, attempt, created_at, started_at, ended_at, entrypoint,
    code_digest, environment, task_runner, host, pid, process_started_at, boot_id
FROM flow_run
WHERE state IS NOT NULL AND parent_flow_run_id IS NULL
ORDER BY created_at DESC, id DESC
LIMIT 1

-- name: flow_runs_by_prefix
SELECT
    flow_run_id, name, flow_name, flow_version, state, message, parameters, tags,
    parent_flow_run_id, parent_task_run, attempt, created_at, started_at, ended_at, entrypoint,
    code_digest, environment, task_runner, host, pid, process_started_at, boot_id
FROM flow_run
WHERE state IS NOT NULL AND flow_run_id >= :prefix AND flow_run_id < :prefix || '~'
ORDER BY created_at DESC, id DESC
LIMIT :limit

-- name: flow_runs_by_name
SELECT
    flow_run_id, name, flow_name, flow_version, state, message, parameters, tags,
    parent_flow_run_id, parent_task_run, attempt, created_at, started_at, ended_at, entrypoint,
    code_digest, environment, task_runner, host, pid, process_started_at, boot_id
FROM flow_run
WHERE state IS NOT NULL AND name = :name
ORDER BY created_at DESC, id DESC
LIMIT :limit

-- name: flow_runs_under_way
WITH RECURSIVE above (flow_run_id, root, parent) AS (
    SELECT flow_run_id, flow_run_id, parent_flow_run_id
    FROM flow_run
    WHERE state IN ('Pending', 'Running', 'Retrying', 'AwaitingRetry', 'Cancelling')
    UNION
    SELECT above.flow_run_id, flow_run.flow_run_id, flow_run.parent_flow_run_id
    FROM above JOIN flow_run ON flow_run.flow_run_id = above.parent
)
SELECT
    run.flow_run_id, run.state, above.root,
    coalesce(own.host, run.host),
    CASE WHEN own.host IS NULL THEN run.pid ELSE own.pid END,
    CASE WHEN own.host IS NULL THEN run.process_started_at ELSE own.process_started_at END,
    CASE WHEN own.host IS NULL THEN run.boot_id ELSE own.boot_id END,
    coalesce(held.fence, 1),
    coalesce(held.heartbeat, 0)
FROM above
JOIN flow_run AS run ON run.flow_run_id = above.flow_run_id
LEFT JOIN lease AS own ON own.flow_run_id = run.flow_run_id
LEFT JOIN lease AS held ON held.flow_run_id = above.root
WHERE NOT EXISTS (SELECT 1 FROM flow_run AS up WHERE up.flow_run_id = above.parent)

-- name: flow_run_names
SELECT flow_run_id, name FROM flow_run
WHERE state IS NOT NULL
ORDER BY created_at DESC, id DESC
LIMIT :limit

-- name: tasks
SELECT task_number, task.name, version, task.tags, task.code_digest, options
FROM task JOIN flow_run ON flow_run.id = task.flow_run
WHERE flow_run_id = :flow_run_id
ORDER BY task_number

-- name: task_runs
SELECT
    number, task_number, place, name, state, message, attempt, crashes, parents, created_at,
    started_at, ended_at, run_s, encode_s, cpu_s, worker, pid, result_bytes, peak_memory, cache
FROM task_run
WHERE
    flow_run = (SELECT id FROM flow_run WHERE flow_run_id = :flow_run_id)
    AND number > :after
    AND (:state IS NULL OR state = :state)
    AND (
        :task IS NULL
        OR task_number IN (
            SELECT task_number FROM task WHERE task.flow_run = task_run.flow_run AND task.name = :task
        )
    )
ORDER BY number
LIMIT :limit

-- name: counts
SELECT state, count(*) FROM task_run
WHERE flow_run = (SELECT id FROM flow_run WHERE flow_run_id = :flow_run_id)
GROUP BY state
ORDER BY state

-- name: edges
SELECT task_run.number, parent.value
FROM task_run, json_each(task_run.parents) AS parent
WHERE task_run.flow_run = (SELECT id FROM flow_run WHERE flow_run_id = :flow_run_id)
ORDER BY task_run.number, parent.key

-- name: transitions
SELECT number, at, state, message, attempt, worker FROM transition
WHERE flow_run = (SELECT id FROM flow_run WHERE flow_run_id = :flow_run_id)
ORDER BY sequence

-- name: transitions_of
SELECT number, at, state, message, attempt, worker FROM transition
WHERE flow_run = (SELECT id FROM flow_run WHERE flow_run_id = :flow_run_id) AND number IS :number
ORDER BY sequence

-- name: logs
SELECT number, attempt, at, level, logger, message, worker, sequence FROM log
WHERE
    flow_run = (SELECT id FROM flow_run WHERE flow_run_id = :flow_run_id)
    AND sequence > :after
    AND level >= :level
    AND (:number IS NULL OR number = :number)
    AND (:search IS NULL OR message LIKE '%' || :search || '%' ESCAPE '\')
ORDER BY sequence
LIMIT :limit

-- name: events
SELECT at, event, resource, number, payload FROM event
WHERE
    flow_run = (SELECT id FROM flow_run WHERE flow_run_id = :flow_run_id)
    AND (:event IS NULL OR event = :event)
ORDER BY sequence

-- name: claims
SELECT
    place, holder, executing, claim.host, claim.pid, claim.process_started_at, claim.boot_id,
    claim.flow_run_id, coalesce(fence, 1), coalesce(heartbeat, 0)
FROM claim LEFT JOIN lease ON lease.flow_run_id = claim.flow_run_id
WHERE holder <> :holder

-- name: cancellation
SELECT asked_at, asked_by, grace_s FROM cancellation WHERE flow_run_id = :flow_run_id
