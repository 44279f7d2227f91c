"""What every execution of a task run has in common: its function, its context, how it is told.

Errors are values: nothing that user code raises, on loading, running or pickling, leaves here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from daskflow.runner.cluster.executor.active import ActiveParcel
from daskflow.runner.cluster.executor.errors import annotate, pickle_error
from daskflow.runner.cluster.executor.functions import function_of
from daskflow.runner.cluster.executor.timeouts import RanOut, tell_timed_out, timed_out
from daskflow.runner.cluster.executor.values import encode_result
from daskflow.runner.cluster.protocol import (
    BOUND_ERROR,
    BOUND_INPUT,
    BOUND_LIVE,
    ENDED_BADLY,
    ENDED_PROCESS,
    ENDED_WELL,
    Code,
    Item,
)
from daskflow.runner.context import TaskRunContext

__all__ = [
    "REPORT_BYTES",
    "Kept",
    "LoadedFunction",
    "context_of",
    "load_functions",
    "tell_error",
    "tell_result",
]

REPORT_BYTES = 262_144  # untold results are told when they exceed this

Kept = dict[int, tuple[int, Any]]
"""Results that later runs of the same parcel take: binding tag and value by number."""

LoadedFunction = Callable[..., Any] | BaseException
"""A function, or why it could not be loaded."""


def load_functions(codes: Sequence[Code]) -> list[LoadedFunction]:
    """The functions of a parcel, in the order of its codes."""
    return [_loaded(code) for code in codes]


def _loaded(code: Code) -> LoadedFunction:
    try:
        return function_of(code)
    except BaseException as error:  # unpickling imports user modules, which may raise anything
        annotate(
            error,
            f"daskflow: the function of task {code.task.name!r} could not be loaded on this worker",
        )
        return error


def context_of(parcel: ActiveParcel, item: Item) -> TaskRunContext:
    """What user code of one run can know of itself."""
    number, attempt, place, index, name, *_ = item
    code = parcel.order.codes[place]
    return TaskRunContext(code.flow, code.task, number, index, attempt, parcel.sink, name)


def tell_result(
    parcel: ActiveParcel,
    context: TaskRunContext,
    started_at: float,
    run_s: float,
    cpu_s: float | None,
    result: Any,
    kept: Kept | None,
) -> None:
    """Note that a run ended well; badly after all, when its result cannot leave the worker.

    Parameters
    ----------
    parcel : ActiveParcel
    context : TaskRunContext
        Of the run.
    started_at, run_s, cpu_s : float
    result : object
        What the function returned.
    kept : dict or None
        Where to put the result when a later run of the parcel takes it.
    """
    began = parcel.now()
    what = f"the result of {context.name} (a {type(result).__qualname__})"
    try:
        tag, value, size = encode_result(result, live=parcel.channel.live)
    except BaseException as error:  # user code: __reduce__ may raise anything
        annotate(
            error,
            f"daskflow: {what} cannot be pickled, so it cannot leave its worker; return plain "
            "data, or open such an object inside the task that needs it",
        )
        tell_error(parcel, context, started_at, run_s, cpu_s, error)
        return
    if tag == BOUND_INPUT:
        assert size is not None
        value = _key(parcel, context)
        try:
            parcel.channel.keep(value, result, size)
        except BaseException as error:  # the cluster, not the task
            annotate(error, f"daskflow: {what} could not be registered with the Dask scheduler")
            tell_error(parcel, context, started_at, run_s, cpu_s, error)
            return
    elif size is not None:
        parcel.untold_bytes += size
    if kept is not None:
        kept[context.number] = (BOUND_LIVE, result) if tag == BOUND_INPUT else (tag, value)
    encode_s = parcel.now() - began
    parcel.told.append(
        (context.number, ENDED_WELL, started_at, run_s, cpu_s, encode_s, tag, value, size)
    )


def _key(parcel: ActiveParcel, context: TaskRunContext) -> str:
    """The Dask key of a large result: never the same for two executions."""
    topic, parcel_id = parcel.order.topic.rpartition("-")[2], parcel.order.parcel_id
    return f"{context.task.name}-result-{topic}-{context.number}-{context.attempt}-{parcel_id}"


def tell_error(
    parcel: ActiveParcel,
    context: TaskRunContext,
    started_at: float,
    run_s: float,
    cpu_s: float | None,
    error: BaseException,
) -> None:
    """Note that a run ended with an exception, or that its time was over."""
    if isinstance(error, RanOut):
        late = timed_out(context, error.limit_s)
        late.__cause__ = error.__cause__
        tell_timed_out(parcel, context, started_at, run_s, cpu_s, late)
        return
    ended = ENDED_PROCESS if isinstance(error, (SystemExit, KeyboardInterrupt)) else ENDED_BADLY
    tag: int = BOUND_LIVE
    value: object = error  # same process: the exception itself, traceback and all
    if not parcel.channel.live:
        tag, value = BOUND_ERROR, (blob := pickle_error(error, context.id))
        parcel.untold_bytes += len(blob)
    parcel.told.append((context.number, ended, started_at, run_s, cpu_s, None, tag, value, None))
