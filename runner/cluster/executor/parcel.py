"""Execute a parcel: each of its task runs in turn, or all at once when they are async.

Errors are values: nothing that user code raises leaves `run_parcel`, so a Dask task of ours fails
only when the infrastructure did.  What the driver must know goes through the channel; the Dask
result is a bare acknowledgement.
"""

from __future__ import annotations

import asyncio
import contextvars
import pickle
import time
from collections.abc import Callable, Sequence
from typing import Any

from daskflow.runner.cluster.executor.active import ActiveParcel
from daskflow.runner.cluster.executor.aio import event_loop
from daskflow.runner.cluster.executor.capture import install_capture
from daskflow.runner.cluster.executor.channel import (
    Channel,
    DirectChannel,
    TopicChannel,
    live_orders,
)
from daskflow.runner.cluster.executor.errors import pickle_error
from daskflow.runner.cluster.executor.functions import function_of
from daskflow.runner.cluster.executor.recorder import FlightRecorder, flight_file
from daskflow.runner.cluster.executor.values import (
    MissingInput,
    bind,
    decode_arguments,
    encode_result,
)
from daskflow.runner.cluster.executor.watchdog import unwatch, watch
from daskflow.runner.cluster.protocol import (
    BOUND_ERROR,
    BOUND_INPUT,
    BOUND_LIVE,
    BOUND_LOCAL,
    ENDED_BADLY,
    ENDED_PROCESS,
    ENDED_WELL,
    PLAIN_TYPES,
    Code,
    Item,
    Order,
)
from daskflow.runner.context import TaskRunContext, current_task_run

__all__ = ["run_live_parcel", "run_parcel"]

_REPORT_BYTES = 262_144  # untold results are told when they exceed this
_recorders: dict[str, FlightRecorder] = {}


def run_parcel(blob: bytes, inputs: Sequence[Any] = ()) -> int:
    """Execute the order pickled in `blob` on this Dask worker.

    Parameters
    ----------
    blob : bytes
        A pickled `Order`.
    inputs : sequence
        Large results of earlier parcels, moved here by Dask.

    Returns
    -------
    int
        The parcel's number.
    """
    from distributed import get_worker  # a Dask worker has it loaded; the flow process may not

    order = Order(*pickle.loads(blob))
    channel = TopicChannel(get_worker(), order.topic, order.client_id)
    _execute(order, channel, inputs)
    return order.parcel_id


def run_live_parcel(topic: str, parcel_id: int) -> int:
    """Execute an order that was left in `live_orders`, in a thread of the flow process."""
    order = live_orders[topic, parcel_id]
    _execute(order, DirectChannel(topic, "threads"), ())
    return parcel_id


def _execute(order: Order, channel: Channel, inputs: Sequence[Any]) -> None:
    install_capture(order.codes[0].flow.log_level)
    recorder = _recorder(order, channel)
    parcel = ActiveParcel(order, channel)
    if order.box_s is not None:
        parcel.deadline = time.time() + order.box_s
    watch(parcel)
    try:
        if order.codes[0].is_async:
            _overlap(parcel, inputs, recorder)
        else:
            _run_in_turn(parcel, inputs, recorder)
    finally:
        unwatch(parcel)
        if recorder is not None:
            recorder.stop()
        parcel.report(handed_back=parcel.take_rest(), final=True)


def _recorder(order: Order, channel: Channel) -> FlightRecorder | None:
    if order.flight_folder is None:
        return None
    recorder = _recorders.get(channel.worker)
    if recorder is None:
        path = flight_file(order.flight_folder, channel.worker)
        recorder = _recorders[channel.worker] = FlightRecorder(path)
    return recorder


def _run_in_turn(
    parcel: ActiveParcel, inputs: Sequence[Any], recorder: FlightRecorder | None
) -> None:
    order, pending, clock = parcel.order, parcel.pending, time.time
    functions: list[Callable[..., Any] | BaseException] = [_function(c) for c in order.codes]
    local: dict[int, tuple[int, Any]] = {}
    skipped: list[int] = []
    token = current_task_run.set(None)
    try:
        while True:
            try:
                item = pending.popleft()
            except IndexError:
                break
            started_at = clock()
            parcel.running = (item[0], started_at)
            if recorder is not None:
                recorder.start(order.parcel_id, item[0], started_at)
            if not _run_one(parcel, item, functions, inputs, local, started_at):
                skipped.append(item[0])
            if parcel.untold_bytes > _REPORT_BYTES:
                parcel.report()
            if parcel.deadline is not None and pending and clock() > parcel.deadline:
                break
        parcel.running = None
    finally:
        current_task_run.reset(token)
    if skipped:
        parcel.report(handed_back=skipped)


def _run_one(
    parcel: ActiveParcel,
    item: Item,
    functions: Sequence[Callable[..., Any] | BaseException],
    inputs: Sequence[Any],
    local: dict[int, tuple[int, Any]],
    started_at: float,
) -> bool:
    """Execute one run and note its outcome; False when an input from this parcel is missing."""
    number, attempt, place, index, name, payload, bindings, kept = item
    code = parcel.order.codes[place]
    context = TaskRunContext(code.flow, code.task, number, index, attempt, parcel.logs.append, name)
    current_task_run.set(context)
    cpu = time.thread_time
    cpu_before = cpu()
    try:
        values = bind(bindings, inputs, local) if bindings else ()
        function = functions[place]
        if isinstance(function, BaseException):
            raise function
        args, kwargs = decode_arguments(payload, values)
        result = function(*args, **kwargs)
    except MissingInput:
        return False
    except BaseException as error:  # SystemExit and KeyboardInterrupt too: the worker lives on
        _tell_error(parcel, context, started_at, cpu() - cpu_before, error)
        return True
    _tell_result(parcel, context, code, started_at, cpu() - cpu_before, result, local, kept)
    return True


def _tell_result(
    parcel: ActiveParcel,
    context: TaskRunContext,
    code: Code,
    started_at: float,
    cpu_s: float | None,
    result: Any,
    local: dict[int, tuple[int, Any]],
    kept: bool,
) -> None:
    run_ended = time.time()
    keep = parcel.channel.keep

    def stay(value: Any, size: int) -> str:
        assert keep is not None
        topic, attempt = parcel.order.topic.rpartition("-")[2], context.attempt
        key = f"{code.task.name}-result-{topic}-{context.number}-{attempt}-{parcel.order.parcel_id}"
        keep(key, value, size)
        return key

    try:
        tag, value, size = encode_result(result, stay if keep is not None else None)
    except BaseException as error:  # user code: __reduce__ may raise anything
        error.add_note(
            f"daskflow: the result of {context.name} (a {type(result).__qualname__}) cannot be "
            "pickled, so it cannot leave its worker; return plain data, or open such an object "
            "inside the task that needs it"
        )
        _tell_error(parcel, context, started_at, cpu_s, error)
        return
    encode_s = None
    if size is not None:
        encode_s = time.time() - run_ended
        if tag != BOUND_INPUT:
            parcel.untold_bytes += size
    if kept:
        local[context.number] = (BOUND_LIVE, result) if tag == BOUND_INPUT else (tag, value)
    run_s = run_ended - started_at
    parcel.told.append(
        (context.number, ENDED_WELL, started_at, run_s, cpu_s, encode_s, tag, value, size)
    )


def _tell_error(
    parcel: ActiveParcel,
    context: TaskRunContext,
    started_at: float,
    cpu_s: float | None,
    error: BaseException,
) -> None:
    run_s = time.time() - started_at
    ended = ENDED_PROCESS if isinstance(error, (SystemExit, KeyboardInterrupt)) else ENDED_BADLY
    tag: int = BOUND_LIVE
    value: object = error  # same process: the exception itself, traceback and all
    if parcel.channel.keep is not None:
        tag, value = BOUND_ERROR, (blob := pickle_error(error, context.id))
        parcel.untold_bytes += len(blob)
    parcel.told.append((context.number, ended, started_at, run_s, cpu_s, None, tag, value, None))


def _function(code: Code) -> Callable[..., Any] | BaseException:
    try:
        return function_of(code)
    except BaseException as error:  # unpickling imports user modules, which may raise anything
        error.add_note(
            f"daskflow: the function of task {code.task.name!r} could not be loaded on this worker"
        )
        return error


def _overlap(parcel: ActiveParcel, inputs: Sequence[Any], recorder: FlightRecorder | None) -> None:
    """Run all async runs of the parcel on this process's event loop, and give the slot back."""
    if recorder is not None:
        recorder.start_all(parcel.order.parcel_id, time.time())
    functions = [_function(code) for code in parcel.order.codes]
    items = list(parcel.pending)
    parcel.pending.clear()

    async def all_of_them() -> None:
        local: dict[int, tuple[int, Any]] = {}
        done: dict[int, asyncio.Event] = {item[0]: asyncio.Event() for item in items if item[7]}
        await asyncio.gather(
            *(_run_async(parcel, item, functions, inputs, local, done) for item in items)
        )

    ended = asyncio.run_coroutine_threadsafe(all_of_them(), event_loop())
    if parcel.channel.keep is not None:
        from distributed import secede  # on a Dask worker it is loaded

        secede()
    ended.result()


async def _run_async(
    parcel: ActiveParcel,
    item: Item,
    functions: Sequence[Callable[..., Any] | BaseException],
    inputs: Sequence[Any],
    local: dict[int, tuple[int, Any]],
    done: dict[int, asyncio.Event],
) -> None:
    number, attempt, place, index, name, payload, bindings, kept = item
    for tag, value in bindings:
        if tag == BOUND_LOCAL:
            await done[value].wait()
    code = parcel.order.codes[place]
    context = TaskRunContext(code.flow, code.task, number, index, attempt, parcel.logs.append, name)
    started_at = time.time()
    try:
        parcel.overlapping[number] = started_at
        try:
            values = bind(bindings, inputs, local) if bindings else ()
            function = functions[place]
            if isinstance(function, BaseException):
                raise function
            args, kwargs = decode_arguments(payload, values)
            own = contextvars.copy_context()
            own.run(current_task_run.set, context)
            result = await asyncio.get_running_loop().create_task(
                own.run(function, *args, **kwargs), context=own
            )
        except MissingInput:
            parcel.report(handed_back=[number])
            return
        except BaseException as error:
            _tell_error(parcel, context, started_at, None, error)
            return
        finally:
            parcel.overlapping.pop(number, None)
        tell = (parcel, context, code, started_at, None, result, local, kept)
        if type(result) in PLAIN_TYPES:
            _tell_result(*tell)
        else:  # may be large, and registering a key waits for the worker's loop
            await asyncio.to_thread(_tell_result, *tell)
    finally:
        if kept:
            done[number].set()
