"""The run record: schema, one writer thread, queries.

The engine writes through `open_writer`, everybody else reads through `open_store`.  Only this
room knows SQL; no worker process ever opens the store.
"""

from __future__ import annotations

from daskflow.runner.store.leases import RunLeases
from daskflow.runner.store.process import ProcessIdentity, process_is_gone, this_process
from daskflow.runner.store.reader import RunStore, open_store
from daskflow.runner.store.rows import (
    EventRow,
    FlowRunRow,
    LogRow,
    TaskRow,
    TaskRunRow,
    TransitionRow,
)
from daskflow.runner.store.writer import Writer, open_writer

__all__ = [
    "EventRow",
    "FlowRunRow",
    "LogRow",
    "ProcessIdentity",
    "RunLeases",
    "RunStore",
    "TaskRow",
    "TaskRunRow",
    "TransitionRow",
    "Writer",
    "open_store",
    "open_writer",
    "process_is_gone",
    "this_process",
]
