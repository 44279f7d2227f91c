"""`daskflow cache why`: why a task run was executed, down to the first cause upstream.

Pure: rows of the record and entries of the result store in, sentences out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from daskflow.caching.keys import explain
from daskflow.runner.cache_status import REFRESHED, CacheStatus, read_status
from daskflow.runner.cli.text import clock, duration
from daskflow.runner.store.rows import TaskRunRow

__all__ = ["Why", "why_of"]

_INPUT = "input"


class Why(NamedTuple):
    """Why one task run was executed, or was not.

    Attributes
    ----------
    task_run : str
        Its name.
    verdict : str
        ``"hit"``, ``"executed"`` or ``"not cached"``.
    because : tuple of str
        What was different, the first cause first.
    upstream : tuple of Why
        Task runs whose results were among the inputs that changed.
    """

    task_run: str
    verdict: str
    because: tuple[str, ...]
    upstream: tuple[Why, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {**self._asdict(), "upstream": [each.as_dict() for each in self.upstream]}

    def first_cause(self) -> Why:
        """The run furthest upstream that was executed for a reason of its own."""
        return self.upstream[0].first_cause() if self.upstream else self


def why_of(
    row: TaskRunRow,
    rows: Mapping[int, TaskRunRow],
    names: Mapping[int, str],
    entry_of: Callable[[str], Any],
    earlier_of: Callable[[Any], list[Any]],
    made_at: Callable[[str], float | None],
    depth: int = 50,
) -> Why:
    """Say why a task run was executed.

    Parameters
    ----------
    row : TaskRunRow
    rows, names : mapping
        All task runs of its flow run by number, and their names.
    entry_of : callable
        The entry of a key, or None.
    earlier_of : callable
        Entries of the same task from before this flow run, newest first.
    made_at : callable
        When an earlier flow run last made or found the result of a key (unix seconds), or None.
    depth : int
        How far to follow inputs upstream.
    """
    name = names[row.number]
    status = read_status(row.cache)
    if status is None:
        return Why(name, "not cached", ("its task does not ask for caching",))
    entry = entry_of(status.key) if status.key else None
    if status.hit:
        return Why(name, "hit", (_found(status, entry),))
    if status.key is None:
        return Why(name, "not cached", (status.why or "no reason was recorded",))
    if status.why == REFRESHED:
        return Why(name, "executed", ("it was refreshed: nothing was looked up",))
    stored = (f"its result is not stored: {status.why}",) if status.why else ()
    if (at := made_at(status.key)) is not None:
        return Why(name, "executed", (*stored, _missing(row, entry, at)))
    if entry is None:
        return Why(name, "executed", (*stored, "its entry is not in the result store any more"))
    earlier = earlier_of(entry)
    if not earlier:
        return Why(name, "executed", (*stored, "no earlier result of this task is stored"))
    changes = min((explain(each.parts, entry.parts) for each in earlier), key=len)
    if not changes:
        return Why(name, "executed", (*stored, "its entry was missing: removed, or expired"))
    upstream: list[Why] = []
    if depth and any(change.kind == _INPUT for change in changes):
        for number in row.parents or ():
            parent = rows.get(number)
            if parent is not None and parent.cache and not _hit(parent):
                why = why_of(parent, rows, names, entry_of, earlier_of, made_at, depth - 1)
                if why.verdict == "executed":
                    upstream.append(why)
    return Why(name, "executed", (*stored, *map(str, changes)), tuple(upstream))


def _missing(row: TaskRunRow, entry: Any, at: float) -> str:
    lasts_s = None
    if entry is not None and entry.expires_unix is not None:
        lasts_s = entry.expires_unix - entry.created_unix
    if lasts_s is not None and (row.started_at or entry.created_unix) >= at + lasts_s:
        return f"its entry of {clock(at)} had expired"
    return f"its entry was missing: a flow run had it at {clock(at)}"


def _hit(row: TaskRunRow) -> bool:
    status = read_status(row.cache)
    return status is not None and status.hit


def _found(status: CacheStatus, entry: Any) -> str:
    text = f"found under {(status.key or '')[:12]}, which saved {duration(status.saved_s)}"
    if entry is None:
        return f"{text}; the entry has gone since"
    return f"{text}; made by task {entry.task!r} at {clock(entry.created_unix)}"
