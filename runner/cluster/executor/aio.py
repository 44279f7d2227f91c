"""Async task runs: all runs of a parcel overlap on one event loop of this process.

The loop has a thread of its own that outlives whatever user code raises into it: asyncio lets
SystemExit and KeyboardInterrupt of a task through to whoever runs the loop.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from daskflow.runner.cluster.executor.active import ActiveParcel
from daskflow.runner.cluster.executor.attempt import (
    REPORT_BYTES,
    Kept,
    LoadedFunction,
    context_of,
    tell_error,
    tell_result,
)
from daskflow.runner.cluster.executor.cached_parcels import committing_of
from daskflow.runner.cluster.executor.channel import live_flows
from daskflow.runner.cluster.executor.timeouts import GivenUp, limited_async
from daskflow.runner.cluster.executor.values import (
    MissingInput,
    bind,
    decode_arguments,
    is_small,
)
from daskflow.runner.cluster.protocol import BOUND_LOCAL, Item
from daskflow.runner.context import current_flow_run, current_parcel, current_task_run

__all__ = ["event_loop", "overlap"]

_logger = logging.getLogger(__name__)
_loop: asyncio.AbstractEventLoop | None = None
_lock = threading.Lock()


def event_loop() -> asyncio.AbstractEventLoop:
    """Return the loop, started at the first call."""
    global _loop
    with _lock:
        if _loop is None or _loop.is_closed():
            _loop = asyncio.new_event_loop()
            threading.Thread(
                target=_serve, args=(_loop,), name="daskflow-async", daemon=True
            ).start()
        return _loop


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    while not loop.is_closed():
        try:
            loop.run_forever()
        except BaseException:  # of a task that user code started; the others go on
            _logger.debug("a task raised out of the event loop", exc_info=True)


def overlap(
    parcel: ActiveParcel, functions: Sequence[LoadedFunction], inputs: Sequence[Any]
) -> None:
    """Execute all async runs of the parcel at once, and give the slot back meanwhile."""
    loop = event_loop()
    together = _Together(parcel, functions, inputs)
    loop.call_soon_threadsafe(together.start)
    try:
        parcel.channel.secede()
    except Exception:  # the worker is closing; the runs are under way and end here all the same
        _logger.debug("the slot could not be given back", exc_info=True)
    together.ended.wait()


class _Together:
    """The runs of one parcel on the loop; everything but `ended` is used by the loop's thread."""

    def __init__(
        self, parcel: ActiveParcel, functions: Sequence[LoadedFunction], inputs: Sequence[Any]
    ) -> None:
        self.ended = threading.Event()
        self._parcel = parcel
        self._functions = functions
        self._inputs = inputs
        self._kept: Kept = {}
        self._committing = committing_of(parcel, functions)
        self._gone: dict[int, asyncio.Event] = {}  # runs that others of the parcel wait for
        self._open: dict[asyncio.Task[None], Item] = {}

    def start(self) -> None:
        """Start every run of the parcel."""
        items = list(self._parcel.pending)
        self._parcel.pending.clear()
        self._gone = {item[0]: asyncio.Event() for item in items if item[7]}
        loop = asyncio.get_running_loop()
        for item in items:
            task = loop.create_task(self._run(item), name=f"daskflow-run-{item[0]}")
            self._open[task] = item
            task.add_done_callback(self._done)
        if not items:
            self.ended.set()

    def _done(self, task: asyncio.Task[None]) -> None:
        item = self._open.pop(task)
        try:
            # `_run` handles what user code raises: this task was cancelled before its first step
            error = asyncio.CancelledError() if task.cancelled() else task.exception()
            if error is not None:
                context, now = context_of(self._parcel, item), self._parcel.now()
                tell_error(self._parcel, context, now, 0.0, None, error)
        finally:
            if item[7]:
                self._gone[item[0]].set()
            if not self._open:
                self.ended.set()

    async def _run(self, item: Item) -> None:
        parcel = self._parcel
        number, _, place, _, _, payload, bindings, kept = item
        for tag, value in bindings:
            if tag == BOUND_LOCAL:
                await self._gone[value].wait()
        context = context_of(parcel, item)
        current_task_run.set(context)  # in this asyncio task's own context
        current_parcel.set(parcel.handle)
        if parcel.channel.live:
            current_flow_run.set(live_flows.get(context.flow.id if context.flow else ""))
        started_at = parcel.now()
        parcel.overlapping[number] = started_at
        try:
            function = self._functions[place]
            if isinstance(function, BaseException):
                tell_error(parcel, context, started_at, 0.0, None, function)
                return
            committing = self._committing
            if parcel.order.codes[place].cache is None:
                committing = None
            looked: Any = None
            result: Any = None
            if committing is not None:
                bound = committing.bound(payload, bindings, self._inputs, self._kept)
                looked = await asyncio.to_thread(committing.look, place, context, bound)
                result = committing.found_by(looked)
            if result is None:
                values = bind(bindings, self._inputs, self._kept) if bindings else ()
                args, kwargs = decode_arguments(payload, values)
                began = parcel.now()
                limit_s = parcel.order.codes[place].timeout_s
                if limit_s is None:
                    result = await function(*args, **kwargs)
                else:
                    gave_up = self._telling_gone(number) if kept else None
                    call = partial(function, *args, **kwargs)
                    result = await limited_async(parcel, context, limit_s, gave_up, call)
                if committing is not None:
                    took = parcel.now() - began
                    result = await asyncio.to_thread(
                        committing.finish, looked, context.id, result, took, began
                    )
        except MissingInput as missing:
            if missing.slot is not None:
                parcel.gone.append((number, missing.slot))
            parcel.returned.append(number)
            return
        except GivenUp:  # the watchdog has told of it
            return
        except BaseException as error:  # CancelledError, SystemExit, KeyboardInterrupt too
            run_s = parcel.now() - started_at
            tell_error(parcel, context, started_at, run_s, None, error)
            return
        finally:
            parcel.overlapping.pop(number, None)
        run_s = parcel.now() - started_at
        into = self._kept if kept else None
        if committing is not None:
            told = partial(committing.tell, context, started_at, run_s, None, result, into)
            await _finish(asyncio.get_running_loop().run_in_executor(None, told))
            return
        tell = partial(tell_result, parcel, context, started_at, run_s, None, result, into)
        if parcel.channel.live or is_small(result):
            tell()
        else:  # pickling takes a while, and registering a key waits for the worker's loop
            await _finish(asyncio.get_running_loop().run_in_executor(None, tell))
        if parcel.untold_bytes > REPORT_BYTES:
            parcel.report()

    def _telling_gone(self, number: int) -> Callable[[], object]:
        """What lets those go that wait for a run, from any thread."""
        loop, gone = asyncio.get_running_loop(), self._gone[number]
        return lambda: loop.call_soon_threadsafe(gone.set)


async def _finish(work: asyncio.Future[None]) -> None:
    """Await `work` to its end, also when user code has cancelled the task it ran in."""
    while not work.done():
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            continue
    work.result()
