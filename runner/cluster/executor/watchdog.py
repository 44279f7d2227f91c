"""One thread per worker process that looks after the parcels while they execute.

It cuts a parcel whose time box has passed, so that short runs never wait behind a long one; it
reports runs that last; and it sends log lines home while their run still executes.
"""

from __future__ import annotations

import threading
import time

from daskflow.runner.cluster.executor.active import ActiveParcel

__all__ = ["unwatch", "watch"]

_TICK_S = 0.025
_NOTE_AFTER_S = 0.1
_LINGER_S = 1.0  # goes to sleep after this long without a parcel

_parcels: set[ActiveParcel] = set()
_wake = threading.Event()
_lock = threading.Lock()
_thread: threading.Thread | None = None


def watch(parcel: ActiveParcel) -> None:
    """Look after `parcel` from now on."""
    global _thread
    _parcels.add(parcel)
    if not _wake.is_set():
        with _lock:
            if _thread is None or not _thread.is_alive():
                _thread = threading.Thread(target=_run, name="daskflow-watchdog", daemon=True)
                _thread.start()
        _wake.set()


def unwatch(parcel: ActiveParcel) -> None:
    """The parcel has ended."""
    _parcels.discard(parcel)


def _run() -> None:
    idle_since: float | None = None
    while True:
        _wake.wait()
        time.sleep(_TICK_S)
        parcels = list(_parcels)
        now = time.time()
        for parcel in parcels:
            _look_after(parcel, now)
        if parcels:
            idle_since = None
        elif idle_since is None:
            idle_since = now
        elif now - idle_since > _LINGER_S:
            _wake.clear()
            if _parcels:  # one came between the look and the clear
                _wake.set()


def _look_after(parcel: ActiveParcel, now: float) -> None:
    running = []
    current = parcel.running
    if current is not None and now - current[1] > _NOTE_AFTER_S:
        running.append(current)
    running += [each for each in list(parcel.overlapping.items()) if now - each[1] > _NOTE_AFTER_S]
    running = [each for each in running if each[0] not in parcel.noted]
    parcel.noted.update(number for number, _ in running)
    rest: list[int] = []
    if parcel.deadline is not None and now > parcel.deadline and parcel.pending:
        rest = parcel.take_rest()
    waited = now - parcel.reported_at > _NOTE_AFTER_S
    if running or rest or (waited and (parcel.told or parcel.logs)):
        parcel.report(handed_back=rest, running=running)
