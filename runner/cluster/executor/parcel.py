"""Execute a parcel: each of its task runs in turn, or all at once when they are async.

Errors are values: nothing that user code raises leaves `run_parcel`, so a Dask task of ours fails
only when the infrastructure did.  What the driver must know goes through the channel; the Dask
result is a bare acknowledgement.
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Sequence
from typing import Any

from daskflow.runner.cluster.executor.active import ActiveParcel
from daskflow.runner.cluster.executor.aio import overlap
from daskflow.runner.cluster.executor.attempt import load_functions
from daskflow.runner.cluster.executor.capture import install_capture
from daskflow.runner.cluster.executor.channel import DirectChannel, TopicChannel, live_orders
from daskflow.runner.cluster.executor.recorder import FlightEntry, FlightRecorder, flight_file
from daskflow.runner.cluster.executor.turns import run_in_turn
from daskflow.runner.cluster.executor.watchdog import unwatch, watch
from daskflow.runner.cluster.protocol import WITH_NANNY, Order

__all__ = ["execute", "run_live_parcel", "run_parcel"]

_recorders: dict[str, FlightRecorder] = {}  # by path: flows and workers of a process have their own
_lock = threading.Lock()


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
    parcel = ActiveParcel(order, channel)
    if order.only is not None and order.only != get_worker().local_directory:
        parcel.report(final=True)  # another worker at the same address: all of it goes back
        return order.parcel_id
    del order  # what a frame holds outlives the call where an exception is kept
    execute(parcel, inputs)
    return parcel.order.parcel_id


def run_live_parcel(topic: str, parcel_id: int) -> int:
    """Execute an order that was left in `live_orders`, in a thread of the flow process."""
    execute(ActiveParcel(live_orders[topic, parcel_id], DirectChannel(topic, "threads")), ())
    return parcel_id


def execute(parcel: ActiveParcel, inputs: Sequence[Any]) -> None:
    """Execute a parcel in this thread, and tell its channel what came of it.

    Raises
    ------
    BaseException
        When the executor itself is at a loss; no final report is sent then, so that the driver
        hears of it through the parcel's key and sends nothing of it again.
    """
    codes = parcel.order.codes
    install_capture(min(code.flow.log_level for code in codes))
    entry = _flight_entry(parcel)
    watch(parcel)
    try:
        _execute(parcel, inputs, entry)
        parcel.report(final=True)
    finally:
        unwatch(parcel)
    parcel.let_go()


def _execute(parcel: ActiveParcel, inputs: Sequence[Any], entry: FlightEntry | None) -> None:
    codes = parcel.order.codes
    try:
        functions = load_functions(codes)
        if codes[0].is_async:
            if entry is not None:
                entry.start_all(parcel.now())
            overlap(parcel, functions, inputs)
        else:
            run_in_turn(parcel, functions, inputs, entry)
    except BaseException:
        parcel.report()
        parcel.sink.ended = True
        raise
    finally:
        if entry is not None:
            entry.stop()


def _flight_entry(parcel: ActiveParcel) -> FlightEntry | None:
    folder, topic = parcel.order.flight_folder, ""
    if folder == WITH_NANNY:
        folder, topic = parcel.channel.flight_folder, parcel.order.topic
    if folder is None:
        return None
    path = flight_file(folder, parcel.channel.worker, topic)
    with _lock:
        recorder = _recorders.get(path)
        if recorder is None:
            for other in list(_recorders.values()):  # of sessions that are over
                if other.is_idle():
                    del _recorders[other.path]
            recorder = _recorders[path] = FlightRecorder(path)
        parcel.flight, parcel.sink.note = recorder, recorder.line
        return recorder.entry(parcel.order.parcel_id)
