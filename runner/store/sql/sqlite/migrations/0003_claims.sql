-- Which driver makes the result under a cache key.  It lives as long as the process and the lease
-- of the flow run that it works for.

CREATE TABLE claim (
    place TEXT PRIMARY KEY,
    holder TEXT NOT NULL,
    executing INTEGER NOT NULL,
    flow_run_id TEXT NOT NULL,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    process_started_at REAL NOT NULL,
    boot_id TEXT
) WITHOUT ROWID;

-- When a driver gave claims up last (unix seconds): there may be entries since.
CREATE TABLE claim_given_up (
    holder TEXT PRIMARY KEY,
    at REAL NOT NULL
) WITHOUT ROWID;
