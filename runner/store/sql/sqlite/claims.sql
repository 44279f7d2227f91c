-- Statements of claims on cache keys; each stands in a transaction that holds the write lock.

-- name: claimed
INSERT INTO claim (
    place, holder, executing, flow_run_id, host, pid, process_started_at, boot_id
)
VALUES (:place, :holder, 0, :flow_run_id, :host, :pid, :process_started_at, :boot_id)
ON CONFLICT (place) DO NOTHING

-- name: seen
SELECT
    holder, executing, claim.host, claim.pid, claim.process_started_at, claim.boot_id,
    claim.flow_run_id, coalesce(fence, 1), coalesce(heartbeat, 0)
FROM claim LEFT JOIN lease ON lease.flow_run_id = claim.flow_run_id
WHERE place = ?

-- name: broken
DELETE FROM claim WHERE place = ?

-- name: executing
UPDATE claim SET executing = ? WHERE place = ? AND holder = ?

-- name: released
DELETE FROM claim WHERE place = ? AND holder = ?

-- name: all_released
DELETE FROM claim WHERE holder = ?

-- name: abandoned
DELETE FROM claim WHERE flow_run_id = ?

-- name: given_up
INSERT OR REPLACE INTO claim_given_up (holder, at) VALUES (?, ?)

-- name: given_up_by_others
SELECT coalesce(max(at), 0.0) FROM claim_given_up WHERE holder <> ?

-- name: forgotten
DELETE FROM claim_given_up WHERE at < ?
