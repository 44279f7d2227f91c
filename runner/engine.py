"""A flow run in the flow process: its settings, its cluster, its record, its hooks.

What surrounds the flow function is `lifecycle`'s; here is what only the flow process has.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from daskflow.config import get_settings
from daskflow.errors import FlowCancelled
from daskflow.runner import progress
from daskflow.runner.cache_plans import FlowCaching
from daskflow.runner.cancellation import CancelAsked, Cancellation
from daskflow.runner.cluster.providers import SyncTaskRunner, resolve_task_runner
from daskflow.runner.context import (
    FLOW_LOGGER,
    FlowInfo,
    LogLine,
    current_flow_run,
    current_task_run,
)
from daskflow.runner.core.graph import Run
from daskflow.runner.core.leases import Lease
from daskflow.runner.core.packing import PackingRules
from daskflow.runner.core.states import (
    CANCELLED,
    CANCELLING,
    COMPLETED,
    FINAL,
    PENDING,
    RETRYING,
    RUNNING,
    SUCCESSFUL,
)
from daskflow.runner.crash_points import arm as arm_crash_points
from daskflow.runner.deadlines import Deadline
from daskflow.runner.flow_rows import FlowFacts, flow_run_row
from daskflow.runner.hooks import HOOK_AT, FlowRunInfo, call_hooks
from daskflow.runner.inline import InlineShell
from daskflow.runner.lifecycle import FlowLife
from daskflow.runner.logs import run_logging, show
from daskflow.runner.outcomes import Journal
from daskflow.runner.pace import Announcer
from daskflow.runner.record import FlowRecord, RecordWriter, as_json
from daskflow.runner.results import raised_state
from daskflow.runner.retention import apply_retention
from daskflow.runner.reuse import being_resumed
from daskflow.runner.shell import DriverShell
from daskflow.runner.signals import terminated_as_interrupted
from daskflow.runner.starting import RESUMED, STARTED, start_note
from daskflow.runner.state import State
from daskflow.runner.store import open_writer
from daskflow.runner.tagging import tags_of_flow_run
from daskflow.runner.task_runs import TaskRuns

if TYPE_CHECKING:
    from daskflow.runner.account import Account
    from daskflow.runner.flows import Flow

__all__ = ["FlowRun"]

_logger = logging.getLogger(FLOW_LOGGER)


class FlowRun(FlowLife):
    """The engine's side of one flow run.

    Parameters
    ----------
    flow : Flow
    bound : inspect.BoundArguments
        Parameters, validated.
    """

    def __init__(self, flow: Flow[Any, Any], bound: inspect.BoundArguments) -> None:
        settings = get_settings()
        self.parent: FlowRun | None = current_flow_run.get()  # type: ignore[assignment]
        parent, caller = self.parent, current_task_run.get()
        if parent is None:
            arm_crash_points()
        self.resumption = being_resumed.get()
        if parent is not None:
            before = parent.resumption
            self.resumption = before and before.child(flow.name, as_json(dict(bound.arguments)))
        info = self._identity(flow, bound, settings.logging.level)
        super().__init__(flow, bound, info, parent, bool(parent and parent.log_prints))
        self.record: FlowRecord
        self._facts = FlowFacts.of(
            flow,
            bound.arguments,
            info,
            parent.info.id if parent else None,
            caller.number if parent and caller else None,
        )
        self._settings = settings
        self._started_at: float | None = None
        self._state = PENDING
        self._changing = threading.RLock()  # the lease's thread may cancel the flow run
        own = Cancellation(flow.cancel_grace_seconds)
        self.cancellation: Cancellation = parent.cancellation if parent else own
        self._account: Account | None = parent._account if parent else None
        if self.resumption is not None:
            old = self.resumption.flow_run
            self._account = self.resumption.account
            self._facts = self._facts._replace(created_at=old.created_at)
            self._started_at = old.started_at
            self.first_attempt = self.attempt = info.attempt
        self._owns_shell = parent is None or flow.task_runner is not None
        self.shell: DriverShell | InlineShell
        if parent is not None and not self._owns_shell:
            self.shell = parent.shell
        else:
            self.shell = self._new_shell()
            if self.resumption is not None:
                first = self.resumption.first_number
                self.shell.next_number = itertools.count(first).__next__
        writer: RecordWriter | None = None
        if parent is not None:
            writer = parent.record.writer
        elif settings.store.record:
            lease = self.resumption.lease if self.resumption else None
            lease = lease or Lease(info.id)
            lease.when_asked(self.cancellation.ask)
            writer = open_writer(settings.store.url, lease)
        self.record = FlowRecord(info.id, writer)
        self.record.name, self.record.home = info.name, self.shell
        self.record.guard(self.shell if self._owns_shell else None)
        cached = info, bound.arguments, flow.caching
        self.caching: FlowCaching = (
            parent.caching.inside(*cached) if parent else FlowCaching.here(settings, *cached)
        )
        shared = info, self.log_prints, settings, self.record, self.shell
        runs = TaskRuns(*shared, self.caching, flow.retries, resumption=self.resumption)
        self.submit: Callable[..., Any] = runs.submit
        self.call, self.constant, self.pace = runs.call, runs.constant, self._pace
        self._runs = runs
        self._scope = runs.submitted
        self.scopes = runs.submitted, runs.called  # for progress

    def _identity(
        self, flow: Flow[Any, Any], bound: inspect.BoundArguments, level: str
    ) -> FlowInfo:
        """A new flow run, or the one that goes on."""
        log_level = logging.getLevelNamesMapping()[level]
        tags = tags_of_flow_run(self.parent.info.tags if self.parent else ())
        if self.resumption is None:
            name = flow.run_name(bound.arguments)
            return FlowInfo(uuid.uuid4().hex, name, flow.name, tags, log_level)
        row = self.resumption.flow_run
        kept = tuple(sorted({*tags, *json.loads(row.tags or "[]")}))
        attempt = self.resumption.attempt
        return FlowInfo(row.flow_run_id, row.name, flow.name, kept, log_level, attempt)

    def _new_shell(self) -> DriverShell | InlineShell:
        runner = resolve_task_runner(self.flow.task_runner)
        if isinstance(runner, SyncTaskRunner):
            return InlineShell()
        rules = PackingRules(target_s=self._settings.runner.target_parcel_seconds)
        return DriverShell(runner, rules)

    def subflow(self, flow: Flow[Any, Any], bound: inspect.BoundArguments) -> FlowLife:
        return FlowRun(flow, bound)

    @property
    def journal(self) -> Journal:
        """Where direct calls of tasks are recorded."""
        return self.shell.outlet

    @property
    def hooks(self) -> Any:
        """What calls hooks on behalf of this flow run."""
        return self._runs.hooks.calls

    def log(self, line: LogLine) -> None:
        self.record.logs([line], None)
        if line.logger == "print":  # other lines went through `logging`, which shows them
            show(line, self.info.name)

    @contextlib.contextmanager
    def _capturing(self) -> Iterator[None]:
        with run_logging(self.info.log_level, self._settings.logging.console):
            if self.parent is not None:
                yield
                return
            plain = contextlib.nullcontext() if self.is_async else self.cancellation.interrupting()
            with terminated_as_interrupted(), plain:
                yield

    # -- begin and end -------------------------------------------------------------------------

    def begin(self) -> None:
        self.shell.outlet.open(self._scope)
        self.shell.join(self, self._runs)
        self._runs.hooks.enter()
        progress.announce(self, first=self.parent is None)
        now = time.time()
        self._started_at = self._started_at or now
        if self.parent is None:
            self.record.event(now, STARTED, self.info.id, **start_note(self.flow, self.bound))
        self._change(RUNNING if self.attempt == 1 else RETRYING, None)
        self.cancellation.join(self)
        _logger.debug("Flow run %s of %s started", self.info.name, self.info.flow_name)

    def start_clock(self) -> None:
        super().start_clock()
        self.cancellation.check()
        if self.deadline is not None:
            self.submit = self._submit_in_time

    async def await_body(self) -> Any:
        outermost = self.parent is None
        return await self.cancellation.awaited(super().await_body, outermost=outermost)

    def sleep(self, seconds: float) -> None:
        self.cancellation.sleep(seconds)

    async def sleep_async(self, seconds: float) -> None:
        nap = functools.partial(super().sleep_async, seconds)
        await self.cancellation.awaited(nap, outermost=self.parent is None)

    def _submit_in_time(self, *given: Any) -> Any:
        if self.deadline is not None:
            self.deadline.left()
        return self._runs.submit(*given)

    def _pace(self, limit: int) -> Any:
        return self.map_leftovers.pace(limit, self.shell.submit)

    def announcer(self, tell: Callable[[Run], object]) -> Announcer:
        """What submits the runs of a map over an iterator."""
        return Announcer(tell, self.shell.submit)

    def _again(self) -> None:
        runs = self._runs
        if self._account is not None:
            self._account.add(self.scopes)
        runs.again(self.attempt)
        self._scope, self.scopes = runs.submitted, (runs.submitted, runs.called)
        self.shell.outlet.open(self._scope)

    def conclude(self, state: State) -> State:
        self.cancellation.leave(self)
        state = self._as_cancelled(state)
        try:
            self._runs.hooks.close()
        except BaseException as late:  # Ctrl-C while a hook runs
            state = raised_state(late)
        finally:
            self.shell.outlet.shut(self._scope)
            self.shell.leave(self.info.id)
            if self._owns_shell:
                self.shell.close()
        self._change(state.name, state.message)
        if self._account is not None:
            self._account.add(self.scopes)
            if self.parent is None:
                told = self._account.as_dict()
                self.record.event(time.time(), RESUMED, self.info.id, **told)
        self.tell(state)
        if self.parent is None:
            apply_retention(self._settings, time.time())
            self.record.close()
            taken = self.record.taken  # the last rows may be the first that were refused
            if taken is not None and state.name in SUCCESSFUL:
                return raised_state(taken)
        return state

    def _as_cancelled(self, state: State) -> State:
        """What ended badly after it was cancelled from outside is Cancelled, whatever it raised."""
        by, error = self.cancelled_by, state.error
        if by is None or state.name == COMPLETED:
            return state
        if self.parent is None and not isinstance(error, KeyboardInterrupt):
            told = FlowCancelled(self.info.id, by)
            told.__cause__ = None if isinstance(error, CancelAsked) else error
            return State(CANCELLED, by, error=told)
        return state if state.name == CANCELLED else State(CANCELLED, by, error=CancelAsked(by))

    @property
    def cancelled_by(self) -> str | None:
        return self.cancellation.message

    def cancel_now(self, message: str, deadline: Deadline) -> None:
        """Another process wants the flow run to end; called by the lease's thread."""
        self._change(CANCELLING, message)
        self.deadline, self.submit = deadline, self._submit_in_time
        for scope in self.scopes:
            scope.cancelled, scope.cancelled_at = True, time.time()
        self._cancel(self._grace_s())
        self.shell.wake()

    def _grace_s(self) -> float:
        if self.cancelled_by is not None:
            return self.cancellation.left_s()
        return super()._grace_s()

    def tell(self, state: State) -> None:
        hooks = self.flow.options.get(HOOK_AT.get(state.name, ""))
        if hooks is not None:
            info = self.info
            run = FlowRunInfo(
                info.id, info.name, self.attempt, state, dict(self.parameters), info.tags
            )
            call_hooks(hooks, self.flow, run, state)

    def _judge(self, value: Any, error: BaseException | None) -> State:
        state = super()._judge(value, error or self.record.taken)
        taken = self.record.taken  # by another process, perhaps meanwhile
        return state if taken is None or error is not None else raised_state(taken)

    def _settle(self, patience_s: float | None) -> Sequence[Any]:
        while (held := self.map_leftovers.held()) is not None:
            self.shell.wait_for((held,), None)
        self.shell.wait_until_settled(self._scope, patience_s)
        return [run for each in self.scopes for run in each.failed]

    def _cancel(self, grace_s: float | None) -> None:
        self.shell.cancel(self._scope, grace_s)

    def _warn_of_open(self, patience_s: float) -> None:
        if self._scope.open:
            _logger.warning(
                "Interrupted: running task runs have %g s to end; Ctrl-C again ends them now",
                patience_s,
            )

    def _change(self, state: str, message: str | None) -> None:
        with self._changing:
            over = self._state in FINAL or self._state == CANCELLING
            if state in FINAL or not over:  # nothing takes a cancellation back
                self._change_to(state, message)

    def _change_to(self, state: str, message: str | None) -> None:
        now = time.time()
        self._state = state
        ended_at = now if state in FINAL else None
        self.record.flow_run(
            flow_run_row(
                self._facts,
                state,
                message,
                self.attempt,
                self._started_at,
                ended_at,
                self.shell.description,
            )
        )
        self.record.flow_transition(now, state, message, self.attempt)
