"""A batch: what one transaction writes, with rows that replace each other already merged.

The hot path hands over `Change` tuples; the writer thread merges them here.  Rows that are
upserted keep only the last version of each key, rows that are appended keep their order of
arrival.  Pure: no clock, no database.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any, Literal, TypeAlias

from daskflow.runner.core.leases import Lease
from daskflow.runner.store.rows import (
    EventRow,
    FlowRunRow,
    LogRow,
    TaskRow,
    TaskRunRow,
    TransitionRow,
)

__all__ = ["WIDTHS", "Batch", "Change", "Kind", "Row", "lease_of", "row_count"]

Kind: TypeAlias = Literal["flow_run", "tasks", "task_runs", "transitions", "logs", "events"]
Row: TypeAlias = Sequence[Any]
# what, of which flow run, the rows, and the lease under which they are written
Change: TypeAlias = tuple[Kind, str, Sequence[Row]] | tuple[Kind, str, Sequence[Row], Lease | None]

# How many values a row has at least.
WIDTHS: dict[Kind, int] = {
    "flow_run": len(FlowRunRow._fields),
    "tasks": len(TaskRow._fields),
    "task_runs": len(TaskRunRow._fields),
    "transitions": len(TransitionRow._fields),
    "logs": len(LogRow._fields) - 1,  # its place in the log is the store's to give
    "events": len(EventRow._fields),
}


_first = itemgetter(0)


def row_count(changes: Iterable[Change]) -> int:
    """Return how many rows `changes` hold."""
    return sum(len(change[2]) for change in changes)


def lease_of(change: Change) -> Lease | None:
    """Return the lease under which `change` is written."""
    return change[3] if len(change) == 4 else None


class FlowRunChanges:
    """What a batch holds of one flow run."""

    __slots__ = ("appended", "row", "upserted")

    def __init__(self) -> None:
        self.row: Row | None = None
        self.upserted: dict[Kind, dict[int, Row]] = {"tasks": {}, "task_runs": {}}
        self.appended: dict[Kind, list[Row]] = {"transitions": [], "logs": [], "events": []}


class Batch:
    """Changes merged for one transaction, by flow run and lease, in order of first arrival."""

    def __init__(self, changes: Iterable[Change] = ()) -> None:
        self.flow_runs: dict[tuple[str, Lease | None], FlowRunChanges] = {}
        for change in changes:
            self._add(change[0], (change[1], lease_of(change)), change[2])

    def _add(self, kind: Kind, place: tuple[str, Lease | None], rows: Sequence[Row]) -> None:
        found = self.flow_runs.get(place)
        if found is None:
            found = self.flow_runs[place] = FlowRunChanges()
        if kind == "flow_run":
            found.row = rows[-1]
        elif kind in found.upserted:
            found.upserted[kind].update(zip(map(_first, rows), rows, strict=True))
        else:
            found.appended[kind].extend(rows)
