"""The flight recorder: what each parcel of a worker is executing, where SIGKILL cannot lose it.

A memory-mapped file in a folder that outlives the worker.  A write costs well under a microsecond
and survives the process, since the page cache outlives it.  Whoever finds a worker gone reads the
file and knows exactly which task runs were executing.  Each parcel has a place of its own while it
executes; the file grows when all are taken, so no parcel ever writes over another one's place.

Before the places stands what else is worth knowing of a process that is gone: its pid, the most
memory that it used, and its last log lines.
"""

from __future__ import annotations

import itertools
import mmap
import os
import re
import struct
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from daskflow.runner.context import LogLine

try:
    import resource
except ImportError:  # Windows: the most memory is not known there
    resource = None  # type: ignore[assignment]

__all__ = [
    "Executing",
    "FlightEntry",
    "FlightRecorder",
    "LastLine",
    "LastWords",
    "flight_file",
    "read_flight",
    "read_last_words",
]

_ENTRY = struct.Struct("<qqd")  # parcel, task run, when it started
_PROCESS = struct.Struct("<qq")  # pid, most bytes of memory
_LINE = struct.Struct("<dqqH")  # when, number of the task run, order, length of the text
_LINES_AT = 64
_LINE_BYTES = 512
_LINES = 16  # that are kept
_HEAD_BYTES = 16_384  # of what stands before the places; a multiple of every usual page size
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
_PLACES = 2_048  # added at a time; their size is a multiple of every usual page size
_IDLE = -1
_SEVERAL = -2  # an async parcel: everything that is still open in it


class Executing(NamedTuple):
    """One parcel's last entry."""

    parcel_id: int
    number: int | None  # None: every open run of the parcel
    started_at: float


class LastLine(NamedTuple):
    """A log line that a process made shortly before it went."""

    at: float
    number: int  # of the task run
    text: str


class LastWords(NamedTuple):
    """What is known of a process that is gone."""

    pid: int
    peak_memory: int | None  # bytes, as far as it was measured
    lines: list[LastLine]


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
        self._peak = 0
        self._next_line = itertools.count()
        with open(path, "wb", buffering=0) as file:  # nothing is left of an earlier worker
            if file.write(bytes(_HEAD_BYTES)) != _HEAD_BYTES:
                raise OSError(f"no space for the flight recorder {path}")
        with open(path, "r+b", buffering=0) as file:
            self._head = mmap.mmap(file.fileno(), _HEAD_BYTES)
        self._grow()
        self.look_at_memory()

    def entry(self, parcel_id: int) -> FlightEntry:
        """A place for a parcel, until the entry is stopped."""
        with self._lock:
            if not self._free:
                self._grow()
            place = self._free.pop()
        return FlightEntry(parcel_id, place, self._free.append)

    def look_at_memory(self) -> None:
        """Note the most memory that this process has used."""
        if (now := _memory_bytes()) > self._peak:
            self._peak = now
            _PROCESS.pack_into(self._head, 0, os.getpid(), now)

    def line(self, line: LogLine) -> None:
        """Keep a log line, in place of the oldest one."""
        text = line.message.encode(errors="replace")[: _LINE_BYTES - _LINE.size]
        order = next(self._next_line)
        at = _LINES_AT + order % _LINES * _LINE_BYTES
        self._head[at + _LINE.size : at + _LINE.size + len(text)] = text
        number = -1 if line.number is None else line.number
        _LINE.pack_into(self._head, at, line.at, number, order + 1, len(text))

    def is_idle(self) -> bool:
        """Whether no parcel has a place."""
        with self._lock:
            return len(self._free) == self._places

    def _grow(self) -> None:
        idle = _ENTRY.pack(_IDLE, _IDLE, 0.0) * _PLACES
        start = _HEAD_BYTES + self._places * _ENTRY.size
        with open(self.path, "r+b", buffering=0) as file:
            # written, not truncated to size: a write to a page without a block behind it is a
            # SIGBUS, and this one an OSError
            if os.pwrite(file.fileno(), idle, start) != len(idle):
                raise OSError(f"no space for the flight recorder {self.path}")
            chunk = mmap.mmap(file.fileno(), len(idle), offset=start)
        self._places += _PLACES
        self._free.extend((chunk, at * _ENTRY.size) for at in reversed(range(_PLACES)))


def _memory_bytes() -> int:
    try:
        with open("/proc/self/statm", "rb") as file:  # what it uses now: 5 µs
            return int(file.read().split()[1]) * _PAGE_BYTES
    except (OSError, IndexError, ValueError):
        if resource is None:
            return 0
        most: int = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024


def flight_file(folder: str, worker: str, topic: str = "") -> str:
    """Where the worker at address `worker` writes.

    Parameters
    ----------
    folder : str
    worker : str
    topic : str, optional
        Of the client, where several use the same folder.
    """
    return os.path.join(folder, topic + re.sub(r"[^A-Za-z0-9.-]", "_", worker))


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def read_flight(path: str) -> list[Executing] | None:
    """What the worker that wrote `path` was executing at the end; None if it never wrote."""
    data = _read(path)
    if data is None:
        return None
    whole = len(data) - max(len(data) - _HEAD_BYTES, 0) % _ENTRY.size
    return [
        Executing(parcel, None if number == _SEVERAL else number, at)
        for parcel, number, at in _ENTRY.iter_unpack(data[_HEAD_BYTES:whole])
        if parcel >= 0
    ]


def read_last_words(path: str) -> LastWords | None:
    """What else the worker that wrote `path` left behind; None if it never wrote."""
    data = _read(path)
    if data is None or len(data) < _HEAD_BYTES:
        return None
    pid, peak = _PROCESS.unpack_from(data)
    lines = []
    for place in range(_LINES):
        at = _LINES_AT + place * _LINE_BYTES
        when, number, order, length = _LINE.unpack_from(data, at)
        text = data[at + _LINE.size : at + _LINE.size + length].decode(errors="replace")
        if order:
            lines.append((order, LastLine(when, number, text)))
    return LastWords(pid, peak or None, [line for _, line in sorted(lines)])
