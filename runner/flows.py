"""`@flow`: a function whose task runs are tracked, and which itself is a run."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from daskflow.runner.cache_plans import FlowCacheOptions, check_storage
from daskflow.runner.context import current_flow_run, current_parcel, current_task_run
from daskflow.runner.definitions import Definition
from daskflow.runner.hooks import FLOW_HOOKS, FlowHooks
from daskflow.runner.options import (
    check_count,
    check_options,
    check_seconds,
    check_switch,
    check_template,
    check_timeout,
    fill_template,
)

if TYPE_CHECKING:
    from daskflow.runner.lifecycle import FlowLife

__all__ = ["Flow", "flow"]

P = ParamSpec("P")
R = TypeVar("R")

_OPTIONS: dict[str, Any] = {
    "name": None,
    "description": None,
    "version": None,
    "flow_run_name": None,
    "retries": 0,
    "retry_delay_seconds": 0.0,
    "timeout_seconds": None,
    "validate_parameters": True,
    "task_runner": None,
    "persist_result": None,
    "result_storage": None,
    "log_prints": None,
    "cancel_grace_seconds": 10.0,
    "on_running": None,
    "on_completion": None,
    "on_failure": None,
    "on_crashed": None,
    "on_cancellation": None,
}


class Flow(Definition[P, R], FlowHooks):
    """A function under ``@flow``; calling it runs it.

    Attributes
    ----------
    fn : callable
        The plain function.
    name : str
    """

    def __init__(self, fn: Callable[P, R], **options: Any) -> None:
        super().__init__(fn, options, _OPTIONS, "flow", hooks=FLOW_HOOKS, dashes=True)
        chosen = self.options
        self.task_runner = chosen["task_runner"]
        self.cancel_grace_seconds = check_seconds(
            "cancel_grace_seconds", chosen["cancel_grace_seconds"]
        )
        self.retries = check_count("retries", chosen["retries"])
        self.retry_delay_s = check_seconds("retry_delay_seconds", chosen["retry_delay_seconds"])
        self.timeout_s = check_timeout("timeout_seconds", chosen["timeout_seconds"])
        self.caching = FlowCacheOptions(
            check_switch("persist_result", chosen["persist_result"]),
            check_storage(chosen["result_storage"]),
        )
        check_switch("validate_parameters", chosen["validate_parameters"])
        check_template("flow_run_name", chosen["flow_run_name"])
        if self.task_runner is not None:
            from daskflow.runner.cluster.providers import resolve_task_runner  # checks the value

            resolve_task_runner(self.task_runner)

    @property
    def entrypoint(self) -> str | None:
        """Where the function is defined: ``path/file.py:name``."""
        try:
            file = inspect.getsourcefile(self.fn)
        except TypeError:
            return None
        if not file:
            return None
        return f"{os.path.relpath(file)}:{getattr(self.fn, '__qualname__', self.name)}"

    @functools.cached_property
    def code_digest(self) -> str | None:
        """Digest of the function's source."""
        from daskflow.runner.code import source_digest  # loads cloudpickle

        return source_digest(self.fn)

    def run_name(self, arguments: Mapping[str, Any]) -> str:
        """Name of a run with these parameters: from `flow_run_name`, or two words."""
        template = self.options["flow_run_name"]
        if template is None:
            import coolname  # loads word lists

            return str(coolname.generate_slug(2))
        return fill_template("flow_run_name", template, arguments, self.name)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the flow and return its result; for an async flow, a coroutine.

        Parameters
        ----------
        *args, **kwargs
            For the function; futures, at any depth, are waited for and replaced by their results.
            ``return_state=True`` returns the final `State` instead, and raises
            nothing that the flow ended with.

        Raises
        ------
        ParameterError
            When parameters do not fit; nothing has started.
        FlowFailed
            When the function returned, but task runs ended badly and nobody looked.
        BaseException
            What the function raised.
        """
        return_state = bool(kwargs.pop("return_state", False))
        from daskflow.runner.lifecycle import run_to_end, run_to_end_async  # when something runs
        from daskflow.runner.parameters import bind_parameters, holds_futures

        def bind() -> inspect.BoundArguments:
            return bind_parameters(
                self.fn,
                self.signature,
                args,
                kwargs,
                flow_name=self.name,
                validate=self.options["validate_parameters"],
            )

        if self.is_async:
            import asyncio  # heavy for scripts without async code

            early = None if holds_futures((args, kwargs)) else bind()

            async def run() -> Any:
                # waiting for the results of futures must not hold up the event loop
                bound = await asyncio.to_thread(bind) if early is None else early
                state = await run_to_end_async(self._new_run(bound))
                return state if return_state else state.result()

            return run()  # type: ignore[return-value]
        state = run_to_end(self._new_run(bind()))
        return state if return_state else state.result()  # type: ignore[return-value]

    def _new_run(self, bound: inspect.BoundArguments) -> FlowLife:
        """A run of this flow, made by the flow run around it, or where there is none."""
        if (around := current_flow_run.get()) is not None:
            return around.subflow(self, bound)  # type: ignore[no-any-return]
        handle = current_parcel.get() if current_task_run.get() is not None else None
        if handle is not None and (parcel := handle()) is not None:
            from daskflow.runner.cluster.nested_flows import NestedFlowRun  # workers only

            return NestedFlowRun.in_task(self, bound, parcel)
        from daskflow.runner.engine import FlowRun  # store and cluster: only when something runs

        return FlowRun(self, bound)

    def with_options(self, **options: Any) -> Flow[P, R]:
        """A copy of this flow with other options."""
        check_options(options, _OPTIONS, f"{self.name}.with_options()")
        return self._copy(options)  # type: ignore[no-any-return]

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """A flow that is a method gets its instance, or its class, as the first argument."""
        if self._kind is classmethod:
            first: Any = owner if instance is None else type(instance)
            return functools.partial(self, first)
        if self._kind is staticmethod or instance is None:
            return self
        return functools.partial(self, instance)


@overload
def flow(fn: Callable[P, R], /) -> Flow[P, R]: ...
@overload
def flow(fn: None = None, /, **options: Any) -> Callable[[Callable[P, R]], Flow[P, R]]: ...
def flow(fn: Any = None, /, **options: Any) -> Any:
    """Make a flow of a function, plain or async.

    Parameters
    ----------
    name, description, version : str, optional
        Default: the function's name, with dashes, and its docstring.
    flow_run_name : str or callable, optional
        Template with the parameters' names, such as ``"etl-{day}"``; default: two random words.
    retries : int, default 0
        Further attempts after a failed one: the function runs again, and task runs that succeeded
        are not run again.
    retry_delay_seconds : float, default 0
        Seconds before each of them.
    timeout_seconds : float, optional
        How long an attempt may take, with its task runs.
    validate_parameters : bool, default True
        Validate and coerce parameters from their annotations.
    task_runner : optional
        Where task runs execute: ``"processes"`` (default), ``"threads"``, ``"sync"``, an address
        such as ``"tcp://host:8786"``, a Dask cluster or client, or a `DaskTaskRunner`.  A subflow
        uses its parent's unless it names one.
    persist_result : bool, optional
        What its tasks do that do not say it themselves.
    result_storage : str, optional
        Folder or URL where its tasks keep results.
    log_prints : bool, optional
        Record prints of the flow, and of its tasks and subflows that do not say otherwise, as
        log lines.
    cancel_grace_seconds : float, default 10
        How long running task runs have to end after Ctrl-C, or when the run is cancelled.
    on_running, on_completion, on_failure, on_crashed, on_cancellation : callable or list, optional
        Hooks, ``(flow, flow_run, state) -> None``.

    Raises
    ------
    UsageError
        For an option that does not exist, a value that cannot be, or something that is no
        function.
    """
    if fn is None:
        check_options(options, _OPTIONS, "@flow")
        return lambda function: Flow(function, **options)
    return Flow(fn, **options)
