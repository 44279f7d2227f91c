-- Who wants the end of a flow run that another process executes, for as long as it is held.

CREATE TABLE cancellation (
    flow_run_id TEXT PRIMARY KEY,
    asked_at REAL NOT NULL,
    asked_by TEXT NOT NULL,
    grace_s REAL
) WITHOUT ROWID;
