"""The rows of the run record, as the engine writes them and as everybody reads them.

Writers hand over plain tuples or these NamedTuples, in this column order; readers get these
NamedTuples back.  Times are unix seconds (float, UTC), durations are seconds, sizes are bytes.
Nothing here touches a database.
"""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["EventRow", "FlowRunRow", "LogRow", "TaskRow", "TaskRunRow", "TransitionRow"]


class FlowRunRow(NamedTuple):
    """One flow run; written whole at every change of its state, the last write wins."""

    flow_run_id: str  # 32 hexadecimal digits
    name: str  # generated or from flow_run_name
    flow_name: str
    flow_version: str | None
    state: str  # "Pending", "Running", "Completed", ...
    message: str | None  # of the state: the error's text, which task runs failed
    parameters: str  # JSON object of reprs that a person can read
    tags: str  # JSON list of str
    parent_flow_run_id: str | None
    parent_task_run: int | None  # number of the task run in the parent flow run that called it
    attempt: int  # 1 for the first
    created_at: float
    started_at: float | None
    ended_at: float | None
    entrypoint: str | None  # "path/file.py:function"
    code_digest: str | None  # of the flow function's source
    environment: str  # JSON object: python, daskflow, dask, distributed, platform, host, cwd, argv
    task_runner: str  # what a person reads: "processes, 2 workers × 1 thread"
    host: str
    pid: int
    process_started_at: float  # from process.py: tells a reused pid; to compare, not to show
    boot_id: str | None


class TaskRow(NamedTuple):
    """One task definition as used in a flow run (a *stage* in reports)."""

    task_number: int  # counted per flow run, from 0
    name: str
    version: str | None
    tags: str  # JSON list of str
    code_digest: str | None
    options: str  # JSON object: retries, crash_retries, timeout_seconds, ...


class TaskRunRow(NamedTuple):
    """One task run; written whole at every change worth it, the last write wins."""

    number: int  # counted per flow run, from 0; the id that users see is "<flow_run_id>-<number>"
    task_number: int
    # Place among the runs of its task, from 0; names the run: "clean-3".  Hides `tuple.index`.
    index: int  # type: ignore[assignment]
    name: str | None  # from task_run_name; None means "<task name>-<index>"
    state: str
    message: str | None  # of the state: the error's type and text, the upstream that failed
    attempt: int  # executions that were reported, 0 before the first
    crashes: int  # workers lost while this run was executing
    parents: tuple[int, ...] | None  # numbers of the task runs whose futures were its arguments
    created_at: float
    started_at: float | None  # of the last attempt
    ended_at: float | None
    run_s: float | None  # of the last attempt, wall clock inside the worker
    encode_s: float | None  # turning the result into bytes
    cpu_s: float | None
    worker: str | None  # address, or "local" for a run in the flow process
    pid: int | None
    result_bytes: int | None
    peak_memory: int | None  # of the worker process when the run ended
    cache: str | None  # None, "hit", "miss", or why not looked up


class TransitionRow(NamedTuple):
    """One change of state that the row of its task run does not tell by itself."""

    number: int | None  # of the task run; None for the flow run itself
    at: float
    state: str
    message: str | None
    attempt: int
    worker: str | None


class LogRow(NamedTuple):
    """One log record or captured print."""

    number: int | None  # of the task run; None for the flow itself
    attempt: int
    at: float
    level: int  # as in `logging`: 10, 20, 30, 40, 50
    logger: str
    message: str
    worker: str | None
    sequence: int | None = None  # place in the flow run's log; the store counts it, from 0


class EventRow(NamedTuple):
    """Something that happened around a flow run: a worker came or went, a user's `emit_event`."""

    at: float
    event: str  # "daskflow.worker.lost", "daskflow.worker.added", user's own names
    resource: str  # what it is about, for example the worker's address
    number: int | None  # of the task run, where one is concerned
    payload: dict[str, Any]  # JSON-able
