"""A batch: what one transaction writes, with rows that replace each other already merged.

The hot path hands over `Change` tuples; the writer thread merges them here.  Rows that are
upserted keep only the last version of each key, rows that are appended keep their order of
arrival.  Pure: no clock, no database.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any, Literal, TypeAlias

from daskflow.runner.store.rows import (
    EventRow,
    FlowRunRow,
    LogRow,
    TaskRow,
    TaskRunRow,
    TransitionRow,
)

__all__ = ["WIDTHS", "Batch", "Change", "Kind", "Row", "row_count"]

Kind: TypeAlias = Literal["flow_run", "tasks", "task_runs", "transitions", "logs", "events"]
Row: TypeAlias = Sequence[Any]
Change: TypeAlias = tuple[Kind, str, Sequence[Row]]  # what, of which flow run, the rows

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
    return sum(len(rows) for _, _, rows in changes)


class FlowRunChanges:
    """What a batch holds of one flow run."""

    __slots__ = ("appended", "row", "upserted")

    def __init__(self) -> None:
        self.row: Row | None = None
        self.upserted: dict[Kind, dict[int, Row]] = {"tasks": {}, "task_runs": {}}
        self.appended: dict[Kind, list[Row]] = {"transitions": [], "logs": [], "events": []}


class Batch:
    """Changes merged for one transaction, by flow run in order of first arrival."""

    def __init__(self, changes: Iterable[Change] = ()) -> None:
        self.flow_runs: dict[str, FlowRunChanges] = {}
        for kind, flow_run_id, rows in changes:
            self._add(kind, flow_run_id, rows)

    def _add(self, kind: Kind, flow_run_id: str, rows: Sequence[Row]) -> None:
        found = self.flow_runs.get(flow_run_id)
        if found is None:
            found = self.flow_runs[flow_run_id] = FlowRunChanges()
        if kind == "flow_run":
            found.row = rows[-1]
        elif kind in found.upserted:
            found.upserted[kind].update(zip(map(_first, rows), rows, strict=True))
        else:
            found.appended[kind].extend(rows)
