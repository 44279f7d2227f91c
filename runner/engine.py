"""One flow run, from its parameters to its final state.

The flow function runs in the user's own thread or event loop; what surrounds it is written once,
in `FlowRun.begin` and `FlowRun.conclude`, with a sync and an async driver of a few lines each.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import inspect
import itertools
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from daskflow.config import get_settings
from daskflow.errors import UsageError
from daskflow.runner import progress
from daskflow.runner.alarms import call_within
from daskflow.runner.cache_plans import FlowCaching
from daskflow.runner.cluster.executor.timeouts import RanOut, cancelled_after
from daskflow.runner.cluster.providers import SyncTaskRunner, resolve_task_runner
from daskflow.runner.context import (
    FLOW_LOGGER,
    LogLine,
    current_flow_run,
    current_task_run,
)
from daskflow.runner.core.leases import Lease
from daskflow.runner.core.packing import PackingRules
from daskflow.runner.core.states import (
    AWAITING_RETRY,
    FAILED,
    FINAL,
    PENDING,
    RETRYING,
    RUNNING,
    TIMED_OUT,
)
from daskflow.runner.crash_points import arm as arm_crash_points
from daskflow.runner.deadlines import Deadline
from daskflow.runner.flow_rows import flow_info, flow_run_row
from daskflow.runner.hooks import HOOK_AT, FlowRunInfo, call_hooks
from daskflow.runner.inline import InlineShell
from daskflow.runner.logs import run_logging, show
from daskflow.runner.record import FlowRecord, RecordWriter, as_json
from daskflow.runner.results import raised_state, returned_state
from daskflow.runner.reuse import being_resumed
from daskflow.runner.shell import DriverShell
from daskflow.runner.starting import RESUMED, STARTED, start_note
from daskflow.runner.state import State
from daskflow.runner.store import open_writer
from daskflow.runner.task_runs import TaskRuns

if TYPE_CHECKING:
    from daskflow.runner.account import Account
    from daskflow.runner.flows import Flow

__all__ = ["FlowRun", "run_flow", "run_flow_async"]

R = TypeVar("R")

_logger = logging.getLogger(FLOW_LOGGER)


class FlowRun:
    """The engine's side of one flow run; also what `runtime` and the loggers look at.

    Parameters
    ----------
    flow : Flow
    bound : inspect.BoundArguments
        Parameters, validated.
    """

    def __init__(self, flow: Flow[Any, Any], bound: inspect.BoundArguments) -> None:
        settings = get_settings()
        self.flow = flow
        self.bound = bound
        self.parent: FlowRun | None = current_flow_run.get()  # type: ignore[assignment]
        if self.parent is None:
            arm_crash_points()
        self.record: FlowRecord
        caller = current_task_run.get()
        self.parent_number = caller.number if caller else None
        self.deadline: Deadline | None = None
        self.resumption = being_resumed.get()
        if self.parent is not None:
            before = self.parent.resumption
            self.resumption = before and before.child(flow.name, as_json(dict(bound.arguments)))
        self.info = flow_info(flow, bound.arguments, settings.logging.level, self.resumption)
        flow_run_id = self.info.id
        self.log_prints: bool = bool(
            self.parent and self.parent.log_prints if flow.log_prints is None else flow.log_prints
        )
        self._settings = settings
        self._account: Account | None = self.parent._account if self.parent else None
        if self.resumption is not None:
            self._account = self.resumption.account
        old = self.resumption.flow_run if self.resumption else None
        self._first_attempt = self.attempt = old.attempt + 1 if old else 1
        self.created_at = old.created_at if old else time.time()
        self.started_at = old.started_at if old else None
        self.state = PENDING
        self._owns_shell = self.parent is None or flow.task_runner is not None
        self.shell: DriverShell | InlineShell
        if self.parent is not None and not self._owns_shell:
            self.shell = self.parent.shell
        else:
            self.shell = self._new_shell()
            if self.resumption is not None:
                first = self.resumption.first_number
                self.shell.next_number = itertools.count(first).__next__
        writer: RecordWriter | None = None
        if self.parent is not None:
            writer = self.parent.record.writer
        elif settings.store.record:
            lease = self.resumption.lease if self.resumption else None
            writer = open_writer(settings.store.url, lease or Lease(flow_run_id))
        self.record = FlowRecord(flow_run_id, writer)
        self.record.name, self.record.home = self.info.name, self.shell
        self.record.guard(self.shell if self._owns_shell else None)
        caching = FlowCaching(settings, self.info, bound.arguments, flow)
        shared = self.info, self.log_prints, settings, self.record, self.shell
        runs = TaskRuns(*shared, caching, flow.retries, self.resumption)
        self.submit: Callable[..., Any] = runs.submit
        self.call, self.constant = runs.call, runs.constant
        self.map_leftovers = runs.map_leftovers
        self._runs = runs
        self._scope = runs.submitted
        self.scopes = runs.submitted, runs.called  # for progress

    def _new_shell(self) -> DriverShell | InlineShell:
        runner = resolve_task_runner(self.flow.task_runner)
        if isinstance(runner, SyncTaskRunner):
            return InlineShell()
        rules = PackingRules(target_s=self._settings.runner.target_parcel_seconds)
        return DriverShell(runner, rules)

    # -- what `runtime` and the loggers ask ----------------------------------------------------

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Parameters by name."""
        return self.bound.arguments

    def log(self, line: LogLine) -> None:
        """Record a line that the flow itself logged or printed."""
        self.record.logs([line], None)
        if line.logger == "print":  # other lines went through `logging`, which shows them
            show(line, self.info.name)

    # -- begin and end -------------------------------------------------------------------------

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """This flow run is the current one, and its log lines are captured."""
        settings = self._settings.logging
        token = current_flow_run.set(self)
        task_token = current_task_run.set(None)  # a subflow that a task calls is no task
        try:
            with run_logging(self.info.log_level, settings.console):
                yield
        finally:
            current_task_run.reset(task_token)
            current_flow_run.reset(token)

    def begin(self) -> None:
        """The flow run starts."""
        self.shell.outlet.open(self._scope)
        self.shell.join(self, self._runs)
        self._runs.hooks.enter()
        progress.announce(self, first=self.parent is None)
        now = time.time()
        self.started_at = self.started_at or now
        if self.parent is None:
            self.record.event(now, STARTED, self.info.id, **start_note(self.flow, self.bound))
        self.change(RUNNING if self.attempt == 1 else RETRYING, None)
        _logger.debug("Flow run %s of %s started", self.info.name, self.info.flow_name)

    def start_clock(self) -> None:
        """An attempt begins: `timeout_seconds` count from now."""
        limit_s = self.flow.timeout_s
        self.deadline = around = self.parent.deadline if self.parent else None
        if limit_s is not None:
            own = Deadline(limit_s, self)
            self.deadline = own if around is None or own.due < around.due else around
        if self.deadline is not None:
            self.submit = self._submit_in_time

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

    def _submit_in_time(self, *given: Any) -> Any:
        if self.deadline is not None:
            self.deadline.left()
        return self._runs.submit(*given)

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
                state = self._settle(value, error)
            except RanOut as late:  # while waiting for what the function left open
                state = self._settle(None, late)
        except BaseException as late:  # Ctrl-C while waiting, or the driver broke
            state = raised_state(late)
        most = self._first_attempt + self.flow.retries
        if state.name in (FAILED, TIMED_OUT) and self.attempt < most:
            self.change(AWAITING_RETRY, state.message)
            _logger.warning("Attempt %d of %d failed: %s", self.attempt, most, state.message)
            return self.flow.retry_delay_s
        return self.conclude(state)

    def again(self) -> None:
        """The flow function is about to run again."""
        self.attempt += 1
        runs = self._runs
        if self._account is not None:
            self._account.add(self.scopes)
        runs.again()
        self.map_leftovers = runs.map_leftovers
        self._scope, self.scopes = runs.submitted, (runs.submitted, runs.called)
        self.shell.outlet.open(self._scope)
        self.change(RETRYING, None)

    def conclude(self, state: State) -> State:
        """Let everything go; returns the final state."""
        try:
            self._runs.hooks.close()
        except BaseException as late:  # Ctrl-C while a hook runs
            state = raised_state(late)
        finally:
            self.shell.outlet.shut(self._scope)
            self.shell.leave(self.info.id)
            if self._owns_shell:
                self.shell.close()
        self.change(state.name, state.message)
        if self._account is not None:
            self._account.add(self.scopes)
            if self.parent is None:
                told = self._account.as_dict()
                self.record.event(time.time(), RESUMED, self.info.id, **told)
        self.tell(state)
        if self.parent is None:
            self.record.close()
        return state

    def tell(self, state: State) -> None:
        """Call the hooks of the flow for this state."""
        hooks = self.flow.options.get(HOOK_AT.get(state.name, ""))
        if hooks is not None:
            info = self.info
            run = FlowRunInfo(
                info.id, info.name, self.attempt, state, dict(self.parameters), info.tags
            )
            call_hooks(hooks, self.flow, run, state)

    def _settle(self, value: Any, error: BaseException | None) -> State:
        shell, scope = self.shell, self._scope
        error = error or self.record.taken
        if error is None:
            value = self.map_leftovers.finish(value)
            shell.wait_until_settled(scope)
            if self.record.taken:
                return raised_state(self.record.taken)
            if over := self.map_leftovers.too_many_failed():
                return raised_state(over)
            failed = [run for each in self.scopes for run in each.failed]
            return returned_state(value, failed, self.info.id)
        self.deadline = None
        shell.cancel(scope)
        patience = None
        if isinstance(error, RanOut):
            patience = 0.0  # time is over for task runs, too
        if isinstance(error, KeyboardInterrupt):
            patience = self.flow.cancel_grace_seconds
            if scope.open:
                _logger.warning(
                    "Interrupted: running task runs have %g s to end; Ctrl-C again ends them now",
                    patience,
                )
        shell.wait_until_settled(scope, patience)
        if isinstance(error, RanOut) and error.owner is self:
            text = f"flow run {self.info.name} took longer than timeout_seconds={error.limit_s:g}"
            timeout = TimeoutError(text)
            timeout.__cause__ = error.__cause__
            return State(TIMED_OUT, text, error=timeout)
        return raised_state(error)

    def change(self, state: str, message: str | None) -> None:
        """The flow run is in another state: have that recorded."""
        now = time.time()
        self.state = state
        self.record.flow_run(flow_run_row(self, message, now if state in FINAL else None))
        self.record.flow_transition(now, state, message, self.attempt)


def _check_place(flow: Flow[Any, Any]) -> None:
    if current_task_run.get() is not None and current_flow_run.get() is None:
        raise UsageError(
            f"flow {flow.name} was called inside a task on a worker; call it from the flow process"
        )


def run_flow(flow: Flow[Any, Any], bound: inspect.BoundArguments) -> State:
    """Run a flow whose function is plain; returns its final state."""
    _check_place(flow)
    run = FlowRun(flow, bound)
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
                time.sleep(ended)
            except BaseException as interrupt:
                return run.conclude(raised_state(interrupt))
            run.again()


async def run_flow_async(flow: Flow[Any, Any], bound: inspect.BoundArguments) -> State:
    """Run a flow whose function is async; returns its final state."""
    _check_place(flow)
    run = FlowRun(flow, bound)
    loop = asyncio.get_running_loop()

    def elsewhere(call: Callable[..., R], *args: Any) -> Awaitable[R]:
        """What waits for task runs, hooks or the cluster's end must not block the event loop."""
        return loop.run_in_executor(None, contextvars.copy_context().run, call, *args)

    with run.active():
        run.begin()
        while True:
            value, error = None, None
            try:
                if run.attempt == 1 and flow.options["on_running"] is not None:
                    await elsewhere(run.tell, State(RUNNING))
                run.start_clock()
                value = await run.await_body()
            except BaseException as raised:
                error = raised
            ended = await elsewhere(run.end, value, error)
            if isinstance(ended, State):
                return ended
            try:
                await asyncio.sleep(ended)
            except BaseException as interrupt:
                return await elsewhere(run.conclude, raised_state(interrupt))
            run.again()
