"""Soft timeouts: a run that takes too long is told as timed out, whatever its body does later.

An async body is cancelled.  A thread cannot be stopped, so a plain body is only waited for no
longer: the watchdog tells the driver, and the thread keeps its slot until the body ends.  A task
that wants it hard has its body in a child process, which is killed.

Invariant: a run with a timeout has a clock in `ActiveParcel.clocks` while its body executes, and
whoever takes the clock out, the end of the body or the watchdog, is the only one to tell.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

from daskflow.errors import TaskTimedOut
from daskflow.runner.cluster.executor.active import ActiveParcel, LeftBehind
from daskflow.runner.cluster.executor.child import OutOfTime, call_in_child
from daskflow.runner.cluster.executor.errors import annotate, pickle_error
from daskflow.runner.cluster.protocol import BOUND_ERROR, BOUND_LIVE, ENDED_TIMED_OUT, Code
from daskflow.runner.context import TaskRunContext, current_task_run

__all__ = [
    "Clock",
    "GivenUp",
    "RanOut",
    "cancelled_after",
    "give_up_late",
    "judged",
    "limited",
    "limited_async",
    "tell_timed_out",
    "timed_out",
]

R = TypeVar("R")

_CANCELLING_S = 0.5  # an async body that goes on for so long after its cancellation is given up


class RanOut(BaseException):
    """Signal of the engine: the body of a run took longer than it may.

    A BaseException, so that no ``except Exception`` of a task eats it.

    Parameters
    ----------
    limit_s : float
    owner : object
        Whose time is over, where bodies are nested.
    """

    def __init__(self, limit_s: float, owner: object = None) -> None:
        super().__init__(f"interrupted after {limit_s:g} s")
        self.limit_s = limit_s
        self.owner = owner


class GivenUp(BaseException):
    """Signal of the engine: the watchdog has told of this run already."""


class Clock(NamedTuple):
    """One run whose time is limited."""

    context: TaskRunContext
    limit_s: float
    started_at: float
    due: float  # when the watchdog gives it up
    thread: int | None = None  # that executes a plain body
    gave_up: Callable[[], object] | None = None


def timed_out(context: TaskRunContext, limit_s: float) -> TaskTimedOut:
    """The error of a run that took longer than `limit_s`."""
    name = context.task.name
    return TaskTimedOut(context.id, f"task {name!r} ran longer than timeout_seconds={limit_s:g}")


# -- around the body -------------------------------------------------------------------------------


def limited(parcel: ActiveParcel, codes: Sequence[Code], functions: Sequence[Any]) -> Sequence[Any]:
    """The functions of a parcel of plain runs, those of tasks with a timeout under a clock."""
    if all(code.timeout_s is None for code in codes):
        return functions
    return [
        function
        if code.timeout_s is None or isinstance(function, BaseException)
        else _limit_hard(function, code)
        if code.hard
        else _limit(parcel, function, code.timeout_s)
        for code, function in zip(codes, functions, strict=True)
    ]


def _limit(parcel: ActiveParcel, function: Callable[..., Any], limit_s: float) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        context, began = current_task_run.get(), parcel.now()
        assert context is not None
        thread = threading.get_ident()
        parcel.clocks[context.number] = Clock(context, limit_s, began, began + limit_s, thread)
        try:
            return judged(limit_s, context, partial(function, *args, **kwargs))
        finally:
            if parcel.clocks.pop(context.number, None) is None:
                raise GivenUp from None

    return call


def _limit_hard(function: Callable[..., Any], code: Code) -> Any:
    limit_s = code.timeout_s
    assert limit_s is not None

    def call(*args: Any, **kwargs: Any) -> Any:
        context = current_task_run.get()
        assert context is not None
        try:
            return call_in_child(code, function, args, kwargs, context, limit_s)
        except OutOfTime:
            raise RanOut(limit_s, context) from None

    return call


async def limited_async(
    parcel: ActiveParcel,
    context: TaskRunContext,
    limit_s: float,
    gave_up: Callable[[], object] | None,
    call: Callable[[], Awaitable[Any]],
) -> Any:
    """Await the body of an async run; cancel it when its time is over.

    Parameters
    ----------
    parcel : ActiveParcel
    context : TaskRunContext
    limit_s : float
    gave_up : callable or None
        Called by the watchdog when the body has not ended in spite of its cancellation.
    call : callable
        Starts the body.

    Raises
    ------
    RanOut, GivenUp
        Instead of what the body returned or raised.
    """
    began = parcel.now()
    due = began + limit_s + _CANCELLING_S
    parcel.clocks[context.number] = Clock(context, limit_s, began, due, None, gave_up)
    try:
        return await cancelled_after(limit_s, context, call)
    finally:
        if parcel.clocks.pop(context.number, None) is None:
            raise GivenUp from None


def judged(limit_s: float, owner: object, call: Callable[[], R]) -> R:
    """Return what `call` returns; `RanOut` when it took longer than `limit_s`, however it ended."""
    began = time.perf_counter()
    try:
        result = call()
    except BaseException as error:
        if time.perf_counter() - began > limit_s and not isinstance(error, RanOut):
            raise RanOut(limit_s, owner) from error
        raise
    if time.perf_counter() - began > limit_s:
        raise RanOut(limit_s, owner)
    return result


async def cancelled_after(limit_s: float, owner: object, call: Callable[[], Awaitable[R]]) -> R:
    """Await `call`, cancelled after `limit_s`; `RanOut` when it took longer, however it ended."""
    import asyncio  # heavy for scripts without async code

    began, scope = time.perf_counter(), asyncio.timeout(limit_s)
    try:
        async with scope:
            result = await call()
    except BaseException as error:
        if scope.expired() or time.perf_counter() - began > limit_s:
            raise RanOut(limit_s, owner) from error
        raise
    if scope.expired() or time.perf_counter() - began > limit_s:
        raise RanOut(limit_s, owner)
    return result


# -- the watchdog ----------------------------------------------------------------------------------


def give_up_late(parcel: ActiveParcel, now: float) -> bool:
    """Tell of the runs of `parcel` whose time is over; whether there are any."""
    late = [number for number, clock in list(parcel.clocks.items()) if now > clock.due]
    for number in late:
        _give_up(parcel, number, now)
    return bool(late)


def _give_up(parcel: ActiveParcel, number: int, now: float) -> None:
    with parcel.telling:  # the final report comes after this, or has come before the clock went
        clock = parcel.clocks.pop(number, None)
        if clock is None:
            return  # ended this very moment
        error = timed_out(clock.context, clock.limit_s)
        if (where := _where(clock.thread)) is not None:
            annotate(error, where)
        tell_timed_out(parcel, clock.context, clock.started_at, now - clock.started_at, None, error)
        if clock.thread is not None:  # nothing more is started behind a body that may never end
            parcel.running = None
            parcel.left_behind = LeftBehind(clock.context.name)
            parcel.take_rest()
    if clock.gave_up is not None:
        clock.gave_up()


def _where(thread: int | None) -> str | None:
    """What a thread is executing, from the user's function on."""
    frame = sys._current_frames().get(thread) if thread is not None else None
    if frame is None:
        return None
    stack = traceback.extract_stack(frame)
    own = [at for at, line in enumerate(stack) if line.filename == __file__]
    lines = traceback.format_list(stack[own[-1] + 1 if own else 0 :])
    return "when its time was over, it was executing\n" + "".join(lines).rstrip()


def tell_timed_out(
    parcel: ActiveParcel,
    context: TaskRunContext,
    started_at: float,
    run_s: float,
    cpu_s: float | None,
    error: TaskTimedOut,
) -> None:
    """Note that a run took longer than it may."""
    tag: int = BOUND_LIVE
    value: object = error
    if not parcel.channel.live:
        tag, value = BOUND_ERROR, (blob := pickle_error(error, context.id))
        parcel.untold_bytes += len(blob)
    parcel.told.append(
        (context.number, ENDED_TIMED_OUT, started_at, run_s, cpu_s, None, tag, value, None)
    )
