"""The run record: schema, one writer thread, queries.

The engine writes through `open_writer`, everybody else reads through `open_store`.  Only this
room knows SQL; no worker process ever opens the store.  Names load what they need when they are
asked for: workers make rows, and load nothing else of this room.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from daskflow.runner.store.leases import RunLeases as RunLeases
    from daskflow.runner.store.process import ProcessIdentity as ProcessIdentity
    from daskflow.runner.store.process import process_is_gone as process_is_gone
    from daskflow.runner.store.process import this_process as this_process
    from daskflow.runner.store.reader import RunStore as RunStore
    from daskflow.runner.store.reader import open_store as open_store
    from daskflow.runner.store.rows import EventRow as EventRow
    from daskflow.runner.store.rows import FlowRunRow as FlowRunRow
    from daskflow.runner.store.rows import LogRow as LogRow
    from daskflow.runner.store.rows import TaskRow as TaskRow
    from daskflow.runner.store.rows import TaskRunRow as TaskRunRow
    from daskflow.runner.store.rows import TransitionRow as TransitionRow
    from daskflow.runner.store.writer import Writer as Writer
    from daskflow.runner.store.writer import open_writer as open_writer

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

_PLACES = {
    "RunLeases": "leases",
    **dict.fromkeys(("ProcessIdentity", "process_is_gone", "this_process"), "process"),
    **dict.fromkeys(("RunStore", "open_store"), "reader"),
    **dict.fromkeys(("Writer", "open_writer"), "writer"),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES.get(name, 'rows')}"), name)
