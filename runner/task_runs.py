"""The task runs of one flow run: from a call or a submission of a task to a run of the driver.

A task is looked up once per flow run; what all its runs share is made then.  Submissions belong to
the driver's thread and direct calls to the caller's, so each has counters of its own.
"""

from __future__ import annotations

import functools
import itertools
import pickle
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from daskflow.config import Settings
from daskflow.runner.arguments import Encoded, encode_live
from daskflow.runner.cluster.called_tasks import Reserved
from daskflow.runner.cluster.protocol import BOUND_LIVE, Code
from daskflow.runner.code import code_of, source_digest
from daskflow.runner.context import FlowInfo, TaskInfo, current_task_run
from daskflow.runner.core.graph import Remote, Run, Scope, Stage
from daskflow.runner.core.retries import RetryPolicy
from daskflow.runner.core.states import COMPLETED, SUCCESSFUL
from daskflow.runner.foreign_futures import check_inputs
from daskflow.runner.futures import TaskFuture
from daskflow.runner.hook_thread import HookCalls
from daskflow.runner.inline import InlineShell
from daskflow.runner.pace import Announcer, Pace
from daskflow.runner.record import FlowRecord, as_json
from daskflow.runner.retry_asking import retry_condition
from daskflow.runner.reuse import Reuse
from daskflow.runner.shell import DriverShell
from daskflow.runner.store.rows import TaskRow
from daskflow.runner.tagging import current_tags
from daskflow.runner.task_codes import code_for
from daskflow.runner.task_uses import TaskUse, told_options
from daskflow.runner.telling import TaskHookCalls
from daskflow.runner.travelling import pickled_parameters

if TYPE_CHECKING:
    from daskflow.caching.plans import CachePlan
    from daskflow.runner.cache_plans import FlowCaching
    from daskflow.runner.cluster.nested import Ask
    from daskflow.runner.resuming import Resumption
    from daskflow.runner.tasks import Task

__all__ = ["TaskRuns"]


class TaskRuns:
    """Makes the task runs of one flow run and hands them to whoever executes them.

    Parameters
    ----------
    info : FlowInfo
        Of the flow run.
    log_prints : bool
        Prints of tasks that do not say otherwise are log lines.
    settings : Settings
    record : FlowRecord
    shell : DriverShell or InlineShell
        Executes what is submitted.
    caching : FlowCaching
        How its tasks cache.
    retries : int, default 0
        Of the flow: with any, what succeeded is remembered.
    calls : HookCalls, optional
        Who has hooks called; default: a thread of its own.
    resumption : Resumption, optional
        What the flow run did before it was resumed.

    Attributes
    ----------
    submitted, called : Scope
        What was submitted, and what was called directly.
    hooks : TaskHookCalls
        Of all its tasks.
    """

    def __init__(
        self,
        info: FlowInfo,
        log_prints: bool,
        settings: Settings,
        record: FlowRecord,
        shell: DriverShell | InlineShell,
        caching: FlowCaching,
        retries: int = 0,
        calls: HookCalls | None = None,
        resumption: Resumption | None = None,
    ) -> None:
        self._info = info._replace(caching=caching.defaults)
        self._log_prints = log_prints
        self._settings = settings
        self._defaults = settings.tasks
        self._record = self.record = record
        self._shell = self.shell = shell
        self._caching = self.caching = caching
        self._resumption = resumption
        self._travelling: FlowInfo | None = None  # what goes to workers, once it is needed
        self._next_number = shell.next_number
        self.submitted = Scope(info.id, record)
        self.called = Scope(info.id, record)
        self._base_tags = current_tags.get()
        self.hooks = TaskHookCalls(shell, calls)
        self._uses: dict[Task[Any, Any], TaskUse] = {}
        self._tagged: dict[tuple[Task[Any, Any], frozenset[str]], TaskUse] = {}
        self._indexes: dict[str, Callable[[], int]] = {}
        self._reuse = Reuse() if retries else None
        self._inputs = Stage(Scope("inputs"), "input", RetryPolicy())

    def submit(
        self,
        task: Task[Any, Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        wait_for: Sequence[Any],
        pace: Pace | Announcer | None = None,
    ) -> TaskFuture[Any]:
        """Hand a task run to the cluster; microseconds, no I/O."""
        task.check_arguments(args, kwargs)
        use = self._uses.get(task) or self._use(task)
        if (tags := current_tags.get()) is not self._base_tags:
            use = self._use_tagged(task, tags)
        stage = use.stage or self._submit_stage(task, use)
        shell = self._shell
        encoded = shell.encode(args, kwargs, wait_for, task.name)
        if encoded.deps:
            check_inputs(task.name, encoded.deps, self.submitted, shell, self._info)
        key = None
        if self._reuse is not None:
            key = self._reuse.key("submit", task.name, encoded)
            if (known := self._reuse.earlier(key)) is not None:
                self._reused(known._run)
                return known  # type: ignore[no-any-return]
        run = Run(  # as `_new_run`, without its call: this is the hot path
            stage,
            self._next_number(),
            encoded.payload,
            encoded.deps,
            time.time(),
            encoded.allowed,
            encoded.taken,
        )
        if (caller := current_task_run.get()) is not None:
            run.parents = (caller.number,)
        if task.names_runs:
            run.name = task.run_name(args, kwargs)
        if use.plan is not None and self._note(run, use.plan, task, args, kwargs):
            return self._taken_over(key, run)
        future: TaskFuture[Any] = TaskFuture(run, shell)
        if use.hooked:
            self.hooks.keep(future, run.number)
        if self._reuse is not None:
            self._reuse.remember(key, future)
        if pace is None:
            shell.submit(run)
        else:
            pace.submit(run)
        return future

    def _new_run(self, stage: Stage, given: Encoded | Ask, deps: tuple[Run, ...]) -> Run:
        number = self._next_number()
        return Run(stage, number, given.payload, deps, time.time(), given.allowed, given.taken)

    def nested_run(
        self, task: Task[Any, Any], parent: Run | None, ask: Ask, deps: tuple[Run, ...]
    ) -> Run:
        """A run that a task on a worker asked for; called by the driver's thread, not submitted."""
        task = self.same_task(task)
        use = self._use_with(task, ask.tags)
        stage = use.stage or self._submit_stage(task, use)
        run = self._new_run(stage, ask, deps)
        run.name, run.parents = ask.name, None if parent is None else (parent.number,)
        if use.plan is not None:
            from daskflow.runner.cache_notes import unknown_note  # only tasks that are cached pay

            run.cache = unknown_note(use.plan)
            if self._resumption is not None:
                run.cache.resumes(self._resumption, run)
        return run

    def inside(
        self,
        info: FlowInfo,
        log_prints: bool,
        record: FlowRecord,
        caching: FlowCaching,
        calls: HookCalls,
    ) -> TaskRuns:
        """The task runs of a flow run on a worker; they use the same cluster."""
        shared = info, log_prints, self._settings, record, self.shell
        return TaskRuns(*shared, caching, calls=calls)

    def reserve(self, task: Task[Any, Any], tags: frozenset[str], many: int) -> Reserved:
        """Numbers and names for runs that a worker executes itself."""
        use = self._use_with(self.same_task(task), tags)
        numbers = [self._next_number() for _ in range(many)]
        indexes = [use.next_index() for _ in range(many)]
        log_prints = self._task_info(task, use).log_prints
        own = use.number, use.policy, use.tags, log_prints, use.plan
        return Reserved(*own, numbers, indexes)

    def same_task(self, task: Task[Any, Any]) -> Task[Any, Any]:
        """The task that this flow run knows already, if `task` is a copy of it."""
        for known in list(self._uses):
            if known.name == task.name and known.options == task.options:
                if known.fn is task.fn or code_of(known.fn) == code_of(task.fn):
                    return known
        return task

    def call(self, task: Task[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Run:
        """A task run that the caller executes itself; its inputs are waited for, and here."""
        use = self._uses.get(task) or self._use(task)
        if (tags := current_tags.get()) is not self._base_tags:
            use = self._use_tagged(task, tags)
        stage = use.inline or self._inline_stage(task, use)
        encoded = encode_live(args, kwargs, ())
        check_inputs(task.name, encoded.deps, self.submitted, self._shell, self._info)
        key = None
        if self._reuse is not None:
            key = self._reuse.key("call", task.name, encoded)
            if (known := self._reuse.earlier(key)) is not None:
                self._reused(known)
                return known  # type: ignore[no-any-return]
        self._shell.wait_for(encoded.deps, None)
        deps = tuple(self._here(dep) for dep in encoded.deps)
        run = self._new_run(stage, encoded, deps)
        if task.names_runs:
            run.name = task.run_name(args, kwargs)
        if use.plan is not None and self._note(run, use.plan, task, args, kwargs, here=True):
            self._reused(run)
        if self._reuse is not None:
            self._reuse.remember(key, run)
        return run

    def _note(
        self,
        run: Run,
        plan: CachePlan,
        task: Task[Any, Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        here: bool = False,
    ) -> bool:
        """Hash the arguments of a run that may be cached; True when it was committed before."""
        from daskflow.runner.cache_notes import note_of  # only tasks that are cached pay for it

        warn = functools.partial(self._caching.warn, task.name)
        has_inputs = bool(run.deps) and any(dep.number >= 0 for dep in run.deps[: run.taken])
        places = self._caching.places
        note = note_of(plan, task.signature, args, kwargs, has_inputs, warn, places)
        run.cache, here = note, here or isinstance(self._shell, InlineShell)
        if self._resumption is not None:
            note.resumes(self._resumption, run)
            if self._resumption.take_over(run, here=here):
                return True
        if here:
            note.wanted = False
        return False

    def _taken_over(self, key: Any, run: Run) -> TaskFuture[Any]:
        """The future of a run that was committed before the flow run was resumed."""
        self._reused(run)
        future: TaskFuture[Any] = TaskFuture(run, self._shell)
        if self._reuse is not None:
            self._reuse.remember(key, future)
        return future

    def again(self, attempt: int) -> None:
        """The flow function is about to run again: new runs, for those that did not succeed."""
        if self._reuse is not None:
            self._reuse.again()
        self._info, self._travelling = self._info._replace(attempt=attempt), None
        self.submitted = Scope(self._info.id, self._record)
        self.called = Scope(self._info.id, self._record)
        for use in [*self._uses.values(), *self._tagged.values()]:
            use.stage = use.inline = None

    def _reused(self, run: Run) -> None:
        name = "daskflow.task_run.reused"
        if run.state not in SUCCESSFUL:  # quarantined: this attempt has a failure, too
            name = "daskflow.task_run.quarantined"
            run.looked_at = False
            self.submitted.failed.append(run)
        self._record.event(time.time(), name, run.task_run_id, run.number)

    def constant(self, task: Task[Any, Any], value: Any) -> Any:
        """An argument that every run of a map of `task` gets; a large one is sent once."""
        shell = self._shell
        if isinstance(shell, InlineShell) or shell.live:
            return value
        use = self._uses.get(task) or self._use(task)
        if use.stage is None:  # tells which modules travel, so it comes before any argument
            self._submit_stage(task, use)
        return shell.literals.constant(value, task.name)

    def _here(self, dep: Run) -> Run:
        """An input with its value in this process: remote ones are the driver's to count."""
        if dep.state not in SUCCESSFUL or (dep.kept and not isinstance(dep.value, Remote)):
            return dep
        copy = Run(self._inputs, dep.number, None, (), dep.created_at)
        copy.state = COMPLETED
        copy.value = (BOUND_LIVE, self._shell.value_of(dep, None))
        return copy

    # -- what the runs of a task share ---------------------------------------------------------

    def _use(self, task: Task[Any, Any]) -> TaskUse:
        use = self._uses[task] = self._new_use(task, self._base_tags)
        return use

    def _use_with(self, task: Task[Any, Any], tags: frozenset[str]) -> TaskUse:
        """A task as used on a worker, inside ``with tags(...)`` or not."""
        together = self._base_tags | tags
        if together == self._base_tags:
            return self._uses.get(task) or self._use(task)
        return self._use_tagged(task, together)

    def _use_tagged(self, task: Task[Any, Any], tags: frozenset[str]) -> TaskUse:
        use = self._tagged.get((task, tags))
        if use is None:
            use = self._tagged[task, tags] = self._new_use(task, tags)
        return use

    def _new_use(self, task: Task[Any, Any], tags: frozenset[str]) -> TaskUse:
        defaults = self._defaults
        policy = task.policy_with(
            defaults.retries, defaults.retry_delay_seconds, defaults.crash_retries
        )
        own = tuple(sorted(tags.union(task.tags, self._info.tags)))
        shown_tags, source = as_json(list(own)), source_digest(task.fn)
        number, first = len(self._uses) + len(self._tagged), 0
        if (before := self._resumption) is not None:
            number, first = before.numbers(task.name, shown_tags, source)
        next_index = self._indexes.setdefault(task.name, itertools.count(first).__next__)
        use = TaskUse(number, policy, next_index, own)
        use.plan = self._caching.plan(task)
        if before is not None and use.plan is not None:
            before.prepare(use.plan, source)
        self._record.task(
            TaskRow(
                use.number,
                task.name,
                task.version,
                shown_tags,
                source,
                as_json(told_options(task, policy)),
            )
        )
        return use

    def _submit_stage(self, task: Task[Any, Any], use: TaskUse) -> Stage:
        info = self._task_info(task, use)
        code = code_for(task, info, self._flow_info(), self._shell, use.plan)
        use.stage = self._stage(task, use, self.submitted, code)
        return use.stage

    def _inline_stage(self, task: Task[Any, Any], use: TaskUse) -> Stage:
        more = self._task_info(task, use), self._info, task.fn, task.timeout_s, use.plan
        code = Code("", None, task.is_async, *more)
        use.inline = self._stage(task, use, self.called, code)
        return use.inline

    def _stage(self, task: Task[Any, Any], use: TaskUse, scope: Scope, code: Code) -> Stage:
        stage = Stage(
            scope,
            task.name,
            use.policy,
            lane_key=task.lane,
            estimate=task.estimate,
            code=code,
            retry_if=retry_condition(task),
            number=use.number,
            next_index=use.next_index,
        )
        if self.hooks.add(stage, task):
            use.hooked = True
            self._record.hooks = self.hooks
        return stage

    def _flow_info(self) -> FlowInfo:
        """What goes along with the code of its tasks."""
        shell = self._shell
        if isinstance(shell, InlineShell) or shell.live:
            return self._info
        if self._travelling is None:
            parameters = pickled_parameters(self._caching.parameters)
            caching = pickle.dumps(self._caching.defaults, 5)
            self._travelling = self._info._replace(parameters=parameters, caching=caching)
        return self._travelling

    def _task_info(self, task: Task[Any, Any], use: TaskUse) -> TaskInfo:
        chosen = task.log_prints
        return TaskInfo(task.name, use.tags, self._log_prints if chosen is None else chosen)
