"""One thread per worker process that looks after the parcels while they execute.

It cuts a parcel whose time box has passed, so that short runs never wait behind a long one; it
reports runs that last; it gives up runs whose time is over, and ends the process when nothing else
is left in it; and it sends log lines home while their run still executes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable

from daskflow.runner.cluster.executor.active import ActiveParcel
from daskflow.runner.cluster.executor.recycling import end_stuck
from daskflow.runner.cluster.executor.timeouts import give_up_late

__all__ = ["tell_cancelled", "unwatch", "watch", "watched"]

_logger = logging.getLogger(__name__)

_TICK_S = 0.025
_NOTE_AFTER_S = 0.1
_LINGER_TICKS = 40  # goes to sleep after so many looks without a parcel

_parcels: set[ActiveParcel] = set()
_wake = threading.Event()
_lock = threading.Lock()
_thread: threading.Thread | None = None


def watch(parcel: ActiveParcel) -> None:
    """Look after `parcel` from now on."""
    global _thread
    _parcels.add(parcel)
    if not _wake.is_set() or _thread is None or not _thread.is_alive():
        with _lock:
            if _thread is None or not _thread.is_alive():
                _thread = threading.Thread(target=_run, name="daskflow-watchdog", daemon=True)
                _thread.start()
        _wake.set()


def unwatch(parcel: ActiveParcel) -> None:
    """The parcel has ended."""
    _parcels.discard(parcel)


def watched(topic: str) -> list[ActiveParcel]:
    """The parcels of one driver that are being executed here, or whose end is being told."""
    return [parcel for parcel in list(_parcels) if parcel.order.topic == topic]


def tell_cancelled(topic: str, numbers: Iterable[int]) -> None:
    """Nobody wants these runs of one driver any more; their bodies may ask for it.

    A parcel in which one of them has not started goes back: it is not started.
    """
    unwanted = frozenset(numbers)
    for parcel in watched(topic):
        parcel.cancelled |= unwanted
        if any(item[0] in unwanted for item in list(parcel.pending)):
            parcel.cut()


def _run() -> None:
    idle = 0
    while True:
        _wake.wait()
        time.sleep(_TICK_S)
        idle = 0 if _look_around() else idle + 1
        if idle > _LINGER_TICKS:
            _wake.clear()
            if _parcels:  # one came between the look and the clear
                _wake.set()


def _look_around() -> bool:
    """Look after every parcel; False when there is none.

    A function of its own, so that no variable of the sleeping thread holds a finished parcel.
    """
    parcels = list(_parcels)
    for flight in {parcel.flight for parcel in parcels if parcel.flight is not None}:
        flight.look_at_memory()
    for parcel in parcels:
        try:
            _look_after(parcel, parcel.now())
        except Exception:  # the way home is broken; other parcels still need this thread
            _logger.debug("parcel %s could not report", parcel.order.parcel_id, exc_info=True)
    if any(parcel.left_behind is not None for parcel in parcels):
        end_stuck(parcels)
    return bool(parcels)


def _look_after(parcel: ActiveParcel, now: float) -> None:
    running = []
    current = parcel.running
    if current is not None and now - current[1] > _NOTE_AFTER_S:
        running.append(current)
    running += [each for each in list(parcel.overlapping.items()) if now - each[1] > _NOTE_AFTER_S]
    running = [each for each in running if each[0] not in parcel.noted]
    # only behind a run that is executing: before the first one nothing is late
    if current is not None and parcel.deadline is not None and now > parcel.deadline:
        parcel.cut()
    gave_up = bool(parcel.clocks) and give_up_late(parcel, now)
    untold = parcel.told or parcel.sink.lines or parcel.unstored
    waited = now - parcel.reported_at > _NOTE_AFTER_S
    if running or gave_up or parcel.returned or (waited and untold):
        parcel.report(running=running)
        parcel.noted.update(number for number, _ in running)
    for send in list(parcel.besides):
        send()
