-- The run record.  Every table hangs on flow_run.id, a small integer, so that rows stay narrow.
-- Tables that the hot path fills have one b-tree each: their primary key, in order of arrival.

CREATE TABLE flow_run (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    flow_run_id TEXT NOT NULL UNIQUE,
    name TEXT,
    flow_name TEXT,
    flow_version TEXT,
    state TEXT,
    message TEXT,
    parameters TEXT,
    tags TEXT,
    parent_flow_run_id TEXT,
    parent_task_run INTEGER,
    attempt INTEGER,
    created_at REAL,
    started_at REAL,
    ended_at REAL,
    entrypoint TEXT,
    code_digest TEXT,
    environment TEXT,
    task_runner TEXT,
    host TEXT,
    pid INTEGER,
    process_started_at REAL,
    boot_id TEXT
);

CREATE INDEX flow_run_created ON flow_run (created_at);

CREATE INDEX flow_run_parent ON flow_run (parent_flow_run_id) WHERE parent_flow_run_id IS NOT NULL;

CREATE TABLE task (
    flow_run INTEGER NOT NULL,
    task_number INTEGER NOT NULL,
    name TEXT,
    version TEXT,
    tags TEXT,
    code_digest TEXT,
    options TEXT,
    PRIMARY KEY (flow_run, task_number)
) WITHOUT ROWID;

-- parents is a JSON list of numbers: the edges into this task run, in the order of its arguments.
CREATE TABLE task_run (
    flow_run INTEGER NOT NULL,
    number INTEGER NOT NULL,
    task_number INTEGER,
    place INTEGER,
    name TEXT,
    state TEXT,
    message TEXT,
    attempt INTEGER,
    crashes INTEGER,
    parents TEXT,
    created_at REAL,
    started_at REAL,
    ended_at REAL,
    run_s REAL,
    encode_s REAL,
    cpu_s REAL,
    worker TEXT,
    pid INTEGER,
    result_bytes INTEGER,
    peak_memory INTEGER,
    cache TEXT,
    PRIMARY KEY (flow_run, number)
) WITHOUT ROWID;

CREATE TABLE transition (
    flow_run INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    number INTEGER,
    at REAL,
    state TEXT,
    message TEXT,
    attempt INTEGER,
    worker TEXT,
    PRIMARY KEY (flow_run, sequence)
) WITHOUT ROWID;

CREATE TABLE log (
    flow_run INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    number INTEGER,
    attempt INTEGER,
    at REAL,
    level INTEGER,
    logger TEXT,
    message TEXT,
    worker TEXT,
    PRIMARY KEY (flow_run, sequence)
) WITHOUT ROWID;

CREATE TABLE event (
    flow_run INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    at REAL,
    event TEXT,
    resource TEXT,
    number INTEGER,
    payload TEXT,
    PRIMARY KEY (flow_run, sequence)
) WITHOUT ROWID;

-- How much of a spool file has been read back in, so that a crash in between doubles nothing.
CREATE TABLE spool (
    name TEXT PRIMARY KEY,
    bytes_read INTEGER NOT NULL
) WITHOUT ROWID;
