"""The flight recorder: what each thread of a worker is executing, where SIGKILL cannot lose it.

A memory-mapped file in a folder that outlives the worker.  A write costs well under a microsecond
and survives the process, since the page cache outlives it.  Whoever finds a worker gone reads the
file and knows exactly which task runs were executing.
"""

from __future__ import annotations

import mmap
import os
import re
import struct
import threading
from typing import NamedTuple

__all__ = ["Executing", "FlightRecorder", "flight_file", "read_flight"]

_ENTRY = struct.Struct("<qqd")  # parcel, task run, when it started
_THREADS = 512
_IDLE = -1
_SEVERAL = -2  # an async parcel: everything that is still open in it


class Executing(NamedTuple):
    """One thread's last entry."""

    parcel_id: int
    number: int | None  # None: every open run of the parcel
    started_at: float


def flight_file(folder: str, worker: str) -> str:
    """Where the worker at address `worker` writes."""
    return os.path.join(folder, re.sub(r"[^A-Za-z0-9.-]", "_", worker))


class FlightRecorder:
    """Writes the entries of one worker process; each thread has a place of its own."""

    def __init__(self, path: str) -> None:
        size = _ENTRY.size * _THREADS
        with open(path, "w+b") as file:
            file.truncate(size)
            self._map = mmap.mmap(file.fileno(), size)
        for place in range(_THREADS):
            _ENTRY.pack_into(self._map, place * _ENTRY.size, _IDLE, _IDLE, 0.0)
        self._places: dict[int, int] = {}
        self._lock = threading.Lock()

    def _place(self) -> int:
        thread = threading.get_ident()
        place = self._places.get(thread)
        if place is None:
            with self._lock:
                place = self._places[thread] = (len(self._places) % _THREADS) * _ENTRY.size
        return place

    def start(self, parcel_id: int, number: int, at: float) -> None:
        """This thread starts executing a task run."""
        _ENTRY.pack_into(self._map, self._place(), parcel_id, number, at)

    def start_all(self, parcel_id: int, at: float) -> None:
        """This thread's parcel executes all its task runs at once."""
        _ENTRY.pack_into(self._map, self._place(), parcel_id, _SEVERAL, at)

    def stop(self) -> None:
        """This thread executes nothing any more."""
        _ENTRY.pack_into(self._map, self._place(), _IDLE, _IDLE, 0.0)


def read_flight(folder: str, worker: str) -> list[Executing] | None:
    """What the worker at `worker` was executing when it last wrote; None if it never wrote."""
    try:
        with open(flight_file(folder, worker), "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return None
    return [
        Executing(parcel, None if number == _SEVERAL else number, at)
        for parcel, number, at in _ENTRY.iter_unpack(data)
        if parcel != _IDLE
    ]
