"""The complete history of a run from its row and the few transitions that were stored.

A short run is written once, with its final row: when it was created, started and ended is in
there.  Stored transitions tell the rest (waits, retries, lost workers), and win where both tell
the same.  Attempts order the history before clocks do: a worker's clock may be off.  Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from daskflow.runner.core.states import AWAITING_RETRY, FINAL, PENDING, RETRYING, RUNNING
from daskflow.runner.store.rows import FlowRunRow, TaskRunRow, TransitionRow

__all__ = ["flow_run_history", "task_run_history"]

_STARTS = frozenset({RUNNING, RETRYING})


class _Known(NamedTuple):
    """What the row of a run tells."""

    number: int | None
    state: str
    message: str | None
    attempt: int  # number of the attempt that is going on or was the last
    worker: str | None
    created_at: float
    started_at: float | None
    ended_at: float | None


def task_run_history(row: TaskRunRow, stored: Iterable[TransitionRow]) -> list[TransitionRow]:
    """Return every change of state of a task run, oldest first."""
    attempt = row.attempt + 1 if row.state in _STARTS else row.attempt
    times = row.created_at, row.started_at, row.ended_at
    return _history(
        _Known(row.number, row.state, row.message, attempt, row.worker, *times), list(stored)
    )


def flow_run_history(row: FlowRunRow, stored: Iterable[TransitionRow]) -> list[TransitionRow]:
    """Return every change of state of a flow run itself, oldest first."""
    times = row.created_at, row.started_at, row.ended_at
    return _history(_Known(None, row.state, row.message, row.attempt, None, *times), list(stored))


def _history(known: _Known, stored: list[TransitionRow]) -> list[TransitionRow]:
    first = [t for t in stored if t.state == PENDING][:1] or [
        TransitionRow(known.number, known.created_at, PENDING, None, 0, None)
    ]
    last = _last(known, stored)
    middle = [t for t in stored if t not in first and t not in last]
    middle += _missing_starts(known, middle)
    middle.sort(key=lambda t: (t.attempt, t.state not in _STARTS, t.at))
    return [*first, *middle, *last]


def _last(known: _Known, stored: list[TransitionRow]) -> list[TransitionRow]:
    """Return the run's present state, when it is one that nothing follows or that nobody told."""
    told = [t for t in stored if t.state == known.state]
    if known.state in FINAL and told:
        return told[-1:]
    if known.state == PENDING or known.state in _STARTS or told:
        return []
    at = known.ended_at
    if at is None:
        at = max([known.created_at, *(t.at for t in stored)])
    return [
        TransitionRow(known.number, at, known.state, known.message, known.attempt, known.worker)
    ]


def _missing_starts(known: _Known, told: list[TransitionRow]) -> list[TransitionRow]:
    """Return the start of each attempt of which only the end was stored."""
    started = {t.attempt for t in told if t.state in _STARTS}
    found = {
        t.attempt: TransitionRow(known.number, t.at, _start(t.attempt), None, t.attempt, t.worker)
        for t in told
        if t.state == AWAITING_RETRY  # when that attempt began is not known, only that it ended
    }
    if known.started_at is not None:
        attempt = max(known.attempt, 1)
        found[attempt] = TransitionRow(
            known.number, known.started_at, _start(attempt), None, attempt, known.worker
        )
    return [start for attempt, start in found.items() if attempt not in started]


def _start(attempt: int) -> str:
    return RETRYING if attempt > 1 else RUNNING
