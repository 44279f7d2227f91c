"""What the run record says: the reading side, for command line, reports and pages.

Every method is one query and sees what was committed when it ran; a run that goes on is seen
further along by the next call.  A store that does not exist (yet) reads as empty.  Whoever opens
it marks the runs whose process is gone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Protocol, Self

from daskflow.errors import NotFoundError, StoreError
from daskflow.runner.store.address import sqlite_path
from daskflow.runner.store.gone import Lookout
from daskflow.runner.store.history import flow_run_history, task_run_history
from daskflow.runner.store.lookup import find_flow_run
from daskflow.runner.store.outlet import read_back
from daskflow.runner.store.rows import (
    EventRow,
    FlowRunRow,
    LogRow,
    TaskRow,
    TaskRunRow,
    TransitionRow,
)
from daskflow.runner.store.spool import spool_files
from daskflow.runner.store.sqlite import SqliteReader, SqliteWriter

__all__ = ["RunStore", "open_store"]

_SPOOL_PATIENCE_S = 1.0
_NO_LIMIT = 2**62
_PARENTS = 8  # place of TaskRunRow.parents


class Reader(Protocol):
    """A database that answers the statements of ``read.sql``."""

    def open(self) -> bool: ...
    def rows(self, statement: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]: ...
    def close(self) -> None: ...


def open_store(url: str) -> RunStore:
    """Open the run store at `url` for reading.

    Raises `UsageError` for a malformed URL, `StoreVersionError` for a store of a newer daskflow
    and `StoreError` for what is no run store or cannot be read.  No empty store is created.
    """
    path = sqlite_path(url)
    if spool_files(path):  # a process that could not write the store has left its record here
        sink = SqliteWriter(path)
        with suppress(StoreError):
            read_back(sink, patience_s=_SPOOL_PATIENCE_S)
        sink.close()
    reader = SqliteReader(path)
    reader.open()
    lookout = Lookout(reader, path)
    lookout.mark_crashed()
    return RunStore(reader, lookout.mark_crashed)


class RunStore:
    """The record of all flow runs; a context manager that closes its connection."""

    def __init__(self, reader: Reader, mark_crashed: Callable[[], int] = int) -> None:
        self._reader = reader
        self.mark_crashed = mark_crashed  # for those that keep the store open: again, now and then

    def flow_runs(
        self,
        state: str | None = None,
        flow: str | None = None,
        limit: int | None = 20,
        before: float | None = None,
    ) -> list[FlowRunRow]:
        """Return flow runs, newest first.

        Parameters
        ----------
        state, flow : str, optional
            Only runs in this state, only runs of the flow of this name.
        limit : int, optional
            How many at most; None for all.
        before : float, optional
            Only runs created before this time (unix seconds); for the next page, the
            `created_at` of the last run of this one.
        """
        return self._flow_runs(state=state, flow=flow, before=before, limit=_most(limit))

    def root_of(self, run: FlowRunRow) -> FlowRunRow:
        """Return the flow run that a subflow belongs to; itself for one that nobody called."""
        while run.parent_flow_run_id is not None:
            run = self.find_flow_run(run.parent_flow_run_id)
        return run

    def find_flow_run(self, ref: str) -> FlowRunRow:
        """Return the flow run that `ref` names: an id, a unique prefix, a name or ``@last``.

        Raises `NotFoundError` with the nearest names, or with the candidates of several.
        """
        return find_flow_run(ref, self._find)

    def children(self, flow_run_id: str) -> list[FlowRunRow]:
        """Return the flow runs that were started inside this one, oldest first."""
        return self._flow_runs(parent=flow_run_id, limit=_NO_LIMIT)[::-1]

    def tasks(self, flow_run_id: str) -> list[TaskRow]:
        """Return the tasks that the flow run used, by number."""
        return [TaskRow._make(row) for row in self._find("tasks", flow_run_id=flow_run_id)]

    def task_runs(
        self,
        flow_run_id: str,
        state: str | None = None,
        task: str | None = None,
        after: int | None = None,
        limit: int | None = None,
    ) -> list[TaskRunRow]:
        """Return task runs by number.

        Parameters
        ----------
        flow_run_id : str
            The flow run.
        state, task : str, optional
            Only runs in this state, only runs of the task of this name.
        after : int, optional
            Only runs with a greater number; for the next page, the last number of this one.
        limit : int, optional
            How many at most; None for all.
        """
        rows = self._find(
            "task_runs",
            flow_run_id=flow_run_id,
            state=state,
            task=task,
            after=-1 if after is None else after,
            limit=_most(limit),
        )
        return [_task_run(row) for row in rows]

    def counts(self, flow_run_id: str) -> dict[str, int]:
        """Return how many task runs are in which state."""
        return dict(self._find("counts", flow_run_id=flow_run_id))

    def edges(self, flow_run_id: str) -> list[tuple[int, int]]:
        """Return ``(child, parent)`` numbers of task runs, by child."""
        return [(child, parent) for child, parent in self._find("edges", flow_run_id=flow_run_id)]

    def transitions(self, flow_run_id: str, number: int | None) -> list[TransitionRow]:
        """Return every change of state of a task run (of the flow run for None), oldest first.

        What was not stored follows from the run's row, so the history is complete.
        Raises `NotFoundError` when there is no such run.
        """
        rows = self._find("transitions_of", flow_run_id=flow_run_id, number=number)
        stored = [TransitionRow._make(row) for row in rows]
        if number is None:
            return flow_run_history(self.find_flow_run(flow_run_id), stored)
        runs = self.task_runs(flow_run_id, after=number - 1, limit=1)
        if not runs or runs[0].number != number:
            raise NotFoundError(f"flow run {flow_run_id!r} has no task run {number!r}")
        return task_run_history(runs[0], stored)

    def stored_transitions(self, flow_run_id: str) -> list[TransitionRow]:
        """Return the transitions that were written, of all runs, in order of arrival."""
        rows = self._find("transitions", flow_run_id=flow_run_id)
        return [TransitionRow._make(row) for row in rows]

    def logs(
        self,
        flow_run_id: str,
        number: int | None = None,
        level: int = 0,
        search: str | None = None,
        after: int | None = None,
        limit: int | None = None,
    ) -> list[LogRow]:
        """Return log records in order of arrival.

        Parameters
        ----------
        flow_run_id : str
            The flow run.
        number : int, optional
            Only records of this task run.
        level : int
            Only records of this level (as in `logging`) and above.
        search : str, optional
            Only records whose message holds this text, upper and lower case alike.
        after : int, optional
            Only records with a greater `sequence`; to follow, the `sequence` of the last one seen.
        limit : int, optional
            How many at most; None for all.
        """
        rows = self._find(
            "logs",
            flow_run_id=flow_run_id,
            number=number,
            level=level,
            search=None if search is None else _literally(search),
            after=-1 if after is None else after,
            limit=_most(limit),
        )
        return [LogRow._make(row) for row in rows]

    def events(self, flow_run_id: str, event: str | None = None) -> list[EventRow]:
        """Return events in order of arrival, all or those of one name."""
        rows = self._find("events", flow_run_id=flow_run_id, event=event)
        return [EventRow._make((*row[:4], json.loads(row[4]))) for row in rows]

    def close(self) -> None:
        """Close the connection."""
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _flow_runs(self, **wanted: Any) -> list[FlowRunRow]:
        nothing = {"state": None, "flow": None, "before": None, "parent": None}
        return [FlowRunRow._make(row) for row in self._find("flow_runs", **(nothing | wanted))]

    def _find(self, statement: str, **parameters: Any) -> list[tuple[Any, ...]]:
        return self._reader.rows(statement, parameters)


def _most(limit: int | None) -> int:
    return _NO_LIMIT if limit is None else max(limit, 0)


def _task_run(row: tuple[Any, ...]) -> TaskRunRow:
    if row[_PARENTS] is None:
        return TaskRunRow._make(row)
    parents = tuple(json.loads(row[_PARENTS]))
    return TaskRunRow._make((*row[:_PARENTS], parents, *row[_PARENTS + 1 :]))


def _literally(search: str) -> str:
    """Return `search` for LIKE, with the characters that mean something there escaped."""
    return search.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
