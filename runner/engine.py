"""One flow run, from its parameters to its final state.

The flow function runs in the user's own thread or event loop; what surrounds it is written once,
in `FlowRun.begin` and `FlowRun.conclude`, with a sync and an async driver of a few lines each.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import itertools
import logging
import os
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from daskflow.config import get_settings
from daskflow.errors import DaskflowError, FlowFailed, UsageError
from daskflow.runner import progress
from daskflow.runner.cluster.executor.functions import register_function
from daskflow.runner.cluster.protocol import Code
from daskflow.runner.code import function_bytes, source_digest
from daskflow.runner.context import (
    FLOW_LOGGER,
    FlowInfo,
    LogLine,
    TaskInfo,
    current_flow_run,
    current_task_run,
)
from daskflow.runner.core.driver import describe
from daskflow.runner.core.graph import Run, Scope, Stage
from daskflow.runner.core.packing import PackingRules
from daskflow.runner.core.states import (
    CANCELLED,
    COMPLETED,
    CRASHED,
    FAILED,
    PENDING,
    RUNNING,
    SUCCESSFUL,
)
from daskflow.runner.environment import environment_json
from daskflow.runner.futures import TaskFuture
from daskflow.runner.inline import InlineShell
from daskflow.runner.logs import run_logging, show
from daskflow.runner.record import FlowRecord, RecordWriter, as_json
from daskflow.runner.results import ended_badly, settle_returned
from daskflow.runner.shell import DriverShell
from daskflow.runner.state import State
from daskflow.runner.store import open_writer, this_process
from daskflow.runner.store.rows import FlowRunRow, TaskRow

if TYPE_CHECKING:
    from daskflow.runner.flows import Flow
    from daskflow.runner.tasks import Task

__all__ = ["FlowRun", "run_flow", "run_flow_async"]

_logger = logging.getLogger(FLOW_LOGGER)


class _Use:
    """A task as used in this flow run; calls and submissions share its number and names."""

    __slots__ = ("inline", "next_index", "number", "stage")

    def __init__(self, number: int) -> None:
        self.number = number
        self.next_index = itertools.count().__next__
        self.stage: Stage | None = None  # of submitted runs: the driver's thread counts them
        self.inline: Stage | None = None  # of direct calls: the caller's thread does


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
        self.attempt = 1
        flow_run_id = uuid.uuid4().hex
        self.info = FlowInfo(
            flow_run_id,
            flow.run_name(bound.arguments),
            flow.name,
            (),
            logging.getLevelNamesMapping()[settings.logging.level],
        )
        self.log_prints = flow.log_prints
        self._settings = settings
        self._created_at = time.time()
        self._started_at: float | None = None
        self._state = PENDING
        self._uses: dict[Task[Any, Any], _Use] = {}
        writer: RecordWriter | None = None
        if settings.store.record:
            writer = open_writer(settings.store.url)
        self.record = FlowRecord(flow_run_id, writer)
        self._scope = Scope(flow_run_id, self.record)
        self._inline_scope = Scope(flow_run_id, self.record)
        self._owns_shell = self.parent is None or flow.task_runner is not None
        self.shell: DriverShell | InlineShell
        if self.parent is not None and not self._owns_shell:
            self.shell = self.parent.shell
        else:
            self.shell = self._new_shell()
        self.next_number = self.shell.next_number

    def _new_shell(self) -> DriverShell | InlineShell:
        from daskflow.runner.cluster.providers import SyncTaskRunner, resolve_task_runner

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

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """For progress: what was submitted, and what was called directly."""
        return self._scope, self._inline_scope

    def log(self, line: LogLine) -> None:
        """Record a line that the flow itself logged or printed."""
        self.record.logs([line], None)
        if line.logger == "print":  # other lines went through `logging`, which shows them
            show(line, self.info.name)

    # -- task runs -----------------------------------------------------------------------------

    def submit(
        self,
        task: Task[Any, Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        wait_for: Sequence[Any],
    ) -> TaskFuture[Any]:
        """Hand a task run to the cluster; microseconds, no I/O."""
        task.check_arguments(args, kwargs)
        use = self._uses.get(task) or self._use(task)
        stage = use.stage or self._submit_stage(task, use)
        shell = self.shell
        encoded = shell.encode(args, kwargs, wait_for, task.name)
        run = Run(
            stage,
            self.next_number(),
            encoded.payload,
            encoded.deps,
            time.time(),
            encoded.allowed,
            encoded.taken,
        )
        if task.options["task_run_name"] is not None:
            run.name = task.run_name(args, kwargs)
        shell.submit(run)
        return TaskFuture(run, shell)

    def inline_run(self, task: Task[Any, Any], args: tuple[Any, ...], kwargs: Any) -> Run:
        """A task run that the caller executes itself."""
        from daskflow.runner.arguments import encode_live

        use = self._uses.get(task) or self._use(task)
        stage = use.inline or self._inline_stage(task, use)
        encoded = encode_live(args, kwargs, ())
        self.shell.wait_for(encoded.deps, None)
        run = Run(stage, self.next_number(), encoded.payload, encoded.deps, time.time())
        if task.options["task_run_name"] is not None:
            run.name = task.run_name(args, kwargs)
        return run

    def constant(self, value: Any) -> Any:
        """An argument that every run of a map gets; a large one is sent once."""
        return value if self.shell.live else self.shell.literals.share(value)  # type: ignore[union-attr]

    def _use(self, task: Task[Any, Any]) -> _Use:
        use = self._uses[task] = _Use(len(self._uses))
        policy = self._policy(task)
        options = {
            "retries": policy.retries,
            "retry_delay_seconds": list(policy.delays_s),
            "crash_retries": policy.crash_retries,
        }
        options.update(
            {key: task.options[key] for key in ("resources", "priority", "workers") if task.options[key]}
        )
        self.record.task(
            TaskRow(
                use.number,
                task.name,
                task.version,
                as_json(list(task.tags)),
                source_digest(task.fn),
                as_json(options),
            )
        )
        return use

    def _policy(self, task: Task[Any, Any]) -> Any:
        defaults = self._settings.tasks
        return task.policy_with(
            defaults.retries, defaults.retry_delay_seconds, defaults.crash_retries
        )

    def _submit_stage(self, task: Task[Any, Any], use: _Use) -> Stage:
        use.stage = self._stage(task, use, self._scope, self._code(task))
        return use.stage

    def _inline_stage(self, task: Task[Any, Any], use: _Use) -> Stage:
        code = Code("", None, task.is_async, self._task_info(task), self.info, task.fn)
        use.inline = self._stage(task, use, self._inline_scope, code)
        return use.inline

    def _stage(self, task: Task[Any, Any], use: _Use, scope: Scope, code: Code) -> Stage:
        condition = task.retry_condition_fn
        retry_if: Callable[[Run, BaseException], bool] | None = None
        if condition is not None:

            def retry_if(run: Run, error: BaseException) -> bool:
                state = State(FAILED, describe(error), error=error)
                try:
                    return bool(condition(task, run.label, state))
                except Exception:
                    _logger.exception("retry_condition_fn of %s raised; no retry", task.name)
                    return False

        return Stage(
            scope,
            task.name,
            self._policy(task),
            lane_key=task.lane,
            estimate=task.estimate,
            code=code,
            retry_if=retry_if,
            number=use.number,
            next_index=use.next_index,
        )

    def _code(self, task: Task[Any, Any]) -> Code:
        info = self._task_info(task)
        if self.shell.live:
            digest = uuid.uuid4().hex
            register_function(digest, task.fn)
            return Code(digest, None, task.is_async, info, self.info, task.fn)
        assert isinstance(self.shell, DriverShell)
        same_machine = self.shell.runner.same_machine
        digest, blob = function_bytes(task.fn, same_machine=same_machine)
        return Code(digest, blob, task.is_async, info, self.info, task.fn)

    def _task_info(self, task: Task[Any, Any]) -> TaskInfo:
        return TaskInfo(task.name, task.tags, task.log_prints or self.flow.log_prints)

    # -- begin and end -------------------------------------------------------------------------

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """This flow run is the current one, and its log lines are captured."""
        settings = self._settings.logging
        token = current_flow_run.set(self)
        try:
            with run_logging(self.info.log_level, settings.console):
                yield
        finally:
            current_flow_run.reset(token)

    def begin(self) -> None:
        """The flow run starts."""
        self.shell.outlet.open(self._scope)
        progress.announce(self, first=self.parent is None)
        self._started_at = time.time()
        self._change(RUNNING, None)
        _logger.debug("Flow run %s of %s started", self.info.name, self.info.flow_name)

    def conclude(self, value: Any, error: BaseException | None) -> State:
        """Wait for what is still open, decide on the final state, and let everything go.

        Parameters
        ----------
        value : object
            What the flow function returned.
        error : BaseException or None
            What it raised instead.
        """
        try:
            state = self._settle(value, error)
        except BaseException as late:  # Ctrl-C while waiting, or the driver broke
            state = _state_of(late)
        finally:
            self.shell.outlet.shut(self._scope)
            if self._owns_shell:
                self.shell.close()
        self._change(state.name, state.message)
        if self.parent is None:
            self.record.flush()
        return state

    def _settle(self, value: Any, error: BaseException | None) -> State:
        if error is not None:
            self.shell.cancel(self._scope)
            if isinstance(error, KeyboardInterrupt) and self._scope.open:
                _logger.warning(
                    "Interrupted: waiting for running task runs, Ctrl-C again to stop at once"
                )
            self.shell.wait_until_settled(self._scope)
            return _state_of(error)
        self.shell.wait_until_settled(self._scope)
        state = settle_returned(value)
        if state.is_completed():
            failed = ended_badly([*self._inline_scope.failed, *self._scope.failed])
            if failed is not None:
                message, runs = failed
                flaw = FlowFailed(self.info.id, message, tuple(run.task_run_id for run in runs))
                flaw.__cause__ = runs[0].error
                return State(FAILED, message, error=flaw)
        return state

    def _change(self, state: str, message: str | None) -> None:
        now = time.time()
        self._state = state
        final = state in SUCCESSFUL or state in (FAILED, CRASHED, CANCELLED)
        self.record.flow_run(self._row(message, now if final else None))
        self.record.flow_transition(now, state, message, self.attempt)

    def _row(self, message: str | None, ended_at: float | None) -> FlowRunRow:
        process = this_process()
        task = current_task_run.get()
        return FlowRunRow(
            self.info.id,
            self.info.name,
            self.info.flow_name,
            self.flow.version,
            self._state,
            message,
            as_json(dict(self.bound.arguments)),
            as_json([]),
            self.parent.info.id if self.parent else None,
            task.number if task else None,
            self.attempt,
            self._created_at,
            self._started_at,
            ended_at,
            self.flow.entrypoint,
            self.flow.code_digest,
            environment_json(),
            self._runner_text(),
            process.host,
            os.getpid(),
            process.process_started_at,
            process.boot_id,
        )

    def _runner_text(self) -> str:
        shell = self.shell
        if isinstance(shell, InlineShell):
            return "sync"
        return shell.session.description if shell.session else str(shell.runner)


def _state_of(error: BaseException) -> State:
    if isinstance(error, KeyboardInterrupt):
        return State(CANCELLED, "interrupted", error=error)
    if isinstance(error, asyncio.CancelledError):
        return State(CANCELLED, "cancelled from outside", error=error)
    if isinstance(error, Exception):
        return State(FAILED, describe(error), error=error)
    return State(CRASHED, describe(error), error=error)


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
        value, error = None, None
        try:
            value = flow.fn(*bound.args, **bound.kwargs)
        except BaseException as raised:
            error = raised
        return run.conclude(value, error)


async def run_flow_async(flow: Flow[Any, Any], bound: inspect.BoundArguments) -> State:
    """Run a flow whose function is async; returns its final state."""
    _check_place(flow)
    run = FlowRun(flow, bound)
    with run.active():
        run.begin()
        value, error = None, None
        try:
            called: Awaitable[Any] = flow.fn(*bound.args, **bound.kwargs)
            value = await called
        except BaseException as raised:
            error = raised
        # waits for task runs and closes the cluster: not on the event loop
        context = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, context.run, run.conclude, value, error)
