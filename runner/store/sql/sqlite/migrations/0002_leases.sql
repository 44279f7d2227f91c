-- Who may write the record of a flow run.  A run without a row here is held under fence 1 by the
-- process that its own row names; a row without a host is held by nobody.

CREATE TABLE lease (
    flow_run_id TEXT PRIMARY KEY,
    fence INTEGER NOT NULL,
    heartbeat INTEGER NOT NULL,
    host TEXT,
    pid INTEGER,
    process_started_at REAL,
    boot_id TEXT
) WITHOUT ROWID;
