"""What futures and flow runs see of the driver: submissions, waiting, values.

Everything here runs in the user's threads and only talks to the driver's thread.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from daskflow.errors import UsageError
from daskflow.runner import driving
from daskflow.runner.arguments import Encoded, Literals, encode, encode_live
from daskflow.runner.asynchronous import loop_runs_here
from daskflow.runner.cluster.executor.channel import live_flows
from daskflow.runner.cluster.executor.errors import KeyLost
from daskflow.runner.context import FLOW_LOGGER, FlowRunContext, current_parcel
from daskflow.runner.core.graph import Remote, Run, Scope
from daskflow.runner.core.packing import PackingRules
from daskflow.runner.core.states import FINAL
from daskflow.runner.deadlines import flow_deadline
from daskflow.runner.driving import DriverThread
from daskflow.runner.outcomes import Journal, load_value

if TYPE_CHECKING:
    from daskflow.caching.claims import Claims
    from daskflow.runner.cluster.executor.active import ActiveParcel
    from daskflow.runner.cluster.session import Session
    from daskflow.runner.task_runs import TaskRuns

__all__ = ["DriverShell"]

_logger = logging.getLogger(FLOW_LOGGER)


class DriverShell:
    """Runs the task runs of one flow run, and of its subflows, on one cluster.

    Parameters
    ----------
    runner : TaskRunner
        What the session is opened with, at the first submission.
    rules : PackingRules
    """

    def __init__(self, runner: Any, rules: PackingRules) -> None:
        self.runner = runner
        self.live = bool(runner.in_process)
        self.literals = Literals()
        self.next_number = itertools.count().__next__
        self.outlet = Journal()
        self._warned: set[str] = set()  # flow runs with very many open task runs
        self._thread = DriverThread(runner, rules, self.outlet, live=self.live)
        self._thread.when_full = self._wait_for_room
        self.submit = self._thread.submit
        self.cancel = self._thread.cancel
        self.close = self._thread.close
        self.stop = self._thread.stop

    def claim_with(self, make: Callable[[], Claims]) -> None:
        """Wait for results that others are making, as far as claims tell; `make` opens them."""
        self._thread.claims.make = make

    @property
    def session(self) -> Session | None:
        """The connection to the cluster, once it is open."""
        return self._thread.session

    @property
    def description(self) -> str:
        """Where task runs go, for a person."""
        session = self.session
        return session.description if session else str(self.runner)

    def connect(self) -> Session:
        """The connection to the cluster, opened now if no submission has opened it.

        Raises
        ------
        DaskflowError
            Why it does not open.
        """
        thread = self._thread
        thread.want_session()
        self._wait_here(lambda: thread.session is not None or thread.refused is not None, None)
        if thread.session is None:
            assert thread.refused is not None
            raise thread.refused
        return thread.session

    def join(self, flow_run: FlowRunContext, host: TaskRuns) -> None:
        """Tasks of this flow run may submit tasks, wherever they are executed."""
        self._thread.nesting.hosts[flow_run.info.id] = flow_run, host
        if self.live:
            live_flows[flow_run.info.id] = flow_run

    def leave(self, flow_run_id: str) -> None:
        """The flow run has ended."""
        self._thread.nesting.hosts.pop(flow_run_id, None)
        live_flows.pop(flow_run_id, None)

    def encode(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], wait_for: Sequence[Any], what: str
    ) -> Encoded:
        """Arguments as they travel to where this shell's tasks run."""
        if self.live:
            return encode_live(args, kwargs, wait_for)
        return encode(args, kwargs, wait_for, self.literals, what)

    def wait_for(self, runs: Sequence[Run], timeout: float | None) -> bool:
        """Block until all `runs` are final; False when `timeout` seconds were not enough."""
        deadline = None if timeout is None else time.monotonic() + timeout
        for run in runs:
            if run.state in FINAL:
                continue
            if not self._wait(lambda run=run: run.state in FINAL, deadline):  # type: ignore[misc]
                return False
        return True

    def wait_until_settled(self, scope: Scope, timeout: float | None = None) -> bool:
        """Block until no run of `scope` is open any more."""
        deadline = None if timeout is None else time.monotonic() + timeout
        thread = self._thread
        with thread.changed:
            thread.settling += 1
        try:
            return self._wait(lambda: thread.settled(scope), deadline)
        finally:
            with thread.changed:
                thread.settling -= 1

    def _wait_for_room(self, scope: Scope) -> None:
        thread = self._thread
        if thread.is_current():  # a done callback, which must not wait
            return
        if loop_runs_here():  # other coroutines must go on
            if scope.flow_run_id not in self._warned:
                self._warned.add(scope.flow_run_id)
                _logger.warning(
                    "%d task runs are pending, and async code cannot wait in submit: go on over "
                    "`async for future in task.map(iterator)` to keep so many and no more",
                    driving.PENDING_RUNS,
                )
            return
        room = 0.9 * driving.PENDING_RUNS  # some below, not to wait again at once
        self._wait(lambda: thread.pending(scope) < room, None)

    def _wait(self, condition: Callable[[], bool], deadline: float | None) -> bool:
        thread = self._thread
        if thread.is_current():
            raise UsageError(
                "waiting inside a done callback would wait for ever; hand the future to a thread "
                "or wait for it in the flow"
            )
        if (handle := current_parcel.get()) is not None and (parcel := handle()) is not None:
            return self._wait_in_task(parcel, condition, deadline)
        return self._wait_here(condition, deadline)

    def _wait_in_task(
        self, parcel: ActiveParcel, condition: Callable[[], bool], deadline: float | None
    ) -> bool:
        """Wait inside a task that runs in a thread of this process: give its slot back first."""
        if condition():
            return True
        parcel.make_way()
        started = time.monotonic()
        try:
            return self._wait_here(condition, deadline)
        finally:
            parcel.waited_s += time.monotonic() - started

    def _wait_here(self, condition: Callable[[], bool], deadline: float | None) -> bool:
        thread = self._thread
        thread.hurry()
        with thread.changed:
            while not condition():
                limit = flow_deadline()  # each time: a cancellation from outside sets it
                if thread.broken is not None:
                    raise thread.broken
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return False
                # bounded, so that a KeyboardInterrupt is never held up for long
                patience = 1.0 if left is None else min(left, 1.0)
                if limit is not None:
                    patience = min(patience, limit.left())
                thread.changed.wait(patience)
        return True

    def value_of(self, run: Run, timeout: float | None) -> Any:
        """The result of a run that has succeeded; made again first if its worker was lost."""
        if run.kept and type(value := run.value) is tuple:  # here, and it cannot be lost
            return load_value(value, timeout)
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            if run.error is not None:
                raise run.error
            if run.kept:
                try:
                    return load_value(run.value, timeout)
                except KeyLost as lost:
                    _logger.debug("a result was lost with its worker: %s", lost)
                    self._thread.post(self._thread.driver.value_lost, run)
            if self._thread.closed:
                raise UsageError(
                    f"the result of {run.label} went with the cluster of its flow run, which has "
                    "ended; take it with .result() inside the flow, or return the future"
                )
            self._thread.post(self._thread.driver.value_needed, run)
            if not self._wait(lambda: run.kept or run.error is not None, deadline):
                raise TimeoutError(f"the result of {run.label} is not there after {timeout} s")

    def wake(self) -> None:
        """Have those that wait look at their deadline."""
        with self._thread.changed:
            self._thread.changed.notify_all()

    def watch(self, run: Run, callback: Callable[[Run], object]) -> None:
        """Call `callback` with `run` once it is final; at once if it is."""
        with self._thread.changed:
            if run.state not in FINAL:
                run.callbacks = [*(run.callbacks or ()), callback]
                return
        callback(run)

    def let_go(self, run: Run) -> None:
        """The future of `run` is gone; a result that lives on the cluster may go too."""
        run.held = False
        if run.state in FINAL and isinstance(run.value, Remote):
            self._thread.post(self._thread.driver.let_go, run)
