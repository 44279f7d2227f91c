"""Flow runs whose function runs in a task on a worker: what the flow process does for them.

Their task runs are made here and belong to the one driver; their record, log lines and hooks come
as messages.  A flow run ends here too, as Crashed, when the task run that called it is over before
it has said how it ended.  Everything but hooks happens in the driver's thread.
"""

from __future__ import annotations

import contextvars
import pickle
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from daskflow.runner import progress
from daskflow.runner.cluster.called_tasks import Reserved
from daskflow.runner.cluster.nested_flows import FlowBegin
from daskflow.runner.cluster.sent_states import SentState
from daskflow.runner.context import FlowRunContext, LogLine, current_flow_run, current_task_run
from daskflow.runner.core.decisions import describe
from daskflow.runner.core.graph import Run, Scope
from daskflow.runner.core.states import CRASHED, FINAL, PENDING
from daskflow.runner.flow_rows import flow_run_row
from daskflow.runner.hook_thread import InContext
from daskflow.runner.hooks import HOOK_AT, FlowRunInfo, call_hooks
from daskflow.runner.logs import show
from daskflow.runner.mapping import MapLeftovers
from daskflow.runner.pace import Announcer, Pace
from daskflow.runner.record import FlowRecord
from daskflow.runner.results import unseen_failures
from daskflow.runner.travelling import TravelledParameters

if TYPE_CHECKING:
    from daskflow.runner.deadlines import Deadline
    from daskflow.runner.task_runs import TaskRuns
    from daskflow.runner.tasks import Task

__all__ = ["RemoteFlow"]

_ROWS = frozenset({"events", "task_runs", "transitions"})


class RemoteFlow:
    """One flow run on a worker; also what `runtime` shows to its hooks.

    Parameters
    ----------
    around : FlowRunContext
        The flow run in which it was called.
    outer : TaskRuns
        Of that flow run.
    begin : FlowBegin
    parent : Run
        The task run in which it was called.
    """

    deadline: Deadline | None = None
    is_async = False  # hooks are plain code in the flow process
    parcel = None
    resumption = None  # of a subflow that one of its hooks calls
    _account = None

    def __init__(
        self, around: FlowRunContext, outer: TaskRuns, begin: FlowBegin, parent: Run
    ) -> None:
        self.info, self.log_prints, self.attempt = begin.info, begin.log_prints, 1
        self.parent = parent
        self._begin = begin
        self._around = around
        self._state = PENDING
        self._started_at: float | None = None
        self.shell = outer.shell
        self.journal = self.shell.outlet
        self.record = FlowRecord(begin.info.id, outer.record.writer)
        self.record.name, self.record.home = begin.info.name, self.shell
        self.hooks = contextvars.copy_context().run(self._hooks_here, outer)
        self.caching = outer.caching.inside(begin.info, self.parameters, begin.caching)
        shared = begin.info, begin.log_prints, self.record, self.caching
        self.runs = outer.inside(*shared, self.hooks)
        # what its hooks may do: they are called in the flow process
        self.submit, self.call = self.runs.submit, self.runs.call
        self.constant = self.runs.constant
        self.map_leftovers = MapLeftovers()
        self.shell.outlet.open(self.scope)
        progress.announce(self, first=False)

    def _hooks_here(self, outer: TaskRuns) -> InContext:
        """Who calls its hooks: the thread of the flow run around it, with this one as current."""
        current_flow_run.set(self)
        current_task_run.set(None)
        return InContext(outer.hooks.calls)

    def subflow(self, flow: Any, bound: Any) -> Any:
        """A run of a flow that a hook calls."""
        return self._around.subflow(flow, bound)

    def pace(self, limit: int) -> Pace:
        """What submits the runs of a map with `max_in_flight`."""
        return self.map_leftovers.pace(limit, self.shell.submit)

    def announcer(self, tell: Callable[[Run], object]) -> Announcer:
        """What submits the runs of a map over an iterator."""
        return Announcer(tell, self.shell.submit)

    @property
    def scope(self) -> Scope:
        """Of the task runs that it has submitted in its present attempt."""
        return self.runs.submitted

    @property
    def scopes(self) -> tuple[Scope, Scope]:
        """For progress."""
        return self.runs.submitted, self.runs.called

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Parameters by name, a copy each time."""
        return TravelledParameters(self._begin.parameters)

    # -- what the worker tells -----------------------------------------------------------------

    def log(self, line: LogLine) -> None:
        """Record a line that a hook logged or printed."""
        self.record.logs([line], None)
        if line.logger == "print":  # other lines went through `logging`, which shows them
            show(line, self.info.name)

    def lines(self, worker: str, lines: Sequence[tuple[str, LogLine]]) -> None:
        """Log lines of the flow function and of the tasks that it called."""
        for label, line in lines:
            self.record.logs([line], None if line.number is None else worker)
            show(line, label)

    def rows(self, what: str, rows: Sequence[Any]) -> None:
        """Rows of tasks that it called."""
        writer = self.record.writer
        if writer is not None and what in _ROWS:
            getattr(writer, what)(self.info.id, rows)

    def change(
        self, at: float, state: str, message: str | None, attempt: int, started_at: float | None
    ) -> None:
        """It has a new state."""
        if self._state in FINAL:
            return
        self._state, self.attempt, self._started_at = state, attempt, started_at
        ended_at = at if state in FINAL else None
        text = self.shell.description
        self.record.flow_run(
            flow_run_row(self._begin.facts, state, message, attempt, started_at, ended_at, text)
        )
        self.record.flow_transition(at, state, message, attempt)

    def again(self, attempt: int) -> None:
        """Its function is about to run again."""
        self.runs.again(attempt)
        self.shell.outlet.open(self.scope)

    def reused(self, task_run_id: str) -> None:
        """A task run of an earlier attempt was used again."""
        number = int(task_run_id.rpartition("-")[2])
        self.record.event(time.time(), "daskflow.task_run.reused", task_run_id, number)

    def tell(self, attempt: int, sent: SentState) -> None:
        """Have the hooks of the flow called, soon."""
        if self._begin.flow is not None:
            self.hooks.put(self._call_hooks, attempt, sent)

    def _call_hooks(self, attempt: int, sent: SentState) -> None:
        assert self._begin.flow is not None
        flow, info = pickle.loads(self._begin.flow), self.info
        state = sent.load(info.id)
        run = FlowRunInfo(info.id, info.name, attempt, state, self.parameters, info.tags)
        call_hooks(flow.options[HOOK_AT[state.name]], flow, run, state)

    # -- what the worker asks ------------------------------------------------------------------

    def reserve(self, task: Task[Any, Any], tags: frozenset[str], many: int) -> Reserved:
        """Numbers and names for runs that the worker executes itself."""
        return self.runs.reserve(task, tags, many)

    def failures(self, token_of: Mapping[Run, str]) -> list[tuple[Any, ...]]:
        """Runs that ended badly, and that nobody has looked at: as `UnseenFailure` takes them."""
        return [
            (
                token_of.get(run, ""),
                run.task_run_id,
                run.label,
                run.state,
                describe(run.error) if run.error else run.message,
            )
            for run in unseen_failures(self.scope.failed)
        ]

    # -- its end -------------------------------------------------------------------------------

    def leave(self) -> None:
        """It has ended."""
        self.shell.outlet.shut(self.scope)

    def abandon(self) -> None:
        """The task run that called it is not executed any more."""
        if self._state not in FINAL:
            text = f"{self.parent.label}, the task run that called it, ended before it"
            self.change(time.time(), CRASHED, text, self.attempt, self._started_at)
            self.tell(self.attempt, SentState(CRASHED, text, None, ""))
        self.leave()
