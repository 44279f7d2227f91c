"""The complete history of a run from its row and the few transitions that were stored.

A short run is written once, with its final row: when it was created, started and ended is in
there.  Stored transitions tell the rest (waits, retries, lost workers), and win where both tell
the same.  Pure.
"""

from __future__ import annotations

from collections.abc import Iterable

from daskflow.runner.store.rows import FlowRunRow, TaskRunRow, TransitionRow

__all__ = ["flow_run_history", "task_run_history"]

_STARTS = frozenset({"Running", "Retrying"})


def task_run_history(row: TaskRunRow, stored: Iterable[TransitionRow]) -> list[TransitionRow]:
    """Return every change of state of a task run, oldest first."""
    return _history(
        row.number,
        row.state,
        row.message,
        row.attempt,
        row.worker,
        (row.created_at, row.started_at, row.ended_at),
        list(stored),
    )


def flow_run_history(row: FlowRunRow, stored: Iterable[TransitionRow]) -> list[TransitionRow]:
    """Return every change of state of a flow run itself, oldest first."""
    return _history(
        None,
        row.state,
        row.message,
        row.attempt,
        None,
        (row.created_at, row.started_at, row.ended_at),
        list(stored),
    )


def _history(
    number: int | None,
    state: str,
    message: str | None,
    attempt: int,
    worker: str | None,
    times: tuple[float, float | None, float | None],
    stored: list[TransitionRow],
) -> list[TransitionRow]:
    created_at, started_at, ended_at = times

    def told(*states: str, of_attempt: int | None = None) -> bool:
        return any(t.state in states and of_attempt in (None, t.attempt) for t in stored)

    middle = sorted(stored, key=lambda t: t.at)
    first = [] if told("Pending") else [TransitionRow(number, created_at, "Pending", None, 0, None)]
    current = attempt + 1 if state in _STARTS and attempt == 0 else max(attempt, 1)
    if started_at is not None and not told(*_STARTS, of_attempt=current):
        name = "Retrying" if current > 1 else "Running"
        middle.append(TransitionRow(number, started_at, name, None, current, worker))
        middle.sort(key=lambda t: t.at)
    waited = next((t for t in middle if t.state == "AwaitingRetry"), None)
    if waited is not None and not told(*_STARTS, of_attempt=1) and current > 1:
        # the first attempt was not stored: all that is known is that it ended here
        began = TransitionRow(number, waited.at, "Running", None, 1, waited.worker)
        middle.insert(middle.index(waited), began)
    last = []
    if not (middle and middle[-1].state == state) and state not in {"Pending", *_STARTS}:
        final = [t for t in middle if t.state == state and ended_at is not None]
        if final:  # stored, though a clock elsewhere says that something came later
            middle.remove(final[-1])
            last = [final[-1]]
        else:
            at = (
                ended_at
                if ended_at is not None
                else max((t.at for t in middle), default=created_at)
            )
            last = [TransitionRow(number, at, state, message, attempt, worker)]
    return [*first, *middle, *last]
