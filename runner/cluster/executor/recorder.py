"""The flight recorder: what each parcel of a worker is executing, where SIGKILL cannot lose it.

A memory-mapped file in a folder that outlives the worker.  A write costs well under a microsecond
and survives the process, since the page cache outlives it.  Whoever finds a worker gone reads the
file and knows exactly which task runs were executing.  Each parcel has a place of its own while it
executes; the file grows when all are taken, so no parcel ever writes over another one's place.
"""

from __future__ import annotations

import mmap
import os
import re
import struct
import threading
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

__all__ = ["Executing", "FlightEntry", "FlightRecorder", "flight_file", "read_flight"]

_ENTRY = struct.Struct("<qqd")  # parcel, task run, when it started
_PLACES = 2_048  # added at a time; their size is a multiple of every usual page size
_IDLE = -1
_SEVERAL = -2  # an async parcel: everything that is still open in it


class Executing(NamedTuple):
    """One parcel's last entry."""

    parcel_id: int
    number: int | None  # None: every open run of the parcel
    started_at: float


class FlightEntry:
    """Where one parcel notes what it executes."""

    __slots__ = ("_free", "_place", "start")

    def __init__(
        self,
        parcel_id: int,
        place: tuple[mmap.mmap, int],
        free: Callable[[tuple[mmap.mmap, int]], object],
    ) -> None:
        self._place = place
        self._free = free
        # called for every task run, so it is the bare C function: (number, started_at)
        self.start: Callable[[int, float], None] = partial(_ENTRY.pack_into, *place, parcel_id)

    def start_all(self, at: float) -> None:
        """The parcel executes all its task runs at once."""
        self.start(_SEVERAL, at)

    def stop(self) -> None:
        """The parcel executes nothing any more."""
        _ENTRY.pack_into(*self._place, _IDLE, _IDLE, 0.0)
        self._free(self._place)


class FlightRecorder:
    """Writes the entries of one worker process.

    Raises
    ------
    OSError
        When the file cannot be written; a full disk is noticed here and never by a later write.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._free: list[tuple[mmap.mmap, int]] = []
        self._places = 0
        self._lock = threading.Lock()
        with open(path, "wb"):  # nothing is left of an earlier worker at this address
            self._grow()

    def entry(self, parcel_id: int) -> FlightEntry:
        """A place for a parcel, until the entry is stopped."""
        with self._lock:
            if not self._free:
                self._grow()
            place = self._free.pop()
        return FlightEntry(parcel_id, place, self._free.append)

    def is_idle(self) -> bool:
        """Whether no parcel has a place."""
        with self._lock:
            return len(self._free) == self._places

    def _grow(self) -> None:
        idle = _ENTRY.pack(_IDLE, _IDLE, 0.0) * _PLACES
        start = self._places * _ENTRY.size
        with open(self.path, "r+b", buffering=0) as file:
            # written, not truncated to size: a write to a page without a block behind it is a
            # SIGBUS, and this one an OSError
            if os.pwrite(file.fileno(), idle, start) != len(idle):
                raise OSError(f"no space for the flight recorder {self.path}")
            chunk = mmap.mmap(file.fileno(), len(idle), offset=start)
        self._places += _PLACES
        self._free.extend((chunk, at * _ENTRY.size) for at in reversed(range(_PLACES)))


def flight_file(folder: str, worker: str) -> str:
    """Where the worker at address `worker` writes."""
    return os.path.join(folder, re.sub(r"[^A-Za-z0-9.-]", "_", worker))


def read_flight(folder: str, worker: str) -> list[Executing] | None:
    """What the worker at `worker` was executing when it last wrote; None if it never wrote."""
    try:
        with open(flight_file(folder, worker), "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return None
    whole = len(data) - len(data) % _ENTRY.size
    return [
        Executing(parcel, None if number == _SEVERAL else number, at)
        for parcel, number, at in _ENTRY.iter_unpack(data[:whole])
        if parcel >= 0
    ]
