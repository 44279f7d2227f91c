"""What went wrong and what was made good, grouped by cause.

Pure.  Two messages have one cause when they differ in numbers, quoted text and addresses only.
A retry is told by the transitions of a run, a lost worker by its event or, where the record has
none, by the transitions that name it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from daskflow.dashboards.kinds import kind_of
from daskflow.dashboards.wording import clip_text
from daskflow.runner.store.rows import EventRow, TaskRunRow, TransitionRow

__all__ = ["LOST_EVENT", "Attempt", "Problem", "cause", "past_attempts", "problems", "workers_lost"]

LOST_EVENT = "daskflow.worker.lost"

_VARYING = re.compile(
    r"'[^'\n]{0,200}'|\"[^\"\n]{0,200}\"|\b[a-z]+://\S+|0x[0-9a-f]+|\b[0-9a-f]{8,}\b|\d[\d.,:]*",
    re.IGNORECASE,
)
_LOST = "worker lost"  # how the message of an attempt begins that ended with its worker
_WORDS = {
    "Failed": "failed",
    "TimedOut": "timed out",
    "Crashed": "crashed: their worker was lost",
    "NotReady": "never ran: something they need ended badly",
    "Cancelled": "were cancelled",
}
_ORDER = ("failed", "lost", "retrying", "notready", "cancelled")


class Attempt(NamedTuple):
    """An earlier attempt of a task run that ended badly."""

    number: int
    at: float
    worker: str | None
    kind: str  # "retrying" or "lost"
    message: str


class Problem(NamedTuple):
    """One cause with all of the task runs that it hit."""

    kind: str
    times: int
    runs: int
    what: str
    message: str
    tasks: tuple[str, ...]
    examples: tuple[str, ...]
    recovered: int


@dataclass
class _Group:
    message: str
    count: int = 0
    recovered: int = 0
    runs: dict[int, None] = field(default_factory=dict)


def cause(message: str) -> str:
    """What messages of one cause have in common: the first line without what varies."""
    first = message.strip().partition("\n")[0]
    return _VARYING.sub("…", first)[:300]


def past_attempts(transitions: Iterable[TransitionRow]) -> list[Attempt]:
    """Attempts after which a task run went again, or waits to, in order of time.

    An attempt that ended badly is followed by AwaitingRetry and later by Retrying, or where
    nothing is waited for by a Retrying that says why.  The second state of a pair is no attempt
    of its own.
    """
    found: list[Attempt] = []
    awaiting: set[int] = set()
    for row in sorted(transitions, key=lambda row: row.at):
        if row.number is None or row.state not in ("AwaitingRetry", "Retrying"):
            continue
        message = row.message or ""
        if row.state == "AwaitingRetry":
            awaiting.add(row.number)
        elif row.number in awaiting or not message:
            awaiting.discard(row.number)
            continue
        kind = "lost" if message.startswith(_LOST) else "retrying"
        found.append(Attempt(row.number, row.at, row.worker, kind, message))
    return found


def workers_lost(events: Iterable[EventRow], attempts: Iterable[Attempt]) -> dict[str, float]:
    """When each lost worker was lost, by address, in order of time."""
    lost = {row.resource: row.at for row in events if row.event == LOST_EVENT}
    for attempt in attempts:
        if attempt.kind == "lost" and attempt.worker is not None:
            lost.setdefault(attempt.worker, attempt.at)
    return dict(sorted(lost.items(), key=lambda item: item[1]))


def problems(
    rows: Sequence[TaskRunRow],
    attempts: Sequence[Attempt],
    task_of: Callable[[int], str],
    name_of: Callable[[int], str],
) -> list[Problem]:
    """Group what ended badly and what was retried.

    Parameters
    ----------
    rows : sequence of TaskRunRow
        All task runs of the flow run.
    attempts : sequence of Attempt
        As `past_attempts` gives them.
    task_of, name_of : callable
        Name of the task, and of the task run, with that number.

    Returns
    -------
    list of Problem
        What is final first, the largest groups first.
    """
    final = {row.number: row.state for row in rows}
    groups: dict[tuple[str, str, str], _Group] = {}
    for row in rows:
        if row.state in _WORDS:
            key = (kind_of(row.state), row.state, cause(row.message or ""))
            group = groups.setdefault(key, _Group(row.message or ""))
            group.count += 1
            group.runs[row.number] = None
    for attempt in attempts:
        key = (attempt.kind, "", cause(attempt.message))
        group = groups.setdefault(key, _Group(attempt.message))
        group.count += 1
        if attempt.number not in group.runs:
            group.runs[attempt.number] = None
            group.recovered += final.get(attempt.number) in ("Completed", "Cached")
    found = [
        Problem(
            kind=kind,
            times=group.count,
            runs=len(group.runs),
            what=_WORDS.get(state, ""),
            message=clip_text(group.message, 1_500),
            tasks=tuple(dict.fromkeys(task_of(number) for number in group.runs)),
            examples=tuple(name_of(number) for number in list(group.runs)[:3]),
            recovered=group.recovered,
        )
        for (kind, state, _), group in groups.items()
    ]
    return sorted(found, key=lambda p: (p.what == "", _ORDER.index(p.kind), -p.times))
