"""A flow that is called in a task on a worker: its function runs there, in the task's own thread.

It is a flow run of its own.  Its task runs are the driver's like all others, and so is its record:
what happens here is told to the flow process through the channel, where
`daskflow.runner.remote_flows` takes it.  A direct call of a task is executed here; the driver gives
it its number, name and policy.
"""

from __future__ import annotations

import contextlib
import inspect
import pickle
import threading
import time
import uuid
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import cloudpickle

from daskflow.errors import UsageError
from daskflow.runner.cache_defaults import FlowCacheOptions, defaults_of
from daskflow.runner.cluster.answers import Reply, ask_driver
from daskflow.runner.cluster.called_tasks import CalledTasks
from daskflow.runner.cluster.nested import NestedHost, seen_here
from daskflow.runner.cluster.sent_states import SentState
from daskflow.runner.cluster.told_hooks import HooksAtHome
from daskflow.runner.context import FlowInfo, LogLine, TaskRunContext, current_task_run
from daskflow.runner.core.states import RUNNING
from daskflow.runner.flow_rows import FlowFacts
from daskflow.runner.futures import TaskFuture
from daskflow.runner.hooks import HOOK_AT
from daskflow.runner.lifecycle import FlowLife
from daskflow.runner.reuse import Reuse
from daskflow.runner.state import State
from daskflow.runner.tagging import tags_of_flow_run
from daskflow.runner.travelling import pickled_parameters

if TYPE_CHECKING:
    from daskflow.runner.cluster.executor.active import ActiveParcel
    from daskflow.runner.flows import Flow
    from daskflow.runner.outcomes import Journal
    from daskflow.runner.tasks import Task

__all__ = ["FlowBegin", "NestedFlowRun", "UnseenFailure"]


class FlowBegin(NamedTuple):
    """A flow run that begins in a task, on its way to the driver."""

    parcel_id: int
    parent: int  # number of the task run in which it was called
    around: str | None  # a flow run that the task called, and which called this one
    facts: FlowFacts
    info: FlowInfo
    log_prints: bool
    flow: bytes | None  # pickled, for its hooks; None when it has none
    parameters: bytes | str  # as `pickled_parameters` makes it
    caching: FlowCacheOptions


class UnseenFailure(NamedTuple):
    """A task run that ended badly, as far as the flow's final state needs to know it."""

    token: str
    task_run_id: str
    label: str
    state: str
    message: str | None
    error: None = None
    looked_at: bool = False


class NestedFlowRun(FlowLife):
    """One flow run on a worker.

    Parameters
    ----------
    flow : Flow
    bound : inspect.BoundArguments
        Parameters, validated.
    caller : TaskRunContext
        The task run in which it was called.
    parcel : ActiveParcel
        That the task run is executed in.
    around : NestedFlowRun or None
        The flow run that called it, if the task run itself did not.

    Raises
    ------
    UsageError
        For a flow with a `task_runner` of its own.
    """

    def __init__(
        self,
        flow: Flow[Any, Any],
        bound: inspect.BoundArguments,
        caller: TaskRunContext,
        parcel: ActiveParcel,
        around: NestedFlowRun | None = None,
    ) -> None:
        if flow.task_runner is not None:
            raise UsageError(
                f"flow {flow.name} has a task_runner of its own ({flow.task_runner!r}), and was "
                f"called inside task {caller.task.name!r} on a worker, where the task runs of a "
                "flow go to the cluster of the flow run around it; call "
                "flow.with_options(task_runner=None) there, or call it in a flow"
            )
        outer = around.info if around else caller.flow
        assert outer is not None
        said = defaults_of(outer)
        info = FlowInfo(
            uuid.uuid4().hex,
            flow.run_name(bound.arguments),
            flow.name,
            tags_of_flow_run(outer.tags),
            outer.log_level,
            caching=said and said.inside(flow.caching),
        )
        inherited = around.log_prints if around else caller.task.log_prints
        super().__init__(flow, bound, info, around, inherited)
        self.parcel = parcel
        self.host = NestedHost(caller, parcel, info)
        self.hooks = HooksAtHome(parcel, info.id)
        self.constant, self.pace = self.host.constant, self.host.pace
        self._caller = caller
        self._channel = parcel.channel
        self._facts = FlowFacts.of(
            flow,
            bound.arguments,
            info,
            outer.id,
            None if around else caller.number,
        )
        self._outer_id = around.info.id if around else None
        self._reuse = Reuse() if flow.retries else None
        self._called = CalledTasks(self, self._reuse)
        self.call = self._called.call
        self.submit = self._submit
        self._submits = False
        self._started_at: float | None = None
        self._lines: deque[tuple[str, LogLine]] = deque()
        self._telling = threading.Lock()

    @classmethod
    def in_task(
        cls, flow: Flow[Any, Any], bound: inspect.BoundArguments, parcel: ActiveParcel
    ) -> NestedFlowRun:
        """A run of a flow that the current task run calls."""
        caller = current_task_run.get()
        assert caller is not None
        return cls(flow, bound, caller, parcel)

    def subflow(self, flow: Flow[Any, Any], bound: inspect.BoundArguments) -> FlowLife:
        caller = current_task_run.get()  # a task that this flow run has called, or none
        return NestedFlowRun(flow, bound, self._caller, self.parcel, None if caller else self)

    @property
    def journal(self) -> Journal:
        """Where direct calls of tasks are recorded."""
        return self._called.journal

    # -- what the driver is told ---------------------------------------------------------------

    def tell_driver(self, kind: str, *told: Any) -> None:
        """Tell the driver something about this flow run, after its log lines so far."""
        self.send_lines()
        self._channel.ask(kind, (self.info.id, *told))

    def ask_driver(self, kind: str, *asked: Any) -> Reply:
        """Ask the driver something about this flow run."""
        self.send_lines()
        return ask_driver(self._channel, kind, self.info.id, *asked)

    def log(self, line: LogLine) -> None:
        self.add_line(self.info.name, line)

    def add_line(self, label: str, line: LogLine) -> None:
        """Have a log line recorded and shown; the watchdog sends what stays for long."""
        self._lines.append((label, line))

    def send_lines(self) -> None:
        """Send the log lines so far."""
        with self._telling:  # in their order, whoever sends
            lines = [self._lines.popleft() for _ in range(len(self._lines))]
            if lines:
                self._channel.ask("flow_lines", (self.info.id, self._channel.worker, lines))

    def _capturing(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()  # the executor has seen to it

    def begin(self) -> None:
        self._started_at = time.time()
        hooked = any(self.flow.options.get(name) for name in HOOK_AT.values())
        self._channel.ask(
            "flow_begins",
            FlowBegin(
                self.parcel.order.parcel_id,
                self._caller.number,
                self._outer_id,
                self._facts,
                self.info,
                self.log_prints,
                _flow_bytes(self.flow) if hooked else None,
                pickled_parameters(self.parameters),
                self.flow.caching,
            ),
        )
        self._change(RUNNING, None)
        self.parcel.besides.append(self.send_lines)

    def _change(self, state: str, message: str | None) -> None:
        self.tell_driver(
            "flow_changes", time.time(), state, message, self.attempt, self._started_at
        )

    def tell(self, state: State) -> None:
        if self.flow.options.get(HOOK_AT.get(state.name, "")) is not None:
            self.tell_driver("flow_hooks", self.attempt, SentState.of(state, self.info.id))

    def conclude(self, state: State) -> State:
        with contextlib.suppress(ValueError):
            self.parcel.besides.remove(self.send_lines)
        self._change(state.name, state.message)
        self.tell(state)
        self.tell_driver("flow_ends")
        return state

    # -- its task runs -------------------------------------------------------------------------

    def _submit(
        self,
        task: Task[Any, Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        wait_for: Sequence[Any],
        pace: Any = None,
    ) -> TaskFuture[Any]:
        if self.deadline is not None:
            self.deadline.left()
        self._submits = True
        if self._reuse is None:
            return self.host.submit(task, args, kwargs, wait_for, pace)
        encoded, name = self.host.encoded(task, args, kwargs, wait_for)
        key = self._reuse.key("submit", task.name, encoded)
        if (known := self._reuse.earlier(key)) is not None:
            self.tell_driver("flow_reuses", known.task_run_id)
            return known  # type: ignore[no-any-return]
        future = self.host.submit_encoded(task, encoded, name, pace)
        self._reuse.remember(key, future)
        return future

    def give_way(self) -> None:
        self.parcel.make_way()

    def _settle(self, patience_s: float | None) -> Sequence[Any]:
        failed: list[Any] = list(self._called.failed)
        if self._submits:
            self.parcel.make_way()
            told = self.ask_driver("flow_settles").value(patience_s)
            failed += [seen_here(each[0]) or UnseenFailure(*each) for each in told or ()]
        return failed

    def _cancel(self, grace_s: float | None) -> None:
        if self._submits:
            self.tell_driver("flow_cancels")

    def _again(self) -> None:
        if self._reuse is not None:
            self._reuse.again()
        self._called.again()
        self.tell_driver("flow_again", self.attempt)


def _flow_bytes(flow: Flow[Any, Any]) -> bytes:
    """The flow for its hooks, which are called in the flow process.

    Raises
    ------
    UsageError
        When it does not pickle.
    """
    try:
        return cloudpickle.dumps(flow, pickle.HIGHEST_PROTOCOL)  # type: ignore[no-any-return]
    except Exception as error:
        raise UsageError(
            f"flow {flow.name} has hooks, which are called in the flow process, but cannot be sent "
            f"there ({error}); leave the hooks out with with_options(), or call it in a flow"
        ) from error
