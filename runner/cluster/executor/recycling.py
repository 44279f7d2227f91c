"""Worker processes that are started anew, for a thread in them that nobody can stop.

Once a soft timeout is told, the thread of the body goes on and keeps a slot: the process ends when
nothing else executes in it.  What still executes when the grace of its cancelled flow run is over
ends with its process at once; the drivers of its neighbours are told before, so that these are run
again free of charge.  The nanny starts another process.  A worker without one is left alone.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from daskflow.runner.cluster.executor.active import ActiveParcel, LeftBehind
from daskflow.runner.cluster.executor.attempt import context_of
from daskflow.runner.cluster.protocol import BUSY, RECYCLED

__all__ = ["end_stuck", "recycle"]

_LINGER_S = 1.0  # for so long a body that was given up may end by itself
_LOOK_S = 0.25
_SENDING_S = 2.0
_FLUSH_LOOK_S = 0.002

_look_at = 0.0


def end_stuck(parcels: Iterable[ActiveParcel]) -> None:
    """End this process if it executes nothing but bodies that were given up; for the watchdog.

    Parameters
    ----------
    parcels : iterable of ActiveParcel
        All that are being executed here.
    """
    global _look_at
    clock = time.monotonic()
    if clock < _look_at:
        return
    _look_at = clock + _LOOK_S
    stuck, alone = [], True
    for parcel in parcels:
        left = parcel.left_behind
        if left is None or clock - left.since < _LINGER_S or parcel.channel.live:
            alone = False
            continue
        stuck.append(parcel)
        if not left.told:
            left.told = True
            _tell_busy(parcel, left.label)
    if stuck and alone:
        worker = _worker_of(stuck[0])
        if worker.nanny:
            worker.loop.add_callback(_end_if_idle, worker, stuck)


async def _end_if_idle(worker: Any, stuck: Sequence[ActiveParcel]) -> None:
    state = worker.state  # read on its own event loop: it does not change meanwhile
    running = {task.key for task in (*state.executing, *state.long_running)}
    if running <= {worker.active_threads.get(parcel.thread) for parcel in stuck}:
        await _end_process(worker, stuck)


async def recycle(
    parcels: Sequence[ActiveParcel], numbers: Mapping[int, Collection[int]], *, when_idle: bool
) -> None:
    """End this process if it executes one of these runs; on the worker's event loop.

    Parameters
    ----------
    parcels : sequence of ActiveParcel
        Those of the driver that asks.
    numbers : mapping of int to collection of int
        Numbers of the runs that are to end, by parcel.
    when_idle : bool
        Only once nothing else executes here.
    """
    executing = [
        (parcel, context_of(parcel, item).name)
        for parcel in parcels
        for item in parcel.order.items
        if item[0] in numbers.get(parcel.order.parcel_id, ())
        if item[0] in parcel.overlapping or (parcel.running and item[0] == parcel.running[0])
    ]
    if not executing:
        return
    if when_idle:
        for parcel, label in executing:
            if parcel.overlapping.keys() <= set(numbers[parcel.order.parcel_id]):
                parcel.cut()  # what has not started is not started here
                parcel.left_behind = parcel.left_behind or LeftBehind(label)
        return
    worker = _worker_of(executing[0][0])
    if worker.nanny:
        await _end_process(worker, parcels)
    for parcel, label in executing:
        _tell_busy(parcel, label)


def _worker_of(parcel: ActiveParcel) -> Any:
    channel: Any = parcel.channel  # one over Dask: threads of the flow process are left alone
    return channel.dask_worker


def _tell_busy(parcel: ActiveParcel, label: str) -> None:
    """Tell the driver of a run that was given up and goes on, and whether its process will end."""
    worker = _worker_of(parcel)
    about = worker.address, label, bool(worker.nanny)
    worker.log_event(parcel.order.topic, (BUSY, pickle.dumps(about, 5)))


async def _end_process(worker: Any, parcels: Sequence[ActiveParcel]) -> None:
    """Send what is to be sent, say that this process goes, and end it.

    Not by closing the worker, which would take its nanny along.
    """
    with suppress(Exception):  # whatever is wrong with the way home: this process is to end
        await asyncio.wait_for(_tell_end(worker, parcels), _SENDING_S)
    os._exit(0)


async def _tell_end(worker: Any, parcels: Sequence[ActiveParcel]) -> None:
    await asyncio.gather(*map(_hand_back, parcels))
    # nothing tells when it is empty; a write that is under way then is the kernel's
    while worker.batched_stream.buffer:  # noqa: ASYNC110
        await asyncio.sleep(_FLUSH_LOOK_S)
    topics: set[str | None] = {parcel.order.topic for parcel in parcels}
    for plugin in worker.plugins.values():  # of other drivers; see `draining`
        topics.add(getattr(plugin, "daskflow_topic", None))
    for topic in topics - {None}:  # answered when the scheduler has passed it on
        await worker.scheduler.log_event(topic=topic, msg=(RECYCLED, worker.address.encode()))


async def _hand_back(parcel: ActiveParcel) -> None:
    """Tell what has ended, and that the rest is not started here."""
    parcel.cut()
    await asyncio.to_thread(parcel.report)
