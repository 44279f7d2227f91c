"""What surrounds a flow function, from its start to its final state, wherever it is called.

`FlowLife` is written once for both places: the flow process (`engine.FlowRun`) and a task on a
worker (`cluster.nested_flows.NestedFlowRun`), each with a sync and an async driver of a few lines.
Workers import this module, so it needs neither engine nor store nor Dask.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import inspect
import logging
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from daskflow.runner.alarms import call_within
from daskflow.runner.cancellation import CancelAsked
from daskflow.runner.cluster.executor.timeouts import RanOut, cancelled_after
from daskflow.runner.context import (
    FLOW_LOGGER,
    FlowInfo,
    FlowRunContext,
    LogLine,
    current_flow_run,
    current_task_run,
)
from daskflow.runner.core.states import AWAITING_RETRY, FAILED, RETRYING, RUNNING, TIMED_OUT
from daskflow.runner.deadlines import Deadline
from daskflow.runner.mapping import MapLeftovers
from daskflow.runner.results import raised_state, returned_state
from daskflow.runner.state import State

if TYPE_CHECKING:
    from daskflow.runner.flows import Flow

__all__ = ["FlowLife", "run_to_end", "run_to_end_async"]

R = TypeVar("R")

_logger = logging.getLogger(FLOW_LOGGER)


class FlowLife(ABC):
    """One flow run; also what `runtime` and the loggers look at.

    Parameters
    ----------
    flow : Flow
    bound : inspect.BoundArguments
        Parameters, validated.
    info : FlowInfo
    parent : FlowRunContext or None
        The flow run around this one.
    log_prints : bool
        What holds around it, for a flow that does not say otherwise.
    """

    submit: Callable[..., Any]
    call: Callable[..., Any]
    constant: Callable[..., Any]
    pace: Callable[[int], Any]
    parcel: Any = None  # in which a task on a worker has called it

    def __init__(
        self,
        flow: Flow[Any, Any],
        bound: inspect.BoundArguments,
        info: FlowInfo,
        parent: FlowRunContext | None,
        log_prints: bool,
    ) -> None:
        self.flow = flow
        self.is_async = flow.is_async
        self.bound = bound
        self.info = info
        self.first_attempt = self.attempt = 1  # later where a flow run goes on
        self.deadline: Deadline | None = None
        self.log_prints = log_prints if flow.log_prints is None else bool(flow.log_prints)
        self.map_leftovers = MapLeftovers()
        self._around = parent

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Parameters by name."""
        return self.bound.arguments

    # -- what the place where it runs does -----------------------------------------------------

    @abstractmethod
    def subflow(self, flow: Flow[Any, Any], bound: inspect.BoundArguments) -> FlowLife:
        """A run of a flow that is called inside of this one."""

    @abstractmethod
    def log(self, line: LogLine) -> None:
        """Record a line that the flow itself logged or printed."""

    @abstractmethod
    def begin(self) -> None:
        """The flow run starts."""

    @abstractmethod
    def tell(self, state: State) -> None:
        """Have the hooks of the flow called for this state."""

    @abstractmethod
    def conclude(self, state: State) -> State:
        """Let everything go; returns the final state."""

    def give_way(self) -> None:  # noqa: B027 - nothing to give where no slot is held
        """This thread is about to wait."""

    @abstractmethod
    def _capturing(self) -> contextlib.AbstractContextManager[None]:
        """While active, what the flow logs is captured."""

    @abstractmethod
    def _change(self, state: str, message: str | None) -> None:
        """Record a new state."""

    @abstractmethod
    def _again(self) -> None:
        """Forget the task runs of the attempt that failed, but for those that succeeded."""

    @abstractmethod
    def _settle(self, patience_s: float | None) -> Sequence[Any]:
        """Wait until no task run is open, and return those that ended badly."""

    @abstractmethod
    def _cancel(self, grace_s: float | None) -> None:
        """Start no task run any more; what still executes after `grace_s` is given up.

        Without limit, its process ends once nothing else runs there; None: it goes on to its end.
        """

    @property
    def cancelled_by(self) -> str | None:
        """Who outside wants the flow run to end, as a message."""
        return None

    # -- the run -------------------------------------------------------------------------------

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """This flow run is the current one, and its log lines are captured."""
        token = current_flow_run.set(self)
        task_token = current_task_run.set(None)  # a subflow that a task calls is no task
        try:
            with self._capturing():
                yield
        finally:
            current_task_run.reset(task_token)
            current_flow_run.reset(token)

    def start_clock(self) -> None:
        """An attempt begins: `timeout_seconds` count from now."""
        limit_s = self.flow.timeout_s
        self.deadline = around = self._around.deadline if self._around else None
        if limit_s is not None:
            own = Deadline(limit_s, self)
            self.deadline = own if around is None or own.due < around.due else around

    def call_body(self) -> Any:
        """What the flow function returns, in time."""
        call = functools.partial(self.flow.fn, *self.bound.args, **self.bound.kwargs)
        limit_s = self.flow.timeout_s
        return call() if limit_s is None else call_within(limit_s, self, call)

    async def await_body(self) -> Any:
        """What the async flow function returns, in time."""
        call = functools.partial(self.flow.fn, *self.bound.args, **self.bound.kwargs)
        limit_s = self.flow.timeout_s
        return await (call() if limit_s is None else cancelled_after(limit_s, self, call))

    def sleep(self, seconds: float) -> None:
        """Let time pass before the next attempt."""
        time.sleep(seconds)

    async def sleep_async(self, seconds: float) -> None:
        """Let time pass before the next attempt of an async flow."""
        import asyncio  # heavy for scripts without async code

        await asyncio.sleep(seconds)

    def end(self, value: Any, error: BaseException | None) -> State | float:
        """Wait for what is still open, and conclude unless there is another attempt.

        Parameters
        ----------
        value : object
            What the flow function returned.
        error : BaseException or None
            What it raised instead.

        Returns
        -------
        State or float
            The final state, or the seconds before the function runs `again`.
        """
        try:
            try:
                state = self._judge(value, error)
            except (RanOut, CancelAsked) as late:  # while waiting for what the function left open
                state = self._judge(None, late)
        except BaseException as late:  # Ctrl-C while waiting, or the driver broke
            state = raised_state(late)
        most = self.first_attempt + self.flow.retries
        bad = state.name in (FAILED, TIMED_OUT) and self.cancelled_by is None
        if bad and self.attempt < most:
            self._change(AWAITING_RETRY, state.message)
            _logger.warning("Attempt %d of %d failed: %s", self.attempt, most, state.message)
            return self.flow.retry_delay_s
        return self.conclude(state)

    def again(self) -> None:
        """The flow function is about to run again."""
        self.attempt += 1
        self.map_leftovers = MapLeftovers()
        self._again()
        self._change(RETRYING, None)

    def _judge(self, value: Any, error: BaseException | None) -> State:
        if error is None:
            value = self.map_leftovers.finish(value)
            failed = self._settle(None)
            if over := self.map_leftovers.too_many_failed():
                return raised_state(over)
            return returned_state(value, failed, self.info.id)
        self.deadline = None
        patience_s = grace_s = None
        if isinstance(error, RanOut):
            patience_s, grace_s = 0.0, math.inf  # time is over for task runs, too
        elif isinstance(error, (KeyboardInterrupt, CancelAsked)):
            patience_s = grace_s = self._grace_s()
        self._cancel(grace_s)
        self.map_leftovers.drop()
        if isinstance(error, KeyboardInterrupt):
            self._warn_of_open(self._grace_s())
        self._settle(patience_s)
        if isinstance(error, RanOut) and error.owner is self:
            text = f"flow run {self.info.name} took longer than timeout_seconds={error.limit_s:g}"
            timeout = TimeoutError(text)
            timeout.__cause__ = error.__cause__
            return State(TIMED_OUT, text, error=timeout)
        return raised_state(error)

    def _grace_s(self) -> float:
        """How long running task runs may go on once the flow run is to end."""
        return float(self.flow.cancel_grace_seconds)

    def _warn_of_open(self, patience_s: float) -> None:  # noqa: B027 - only where Ctrl-C arrives
        """Say how long running task runs have to end."""


def run_to_end(run: FlowLife) -> State:
    """Run a flow whose function is plain; returns its final state."""
    with run.active():
        run.begin()
        while True:
            value, error = None, None
            try:
                if run.attempt == 1:
                    run.tell(State(RUNNING))
                run.start_clock()
                value = run.call_body()
            except BaseException as raised:
                error = raised
            ended = run.end(value, error)
            if isinstance(ended, State):
                return ended
            try:
                run.give_way()
                run.sleep(ended)
            except BaseException as interrupt:
                return run.conclude(raised_state(interrupt))
            run.again()


async def run_to_end_async(run: FlowLife) -> State:
    """Run a flow whose function is async; returns its final state."""
    import asyncio  # heavy for scripts without async code

    loop = asyncio.get_running_loop()

    def elsewhere(call: Callable[..., R], *args: Any) -> Awaitable[R]:
        """What waits for task runs, hooks or the cluster's end must not block the event loop."""
        return loop.run_in_executor(None, contextvars.copy_context().run, call, *args)

    with run.active():
        run.begin()
        while True:
            value, error = None, None
            try:
                if run.attempt == 1 and run.flow.options["on_running"] is not None:
                    await elsewhere(run.tell, State(RUNNING))
                run.start_clock()
                value = await run.await_body()
            except BaseException as raised:
                error = raised
            run.give_way()  # here: the slot belongs to this thread, not to that of the executor
            ended = await elsewhere(run.end, value, error)
            if isinstance(ended, State):
                return ended
            try:
                await run.sleep_async(ended)
            except BaseException as interrupt:
                return await elsewhere(run.conclude, raised_state(interrupt))
            run.again()
