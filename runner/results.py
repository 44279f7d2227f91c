"""What a flow's return value and its task runs say about its final state.

Prefect's rules: a future or state that is returned decides, a list of them decides together, any
other value is the result.  Besides, failed runs that nobody looked at make the flow fail.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from daskflow.runner.core.driver import describe
from daskflow.runner.core.graph import Run
from daskflow.runner.core.states import CANCELLED, COMPLETED, CRASHED, FAILED, TIMED_OUT
from daskflow.runner.futures import TaskFuture
from daskflow.runner.state import State

__all__ = ["ended_badly", "settle_returned"]

_SHOWN = 5


def settle_returned(value: Any) -> State:
    """The state that a returned value stands for; futures in it are waited for."""
    if isinstance(value, State):
        return value
    if isinstance(value, TaskFuture):
        value.wait()
        state = value.state
        if not state.is_completed():
            return State(
                state.name if state.is_crashed() else FAILED, state.message, error=state.error
            )
        result = value.result()
        return State(COMPLETED, load=lambda: result)
    if type(value) in (list, tuple, set) or isinstance(value, list):
        members = list(value)
        if members and all(isinstance(each, (TaskFuture, State)) for each in members):
            return _together(value, members)
    return State(COMPLETED, load=lambda: value)


def _together(value: Any, members: list[Any]) -> State:
    states = []
    for each in members:
        if isinstance(each, TaskFuture):
            each.wait()
        states.append(each.state if isinstance(each, TaskFuture) else each)
    bad = [state for state in states if not state.is_completed()]
    if bad:
        message = f"{len(bad)} of {len(states)} returned states are not completed"
        return State(FAILED, message, error=bad[0].error)
    results = [each.result() for each in members]
    kind = type(value) if type(value) in (tuple, set) else list
    return State(COMPLETED, load=lambda: kind(results))


def ended_badly(failed: Sequence[Run]) -> tuple[str, list[Run]] | None:
    """A message about the failed runs that nobody looked at or allowed, and those runs."""
    unseen = [
        run
        for run in failed
        if not run.looked_at and run.state in (FAILED, CRASHED, TIMED_OUT, CANCELLED)
    ]
    if not unseen:
        return None
    shown = [
        f"{run.label} ({run.state}: {describe(run.error) if run.error else run.message})"
        for run in unseen[:_SHOWN]
    ]
    more = f" and {len(unseen) - _SHOWN} more" if len(unseen) > _SHOWN else ""
    what = "task run" if len(unseen) == 1 else "task runs"
    message = (
        f"{len(unseen)} {what} ended badly and nobody asked for the result: "
        f"{'; '.join(shown)}{more}; call .result() on their futures, or pass them on in "
        "allow_failure()"
    )
    return message, unseen
