"""A batch: what one transaction writes, with rows that replace each other already merged.

The hot path hands over `Change` tuples; the writer thread merges them here.  Rows that are
upserted keep only the last version of each key, rows that are appended keep their order of
arrival.  Pure: no clock, no database.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeAlias

__all__ = ["APPENDED", "Batch", "Change", "Kind", "Row", "UPSERTED", "row_count"]

Kind: TypeAlias = Literal["flow_run", "tasks", "task_runs", "transitions", "logs", "events"]
Row: TypeAlias = Sequence[Any]
Change: TypeAlias = tuple[Kind, str, Sequence[Row]]  # what, of which flow run, the rows

UPSERTED: tuple[Kind, ...] = ("tasks", "task_runs")
APPENDED: tuple[Kind, ...] = ("transitions", "logs", "events")


def row_count(changes: Iterable[Change]) -> int:
    """Return how many rows `changes` hold."""
    return sum(len(rows) for _, _, rows in changes)


class FlowRunChanges:
    """What a batch holds of one flow run."""

    __slots__ = ("appended", "row", "upserted")

    def __init__(self) -> None:
        self.row: Row | None = None
        self.upserted: dict[Kind, dict[int, Row]] = {kind: {} for kind in UPSERTED}
        self.appended: dict[Kind, list[Row]] = {kind: [] for kind in APPENDED}


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
            found.upserted[kind].update((row[0], row) for row in rows)
        else:
            found.appended[kind].extend(rows)
