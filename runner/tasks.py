"""`@task`: a function that daskflow can run, retry and record."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from daskflow.errors import UsageError
from daskflow.runner.arguments import check_call, check_waits
from daskflow.runner.cache_plans import CACHE_OPTIONS, check_cache_options
from daskflow.runner.callables import plain_arity
from daskflow.runner.context import current_flow_run, current_parcel, current_task_run
from daskflow.runner.core.graph import Estimate, LaneKey
from daskflow.runner.core.retries import RetryPolicy, validate_delays
from daskflow.runner.definitions import Definition
from daskflow.runner.future_lists import FutureList
from daskflow.runner.futures import TaskFuture, allow_failure, unmapped
from daskflow.runner.hooks import TASK_HOOKS, TaskHooks
from daskflow.runner.mapping import run_map
from daskflow.runner.options import (
    check_callable,
    check_count,
    check_factor,
    check_options,
    check_priority,
    check_resources,
    check_tags,
    check_template,
    check_timeout,
    check_timeout_mode,
    check_workers,
    fill_template,
)

if TYPE_CHECKING:
    from daskflow.caching.code import CodeDigest
    from daskflow.runner.cluster.nested import NestedHost
    from daskflow.runner.engine import FlowRun

__all__ = ["Task", "task"]

P = ParamSpec("P")
R = TypeVar("R")

_OPTIONS: dict[str, Any] = {
    "name": None,
    "description": None,
    "tags": (),
    "version": None,
    "task_run_name": None,
    "retries": None,
    "retry_delay_seconds": None,
    "retry_jitter_factor": 0.0,
    "retry_condition_fn": None,
    "crash_retries": None,
    "timeout_seconds": None,
    "timeout_mode": "soft",
    "log_prints": None,
    "resources": None,
    "priority": 0,
    "workers": None,
    **CACHE_OPTIONS,
    "on_running": None,
    "on_completion": None,
    "on_failure": None,
    "on_crashed": None,
    "on_retry": None,
}


class Task(Definition[P, R], TaskHooks):
    """A function under ``@task``.

    Calling it runs it in this process, tracked; `submit` and `map` run it on the flow's cluster.

    Attributes
    ----------
    fn : callable
        The plain function.
    name : str
    """

    def __init__(self, fn: Callable[P, R], **options: Any) -> None:
        super().__init__(fn, options, _OPTIONS, "task", hooks=TASK_HOOKS)
        chosen = self.options
        self.tags = check_tags(chosen["tags"])
        self.timeout_s = check_timeout("timeout_seconds", chosen["timeout_seconds"])
        self.names_runs = chosen["task_run_name"] is not None
        check_template("task_run_name", chosen["task_run_name"])
        self.retry_condition_fn = check_callable("retry_condition_fn", chosen["retry_condition_fn"])
        self.hard = check_timeout_mode(chosen["timeout_mode"], self.timeout_s, self.is_async)
        self.lane = LaneKey(
            check_priority(chosen["priority"]),
            self.is_async,
            check_resources(chosen["resources"]),
            check_workers(chosen["workers"]),
        )
        self.caching = check_cache_options(chosen)
        self.policy = self._policy(0, 0.0, 3)  # checks; the flow run fills in the settings
        self.estimate = Estimate()

    @functools.cached_property
    def code_digest(self) -> CodeDigest:
        """Digest of the function's code and of what it reaches, for cache keys."""
        from daskflow.caching.code import code_digest  # only tasks that are cached pay for it

        return code_digest(self.fn)

    @functools.cached_property
    def _plain_arity(self) -> tuple[int, int] | None:
        return plain_arity(self.signature)

    def _policy(self, retries: int, delay_s: float, crash_retries: int) -> RetryPolicy:
        chosen = self.options
        if chosen["retries"] is not None:
            retries = check_count("retries", chosen["retries"])
        if chosen["crash_retries"] is not None:
            crash_retries = check_count("crash_retries", chosen["crash_retries"])
        delays = chosen["retry_delay_seconds"]
        return RetryPolicy(
            retries,
            validate_delays(delay_s if delays is None else delays, retries),
            check_factor("retry_jitter_factor", chosen["retry_jitter_factor"]),
            crash_retries,
        )

    def policy_with(self, retries: int, delay_s: float, crash_retries: int) -> RetryPolicy:
        """The retry policy, with these defaults for what the task leaves open."""
        return self._policy(retries, delay_s, crash_retries)

    def run_name(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
        """The name that `task_run_name` gives a run with these arguments; None for the default."""
        template = self.options["task_run_name"]
        if template is None:
            return None
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return fill_template("task_run_name", template, bound.arguments, self.name)

    def check_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raise `UsageError` when a call does not fit the function's signature."""
        arity = self._plain_arity
        if kwargs or arity is None or not arity[0] <= len(args) <= arity[1]:
            check_call(self.signature, args, kwargs, f"task {self.name}")

    # -- running -------------------------------------------------------------------------------

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the task in this process and return its result.

        Retries apply; inside a flow the run is recorded.  No cluster is started.  For an async
        task this returns a coroutine.
        """
        return_state = bool(kwargs.pop("return_state", False))
        from daskflow.runner.direct import call_directly  # the engine: only when something runs

        return call_directly(self, args, kwargs, return_state)  # type: ignore[no-any-return]

    def submit(
        self,
        *args: Any,
        wait_for: Sequence[TaskFuture[Any] | allow_failure] | None = None,
        return_state: bool = False,
        **kwargs: Any,
    ) -> TaskFuture[R]:
        """Run the task on the flow's cluster.

        Parameters
        ----------
        *args, **kwargs
            For the function.  Futures, at any depth, are replaced by their results and make the
            run depend on them.
        wait_for : sequence of TaskFuture, optional
            Runs that have to be over first, though their results are not needed.
        return_state : bool, default False
            Wait, and return the final `State` instead of a future.

        Returns
        -------
        TaskFuture

        Raises
        ------
        UsageError
            Outside of a flow, for arguments that do not fit the signature, and for those that
            cannot be sent.
        """
        flow_run: Any = current_flow_run.get()
        if flow_run is None:
            flow_run = _flow_run(f"{self.name}.submit()")
        future: TaskFuture[R] = flow_run.submit(self, args, kwargs, wait_for or ())
        if return_state:
            future.wait()
            return future.state  # type: ignore[return-value]
        return future

    def map(
        self,
        *args: Any,
        wait_for: Sequence[TaskFuture[Any] | allow_failure] | None = None,
        return_state: bool = False,
        tolerate: int | float | None = None,
        max_in_flight: int | None = None,
        **kwargs: Any,
    ) -> FutureList[R]:
        """Run the task once per item of its arguments.

        Parameters
        ----------
        *args, **kwargs
            Iterables of equal length.  A text, something that cannot be iterated, and whatever
            is `unmapped`, goes to every run as it is.  A future stands for its result.
        wait_for, return_state
            As for `submit`.
        tolerate : int or float, optional
            How many runs may fail, as a number or as a fraction of them, without the flow failing
            for it; for more than that, `result` of the list and the flow raise `TooManyFailed`.
        max_in_flight : int, optional
            Runs of this map that are submitted and not final, at the most.  The end of one submits
            the next; nobody waits for room.

        Returns
        -------
        FutureList
            One future per item, in order.  For iterators, which may go on for ever, a stream of
            them: it takes an item when somebody waits for a future, so iterate over it, with
            ``async for`` in async code, or hand it to `as_completed`; `result`, `ok` and the rest
            take all items.

        Raises
        ------
        UsageError
            For iterables of unequal lengths, or when nothing can be iterated.
        """
        flow_run = _flow_run(f"{self.name}.map()")
        futures: FutureList[R] = run_map(
            self, flow_run, args, kwargs, check_waits(wait_for), tolerate, max_in_flight
        )
        if return_state:
            futures.wait()
            return [future.state for future in futures]  # type: ignore[return-value]
        return futures

    def with_options(self, **options: Any) -> Task[P, R]:
        """A copy of this task with other options."""
        check_options(options, _OPTIONS, f"{self.name}.with_options()")
        copy: Task[P, R] = self._copy(options)
        copy.estimate = self.estimate  # it is the same function: what is known of it stays known
        return copy

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """A task that is a method gets its instance, or its class, as the first argument."""
        if self._kind is classmethod:
            return _BoundTask(self, owner if instance is None else type(instance))
        if self._kind is staticmethod or instance is None:
            return self
        return _BoundTask(self, instance)


class _BoundTask:
    """A task that is a method, with its instance."""

    def __init__(self, task: Task[Any, Any], instance: Any) -> None:
        self._task, self._instance = task, instance

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._task(self._instance, *args, **kwargs)

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        """As `Task.submit`; the instance travels as an argument."""
        return self._task.submit(self._instance, *args, **kwargs)

    def map(self, *args: Any, **kwargs: Any) -> Any:
        """As `Task.map`; the instance goes to every run."""
        return self._task.map(unmapped(self._instance), *args, **kwargs)

    def with_options(self, **options: Any) -> _BoundTask:
        """As `Task.with_options`."""
        return _BoundTask(self._task.with_options(**options), self._instance)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)


def _flow_run(call: str) -> FlowRun | NestedHost:
    flow_run = current_flow_run.get()
    if flow_run is None:
        context, handle = current_task_run.get(), current_parcel.get()
        parcel = handle() if handle is not None else None
        if context is not None and parcel is not None:
            from daskflow.runner.cluster.nested import NestedHost  # workers only, and few tasks

            return NestedHost(context, parcel)
        raise UsageError(
            f"{call} was called outside of a flow; call it in a function under @flow, or run the "
            "task here by calling it directly (a thread that a flow starts is inside of it with "
            "contextvars.copy_context().run as its target)"
        )
    return flow_run  # type: ignore[return-value]


@overload
def task(fn: Callable[P, R], /) -> Task[P, R]: ...
@overload
def task(fn: None = None, /, **options: Any) -> Callable[[Callable[P, R]], Task[P, R]]: ...
def task(fn: Any = None, /, **options: Any) -> Any:
    """Make a task of a function, plain or async.

    Parameters
    ----------
    name, description, version : str, optional
        Default: the function's name and docstring.
    tags : iterable of str, optional
    task_run_name : str or callable, optional
        Template with the arguments' names, such as ``"extract-{month}"``.
    retries : int, default 0
        Further attempts after an exception.
    retry_delay_seconds : float, list of float, or callable, default 0
        Seconds before each of them; a callable gets `retries` and returns a list.
    retry_jitter_factor : float, default 0
        Delays are stretched by a random factor between 1 and 1 + this.
    retry_condition_fn : callable, optional
        ``(task, task_run, state) -> bool``; False gives up.
    crash_retries : int, default 3
        Further executions after a worker was lost while executing the run.
    timeout_seconds : float, optional
        How long one attempt may take; one that takes longer is TimedOut, and spends a retry.
    timeout_mode : {"soft", "hard"}, default "soft"
        Hard: the body runs in a child process, which is killed when its time is over.
    log_prints : bool, optional
        Record prints as log lines; default: what the flow says.
    resources : dict, optional
        Dask resources that the worker must have, such as ``{"GPU": 1}``.
    priority : int, default 0
        Higher goes first.
    workers : str or list of str, optional
        Addresses or names of the workers that may run it.
    cache_policy : CachePolicy, optional
        What a result is found by again: `INPUTS`, `TASK_SOURCE`, `RUN_ID`, `FLOW_PARAMETERS`,
        added with ``+``, an argument left out with ``- "name"``; `NO_CACHE` for none.  Default:
        ``INPUTS + TASK_SOURCE`` for tasks that ask for caching by one of the options below.
    cache_key_fn : callable, optional
        ``(context, arguments) -> str or None``: the key itself; None does not cache.
    cache_expiration : timedelta or float, optional
        How long a result is good for, in seconds where it is a number.
    refresh_cache : bool, optional
        Look nothing up, and replace what is there.
    persist_result : bool, optional
        Keep results in the result store; a run whose result cannot be stored fails.
    result_storage : str, optional
        Folder or URL of the result store; default: what the flow or the settings say.
    on_running, on_completion, on_failure, on_crashed, on_retry : callable or list, optional
        Hooks, ``(task, task_run, state) -> None``, called in the flow process.

    Raises
    ------
    UsageError
        For an option that does not exist, a value that cannot be, or something that is no
        function.
    """
    if fn is None:
        check_options(options, _OPTIONS, "@task")
        return lambda function: Task(function, **options)
    return Task(fn, **options)
