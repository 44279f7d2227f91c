"""What a flow's return value, its exception and its task runs say about its final state.

Prefect's rules: a future or state that is returned decides, a list of them decides together, any
other value is the result.  Futures inside the value are waited for and stand for their results.
Besides, failed runs that nobody looked at make the flow fail.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from daskflow.errors import FlowFailed, RunTaken
from daskflow.runner.asynchronous import cancellation
from daskflow.runner.cancellation import CancelAsked
from daskflow.runner.cluster.executor.structure import replace_inside
from daskflow.runner.cluster.executor.timeouts import RanOut
from daskflow.runner.core.driver import describe
from daskflow.runner.core.graph import Run
from daskflow.runner.core.states import CANCELLED, COMPLETED, CRASHED, FAILED, TIMED_OUT
from daskflow.runner.futures import TaskFuture
from daskflow.runner.state import State

__all__ = ["raised_state", "returned_state", "unseen_failures"]

_SHOWN = 5


def raised_state(error: BaseException) -> State:
    """The state of a flow run whose function raised."""
    if isinstance(error, KeyboardInterrupt):
        return State(CANCELLED, "interrupted", error=error)
    if isinstance(error, cancellation()):
        return State(CANCELLED, "cancelled from outside", error=error)
    if isinstance(error, RanOut):
        return State(CANCELLED, "the flow run around it ran out of time", error=error)
    if isinstance(error, CancelAsked):
        return State(CANCELLED, str(error), error=error)
    crashed = isinstance(error, RunTaken) or not isinstance(error, Exception)
    name = CRASHED if crashed else FAILED
    return State(name, describe(error), error=error)


def returned_state(value: Any, failed: Sequence[Run], flow_run_id: str) -> State:
    """The state of a flow run whose function returned.

    Parameters
    ----------
    value : object
        What it returned.
    failed : sequence of Run
        Task runs that ended badly.
    flow_run_id : str
    """
    state = _settled(value)
    unseen = unseen_failures(failed)
    if not state.is_completed() or not unseen:
        return state
    message = _told(unseen)
    flaw = FlowFailed(flow_run_id, message, tuple(run.task_run_id for run in unseen))
    flaw.__cause__ = unseen[0].error
    return State(FAILED, message, error=flaw)


def _settled(value: Any) -> State:
    """The state that a returned value stands for."""
    if isinstance(value, State):
        return value
    states: list[State] = []
    several = isinstance(value, (list, tuple, set)) and bool(value)
    decides = several and all(isinstance(each, (TaskFuture, State)) for each in value)

    def settle(item: Any) -> Any:
        if isinstance(item, TaskFuture):
            item.wait()
            state = item.state
        elif decides and isinstance(item, State):
            state = item
        else:
            return item
        states.append(state)
        return state.result() if state.is_completed() else state

    result = replace_inside(value, settle)
    bad = [state for state in states if not state.is_completed()]
    if not bad:
        return State(COMPLETED, load=lambda: result)
    first = bad[0]
    name = CRASHED if first.is_crashed() else FAILED
    message = f"{len(bad)} of {len(states)} returned states are not completed"
    return State(name, first.message if len(states) == 1 else message, error=first.error)


def unseen_failures(failed: Sequence[Run]) -> list[Run]:
    """Runs that ended badly by themselves, and that nobody looked at or allowed to fail.

    In the order of their submission: which of them ended first is told by chance.
    """
    bad = (FAILED, CRASHED, TIMED_OUT, CANCELLED)
    unseen = [run for run in failed if not run.looked_at and run.state in bad]
    return sorted(unseen, key=lambda run: int(run.task_run_id.rpartition("-")[2]))


def _told(unseen: Sequence[Run]) -> str:
    shown = [
        f"{run.label} ({run.state}: {describe(run.error) if run.error else run.message})"
        for run in unseen[:_SHOWN]
    ]
    more = f" and {len(unseen) - _SHOWN} more" if len(unseen) > _SHOWN else ""
    what = "task run" if len(unseen) == 1 else "task runs"
    return (
        f"{len(unseen)} {what} ended badly and nobody asked for the result: "
        f"{'; '.join(shown)}{more}; call .result() on their futures, or pass them on in "
        "allow_failure()"
    )
