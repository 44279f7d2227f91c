"""`@flow`: a function whose task runs are tracked, and which itself is a run."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Mapping
from typing import Any, Generic, ParamSpec, TypeVar, overload

from daskflow.errors import UsageError
from daskflow.runner.options import check_function, check_name, check_options

__all__ = ["Flow", "flow"]

P = ParamSpec("P")
R = TypeVar("R")

_OPTIONS: dict[str, Any] = {
    "name": None,
    "description": None,
    "version": None,
    "flow_run_name": None,
    "validate_parameters": True,
    "task_runner": None,
    "log_prints": False,
}


class Flow(Generic[P, R]):
    """A function under ``@flow``; calling it runs it.

    Attributes
    ----------
    fn : callable
        The plain function.
    name : str
    """

    def __init__(self, fn: Callable[P, R], **options: Any) -> None:
        check_function(fn, "@flow")
        check_options(options, _OPTIONS, "@flow")
        self.options: dict[str, Any] = {**_OPTIONS, **options}
        self.fn: Callable[..., Any] = fn
        functools.update_wrapper(self, fn)
        chosen = self.options
        default = getattr(fn, "__name__", type(fn).__name__).replace("<lambda>", "lambda")
        self.name = check_name(chosen["name"] or default.replace("_", "-"), "flow name")
        self.description = chosen["description"] or inspect.getdoc(fn)
        self.version = chosen["version"]
        self.task_runner = chosen["task_runner"]
        self.log_prints = bool(chosen["log_prints"])
        self.is_async = inspect.iscoroutinefunction(fn)
        self.signature = inspect.signature(fn)
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
        if callable(template):
            return check_name(str(template()), "flow run name")
        try:
            return check_name(str(template).format(**arguments), "flow run name")
        except (KeyError, IndexError, AttributeError, ValueError) as error:
            raise UsageError(
                f"flow_run_name={template!r} of {self.name} cannot be filled in: {error!r}; it may "
                f"use {', '.join(arguments)}"
            ) from error

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the flow and return its result; for an async flow, a coroutine.

        Parameters
        ----------
        *args, **kwargs
            For the function.  ``return_state=True`` returns the final `State` instead, and raises
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
        from daskflow.runner.engine import run_flow, run_flow_async  # only when something runs
        from daskflow.runner.parameters import bind_parameters

        bound = bind_parameters(
            self.fn,
            self.signature,
            args,
            kwargs,
            flow_name=self.name,
            validate=self.options["validate_parameters"],
        )
        if self.is_async:

            async def run() -> Any:
                state = await run_flow_async(self, bound)
                return state if return_state else state.result()

            return run()  # type: ignore[return-value]
        state = run_flow(self, bound)
        return state if return_state else state.result()  # type: ignore[return-value]

    def with_options(self, **options: Any) -> Flow[P, R]:
        """A copy of this flow with other options."""
        check_options(options, _OPTIONS, f"{self.name}.with_options()")
        return Flow(self.fn, **{**self.options, **options})

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """A flow that is a method gets its instance as the first argument."""
        return self if instance is None else functools.partial(self, instance)

    def __reduce__(self) -> Any:
        return _rebuild, (self.fn, self.options)

    def __repr__(self) -> str:
        return f"<Flow {self.name}>"


def _rebuild(fn: Callable[..., Any], options: dict[str, Any]) -> Flow[Any, Any]:
    return Flow(fn, **options)


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
    validate_parameters : bool, default True
        Validate and coerce parameters from their annotations.
    task_runner : optional
        Where task runs execute: ``"processes"`` (default), ``"threads"``, ``"sync"``, an address
        such as ``"tcp://host:8786"``, a Dask cluster or client, or a `DaskTaskRunner`.  A subflow
        uses its parent's unless it names one.
    log_prints : bool, default False
        Record prints of the flow, and of its tasks, as log lines.

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
