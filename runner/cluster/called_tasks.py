"""Direct calls of tasks in a flow that runs on a worker: executed here, recorded like all others.

The driver counts them: it reserves numbers and names, more at a time the more calls there are, and
says which policy, tags and prints hold for a task in this flow run.
"""

from __future__ import annotations

import functools
import logging
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from daskflow.runner.arguments import encode_live
from daskflow.runner.cluster.nested import on_wire
from daskflow.runner.cluster.protocol import BOUND_LIVE, Code
from daskflow.runner.context import FLOW_LOGGER, LogLine, TaskInfo
from daskflow.runner.core.graph import CacheNote, Run, Scope, Stage
from daskflow.runner.core.leases import Lease
from daskflow.runner.core.retries import RetryPolicy
from daskflow.runner.core.states import COMPLETED, FINAL, SUCCESSFUL
from daskflow.runner.outcomes import Journal
from daskflow.runner.record import FlowRecord
from daskflow.runner.retry_asking import retry_condition
from daskflow.runner.store.rows import EventRow, FlowRunRow, LogRow, TaskRow, TransitionRow
from daskflow.runner.telling import TaskHookCalls

if TYPE_CHECKING:
    from daskflow.caching.plans import CachePlan
    from daskflow.runner.cluster.nested_flows import NestedFlowRun
    from daskflow.runner.reuse import Reuse
    from daskflow.runner.tasks import Task

__all__ = ["CalledTasks", "Reserved"]

_MOST_AT_A_TIME = 64

_logger = logging.getLogger(FLOW_LOGGER)


class Reserved(NamedTuple):
    """What the driver says of runs that a worker is about to execute."""

    task_number: int
    policy: RetryPolicy
    tags: tuple[str, ...]
    log_prints: bool
    plan: CachePlan | None
    numbers: list[int]
    indexes: list[int]


class _Use:
    """A task as called in this flow run."""

    def __init__(self, stage: Stage, plan: CachePlan | None) -> None:
        self.stage = stage
        self.plan = plan
        self.reserved: deque[tuple[int, int]] = deque()  # number and index
        self.taken = 0


class CalledTasks:
    """The tasks that one flow run on a worker calls directly.

    Parameters
    ----------
    flow_run : NestedFlowRun
    reuse : Reuse or None
        Remembers what has succeeded, for a flow with retries.
    """

    def __init__(self, flow_run: NestedFlowRun, reuse: Reuse | None) -> None:
        self.journal = Journal()
        self._flow_run = flow_run
        self._reuse = reuse
        self._record = FlowRecord(flow_run.info.id, _Told(flow_run))
        self._hooks = TaskHookCalls(None, flow_run.hooks)
        self._inputs = Stage(Scope("inputs"), "input", RetryPolicy())
        self.again()

    def again(self) -> None:
        """The flow function is about to run again."""
        self._scope = Scope(self._flow_run.info.id, self._record)
        self._uses: dict[tuple[Task[Any, Any], frozenset[str]], _Use] = {}

    @property
    def failed(self) -> Sequence[Run]:
        """Runs that ended badly, since the last attempt began."""
        return self._scope.failed

    def call(self, task: Task[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Run:
        """A task run that the caller executes itself; its inputs are waited for, and here."""
        encoded = encode_live(args, kwargs, ())
        key = None
        if self._reuse is not None:
            key = self._reuse.key("call", task.name, encoded)
            if (known := self._reuse.earlier(key)) is not None:
                self._flow_run.tell_driver("flow_reuses", known.task_run_id)
                return known  # type: ignore[no-any-return]
        self._flow_run.host.wait_for(encoded.deps, None)
        deps = tuple(self._here(dep) for dep in encoded.deps)
        tags = self._flow_run.host.own_tags()
        use = self._uses.get((task, tags))
        if use is None or not use.reserved:
            use = self._reserve(task, tags, use)
        number, index = use.reserved.popleft()
        use.taken += 1
        run = Run(
            use.stage, number, encoded.payload, deps, time.time(), encoded.allowed, encoded.taken
        )
        run.index = index
        if task.names_runs:
            run.name = task.run_name(args, kwargs)
        if use.plan is not None:
            run.cache = _note(use.plan, task, args, kwargs, bool(deps))
        if self._reuse is not None:
            self._reuse.remember(key, run)
        return run

    def _reserve(self, task: Task[Any, Any], tags: frozenset[str], use: _Use | None) -> _Use:
        many = 1 if use is None else min(use.taken, _MOST_AT_A_TIME)
        flow_run = self._flow_run
        with on_wire(flow_run.parcel, task) as (digest, blob):
            reply = flow_run.ask_driver("reserve", digest, blob, tags, many)
        reserved = Reserved(*reply.value())
        if use is None:
            use = self._uses[task, tags] = _Use(self._stage(task, reserved), reserved.plan)
        use.reserved.extend(zip(reserved.numbers, reserved.indexes, strict=True))
        return use

    def _stage(self, task: Task[Any, Any], reserved: Reserved) -> Stage:
        info = TaskInfo(task.name, reserved.tags, reserved.log_prints)
        flow = self._flow_run.info._replace(attempt=self._flow_run.attempt)
        stage = Stage(
            self._scope,
            task.name,
            reserved.policy,
            lane_key=task.lane,
            code=Code("", None, task.is_async, info, flow, task.fn, task.timeout_s, reserved.plan),
            retry_if=retry_condition(task),
            number=reserved.task_number,
        )
        if self._hooks.add(stage, task):
            self._record.hooks = self._hooks
        return stage

    def _here(self, dep: Any) -> Run:
        """An input of which this process knows by its future only."""
        copy = Run(self._inputs, 0, None, (), 0.0)
        copy.name = dep.label
        assert dep.state in FINAL
        if dep.state in SUCCESSFUL:
            copy.value = BOUND_LIVE, self._flow_run.host.value_of(dep, None)
            copy.state = COMPLETED
        else:
            copy.error, copy.message, copy.state = dep.error, dep.message, dep.state
            dep.looked_at = True  # the caller gets the error
        return copy


def _note(
    plan: CachePlan,
    task: Task[Any, Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    has_inputs: bool,
) -> CacheNote:
    # only tasks that are cached pay for it
    from daskflow.runner.cache_notes import note_of, unknown_note

    if has_inputs:
        return unknown_note(plan)  # whoever executes it has the values
    warn = functools.partial(_logger.warning, "task %s runs uncached: %s", task.name)
    note = note_of(plan, task.signature, args, kwargs, False, warn)
    note.wanted = False  # whoever executes it looks it up
    return note


class _Told:
    """Takes the record of calls, as a store's writer does, and tells the flow process of it."""

    lease: Lease | None = None  # it is the flow process that holds one
    claims: Any = None  # and those

    def __init__(self, flow_run: NestedFlowRun) -> None:
        self._flow_run = flow_run

    def task_runs(self, flow_run_id: str, rows: Sequence[Any]) -> None:
        """Rows of task runs."""
        worker, pid = self._flow_run.parcel.channel.worker, self._flow_run.parcel.channel.pid
        told = [(*row[:15], row[15] and worker, row[16] and pid, *row[17:]) for row in rows]
        self._flow_run.tell_driver("flow_record", "task_runs", told)

    def transitions(self, flow_run_id: str, rows: Sequence[TransitionRow]) -> None:
        """Changes of their states."""
        self._flow_run.tell_driver("flow_record", "transitions", [tuple(row) for row in rows])

    def logs(self, flow_run_id: str, rows: Sequence[LogRow]) -> None:
        """Log lines."""
        for row in rows:
            line = LogLine(*row[:6])
            self._flow_run.add_line(self._flow_run.info.name, line)

    def events(self, flow_run_id: str, rows: Sequence[EventRow]) -> None:
        """Events."""
        self._flow_run.tell_driver("flow_record", "events", [tuple(row) for row in rows])

    def tasks(self, flow_run_id: str, rows: Sequence[TaskRow]) -> None:
        """The driver has recorded the task when it reserved its numbers."""

    def flow_run(self, row: FlowRunRow) -> None:
        """The driver makes the row of the flow run."""

    def flush(self, timeout_s: float = 30.0) -> bool:
        """What was told is on its way."""
        return True

    def close(self, timeout_s: float = 30.0) -> None:
        """The writer is the flow process's."""
