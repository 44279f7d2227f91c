"""Rows for tests of the run record, with values that differ from each other."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

from daskflow.runner.store.batch import Batch, Change
from daskflow.runner.store.rows import (
    EventRow,
    FlowRunRow,
    LogRow,
    TaskRow,
    TaskRunRow,
    TransitionRow,
)
from daskflow.runner.store.sqlite import SqliteWriter

__all__ = ["RUN", "commit", "event", "flow_run", "log", "task", "task_run", "transition"]

RUN = "5e" * 16


def flow_run(flow_run_id: str = RUN, **values: Any) -> FlowRunRow:
    row = FlowRunRow(
        flow_run_id=flow_run_id,
        name=f"calm-{flow_run_id[:4]}",
        flow_name="etl",
        flow_version="3",
        state="Completed",
        message=None,
        parameters='{"months": "[1, 2]"}',
        tags='["nightly"]',
        parent_flow_run_id=None,
        parent_task_run=None,
        attempt=1,
        created_at=100.25,
        started_at=101.5,
        ended_at=109.0,
        entrypoint="etl.py:etl",
        code_digest="c0de",
        environment='{"python": "3.11"}',
        task_runner="processes, 2 workers × 1 thread",
        host="here",
        pid=4711,
        process_started_at=99.01,
        boot_id="b007",
    )
    return row._replace(**values)


def task(task_number: int = 0, name: str = "clean") -> TaskRow:
    return TaskRow(task_number, name, "1", '["t"]', "d16e57", '{"retries": 2}')


def task_run(number: int = 0, **values: Any) -> TaskRunRow:
    row = TaskRunRow(
        number=number,
        task_number=0,
        index=number,
        name=None,
        state="Completed",
        message=None,
        attempt=1,
        crashes=0,
        parents=None,
        created_at=102.0,
        started_at=103.0,
        ended_at=104.0,
        run_s=0.75,
        encode_s=0.125,
        cpu_s=0.5,
        worker="tcp://127.0.0.1:4001",
        pid=4712,
        result_bytes=1000,
        peak_memory=2_000_000,
        cache="miss",
    )
    return row._replace(**values)


def log(message: str, number: int | None = None, **values: Any) -> LogRow:
    return LogRow(number, 1, 103.5, 20, "etl", message, None)._replace(**values)


def transition(state: str, at: float, attempt: int = 1, number: int | None = 0) -> TransitionRow:
    return TransitionRow(number, at, state, f"why {state}", attempt, "tcp://127.0.0.1:4001")


def event(name: str = "daskflow.worker.lost", **payload: Any) -> EventRow:
    return EventRow(103.75, name, "tcp://127.0.0.1:4001", None, payload)


def commit(path: Path, *changes: Change) -> None:
    """Write `changes` to a SQLite store without a thread; a store is made if there is none."""
    with closing(SqliteWriter(path)) as writer:
        writer.commit(Batch(changes), patience_s=1.0)
