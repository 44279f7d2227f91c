"""Plain task runs: those of a parcel one after the other, in the thread that Dask gave us.

This loop is the hot path of the whole engine: a no-op costs it a few microseconds, and each call
that is added here is paid by every task run there is.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import copy_context
from time import perf_counter, thread_time
from typing import Any

from daskflow.runner.cluster.executor.active import ActiveParcel
from daskflow.runner.cluster.executor.attempt import (
    REPORT_BYTES,
    Kept,
    LoadedFunction,
    tell_error,
    tell_result,
)
from daskflow.runner.cluster.executor.cached_parcels import committing_of
from daskflow.runner.cluster.executor.channel import live_flows
from daskflow.runner.cluster.executor.recorder import FlightEntry
from daskflow.runner.cluster.executor.timeouts import GivenUp, limited
from daskflow.runner.cluster.executor.values import MissingInput, bind, decode_arguments
from daskflow.runner.cluster.protocol import BOUND_PLAIN, ENDED_WELL
from daskflow.runner.context import (
    TaskRunContext,
    current_flow_run,
    current_parcel,
    current_task_run,
)

__all__ = ["run_in_turn"]

_TINY = frozenset({bool, float, type(None)})  # results that need no look at their size
_LARGE_INT = 1 << 63

# The kernel's CPU clock takes longer to read than a tiny run lasts.  A run this short is taken to
# have used the CPU all the time; of so many in a row at the most, lest another pays for them.
_SHORT_S = 1e-5
_SHORT_RUNS = 8


def run_in_turn(
    parcel: ActiveParcel,
    functions: Sequence[LoadedFunction],
    inputs: Sequence[Any],
    entry: FlightEntry | None,
) -> None:
    """Execute the runs of the parcel until none is left or its time box has passed.

    Parameters
    ----------
    parcel : ActiveParcel
    functions : sequence
        By place, as the items name them.
    inputs : sequence
        Large results of earlier parcels.
    entry : FlightEntry or None
        Where to note what is executing.
    """
    token, flow_token = current_task_run.set(None), current_flow_run.set(None)
    parcel_token = current_parcel.set(parcel.handle)
    parcel.start_box()
    try:
        _turns(parcel, functions, limited(parcel, parcel.order.codes, functions), inputs, entry)
    finally:
        parcel.running = None
        current_parcel.reset(parcel_token)
        current_flow_run.reset(flow_token)
        current_task_run.reset(token)


def _turns(
    parcel: ActiveParcel,
    plain: Sequence[LoadedFunction],
    functions: Sequence[LoadedFunction],
    inputs: Sequence[Any],
    entry: FlightEntry | None,
) -> None:
    flows = [live_flows.get(code.flow.id) for code in parcel.order.codes]
    live = parcel.channel.live  # in the flow process a task is part of its flow run
    codes, sink, epoch, deadline = parcel.order.codes, parcel.sink, parcel.epoch, parcel.deadline
    pending, tell, note = parcel.pending, parcel.told.append, entry.start if entry else None
    make_current = current_task_run.set
    local: Kept = {}
    committing = committing_of(parcel, plain)
    args: Any
    kwargs: Any
    values: Any
    result: Any
    payload: Any
    bound: Any
    caught: BaseException | None
    args = kwargs = values = result = payload = caught = None
    cpu_before, short = thread_time(), 0
    while pending:
        try:
            number, attempt, place, index, name, payload, bindings, kept = pending.popleft()
        except IndexError:  # cut this very moment
            break
        began = perf_counter()
        started_at = epoch + began
        parcel.running = (number, started_at)
        if note is not None:
            note(number, started_at)
        code, function = codes[place], functions[place]
        context = TaskRunContext(code.flow, code.task, number, index, attempt, sink, name)
        make_current(context)
        if live:
            current_flow_run.set(flows[place])
        try:
            if committing is not None and code.cache is not None and callable(function):
                bound = committing.bound(payload, bindings, inputs, local)
                result = committing.run(place, context, function, bound)
                bound = None
            elif bindings or type(payload) is bytes:
                values = bind(bindings, inputs, local) if bindings else ()
                args, kwargs = decode_arguments(payload, values)
            else:
                args, kwargs = payload
            if isinstance(function, BaseException):
                caught = function  # not raised: its traceback would grow with every run
            elif committing is None or code.cache is None:
                # in a context of its own: what a run sets there does not reach the next one
                result = copy_context().run(function, *args, **kwargs)
        except MissingInput as missing:
            if missing.slot is not None:
                parcel.gone.append((number, missing.slot))
            parcel.returned.append(number)
            continue
        except GivenUp:  # the watchdog has told of it, and taken what was left
            break
        except BaseException as error:  # SystemExit, KeyboardInterrupt too: the worker lives on
            caught = error
        ended = perf_counter()
        run_s = ended - began
        if run_s < _SHORT_S and short < _SHORT_RUNS:
            short, cpu, cpu_s = short + 1, cpu_before, run_s
        else:
            short, cpu = 0, thread_time()
            cpu_s = min(cpu - cpu_before, run_s)
        if parcel.waited_s:
            run_s, parcel.waited_s = max(0.0, run_s - parcel.waited_s), 0.0
        kind = type(result)
        if caught is not None:
            tell_error(parcel, context, started_at, run_s, cpu_s, caught)
            caught = None
        elif kind in _TINY or (kind is int and -_LARGE_INT < result < _LARGE_INT):
            tell((number, ENDED_WELL, started_at, run_s, cpu_s, None, BOUND_PLAIN, result, None))
            if kept:
                local[number] = (BOUND_PLAIN, result)
            cpu_before = cpu  # where this run ends the next one starts: one look at the clock
            if deadline is not None and epoch + ended > deadline:
                break
            continue
        elif committing is not None and code.cache is not None:
            into = local if kept else None
            committing.tell(context, started_at, run_s, cpu_s, result, into)
        else:
            tell_result(parcel, context, started_at, run_s, cpu_s, result, local if kept else None)
        # a frame outlives its call where an exception is kept: it must hold nothing of a run
        args = kwargs = values = result = None
        if parcel.untold_bytes > REPORT_BYTES:
            parcel.report()
        if deadline is not None and parcel.now() > deadline:
            break
        cpu_before, short = thread_time(), 0
    local.clear()
    args = kwargs = values = result = payload = None
