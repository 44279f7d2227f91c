"""Which hooks of task runs are due, from what the driver decided about their runs.

The driver's thread and callers hand runs over here; the hooks themselves are called elsewhere.
Invariant: `on_running` is told once per task run and before anything else of it, and one end is
told per run.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from daskflow.runner.core.driver import Transition
from daskflow.runner.core.graph import Run, Stage
from daskflow.runner.core.states import (
    AWAITING_RETRY,
    CRASHED,
    FAILED,
    FINAL,
    RUNNING,
    SUCCESSFUL,
    TIMED_OUT,
)
from daskflow.runner.futures import FutureOwner, TaskFuture
from daskflow.runner.hook_thread import HookCalls, HookThread
from daskflow.runner.hooks import TASK_HOOKS, AttemptInfo
from daskflow.runner.outcomes import load_value
from daskflow.runner.state import State

if TYPE_CHECKING:
    from daskflow.runner.tasks import Task

__all__ = ["TaskHookCalls"]

_AT_END = {
    **dict.fromkeys(SUCCESSFUL, "on_completion"),
    FAILED: "on_failure",
    TIMED_OUT: "on_failure",
    CRASHED: "on_crashed",
}


class TaskHookCalls:
    """The hooks of one flow run's tasks.

    Parameters
    ----------
    owner : FutureOwner or None
        Loads results for ``state.result()`` in a hook; None for runs of this process.
    calls : HookCalls, optional
        Who has the hooks called; default: a thread of its own.
    """

    def __init__(self, owner: FutureOwner | None, calls: HookCalls | None = None) -> None:
        self._owner = owner
        self._tasks: dict[Stage, Task[Any, Any]] = {}
        self._started: set[Run] = set()  # on_running was called
        self._kept: dict[int, TaskFuture[Any]] = {}
        self.calls: HookCalls = calls or HookThread()
        self._telling = threading.Lock()  # calls and submissions are told by different threads
        self.enter = self.calls.enter
        self.close = self.calls.close

    def add(self, stage: Stage, task: Task[Any, Any]) -> bool:
        """Look after the runs of `stage` if its task has hooks, and say so."""
        hooked = any(task.options[name] for name in TASK_HOOKS)
        if hooked:
            self._tasks[stage] = task
        return hooked

    def keep(self, future: TaskFuture[Any], number: int) -> None:
        """Hold a run's result until its hooks were called."""
        self._kept[number] = future

    # -- what happened -------------------------------------------------------------------------

    def running(self, runs: Iterable[Run]) -> None:
        """These runs have been executing for a while."""
        for run in runs:
            if run.stage in self._tasks and run.state not in FINAL:
                self._begun(run)

    def changed(self, transitions: Sequence[Transition]) -> None:
        """These changes matter enough to be recorded."""
        for each in transitions:
            if each.state == AWAITING_RETRY and each.run.stage in self._tasks:
                self._begun(each.run)
                self._put("on_retry", each.run, State(each.state, each.message))

    def ended(self, runs: Iterable[Run]) -> None:
        """These runs are final."""
        for run in runs:
            if run.stage not in self._tasks:
                continue
            if run.attempt:
                self._begun(run)
            if (name := _AT_END.get(run.state)) is not None:
                self._put(name, run, self._final_state(run))
            self._started.discard(run)
            if run.number in self._kept:
                self.calls.put(self._kept.pop, run.number, None)

    def _begun(self, run: Run) -> None:
        with self._telling:
            if run in self._started:
                return
            self._started.add(run)
        self._put("on_running", run, State(RUNNING))

    def _put(self, name: str, run: Run, state: State) -> None:
        task = self._tasks[run.stage]
        if (hooks := task.options[name]) is not None:
            attempt = max(run.attempt, 1) if name == "on_running" else run.attempt
            info = AttemptInfo(run.task_run_id, run.label, attempt, state)
            self.calls.tell(hooks, task, info, state)

    def _final_state(self, run: Run) -> State:
        if run.state not in SUCCESSFUL:
            return State(run.state, run.message, error=run.error)
        owner = self._owner

        def load() -> Any:
            return owner.value_of(run, None) if owner else load_value(run.value, None)

        return State(run.state, run.message, load=load)
