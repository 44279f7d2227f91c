"""CPU seconds of this process and all its descendants, by what spent them.

CPU time survives a noisy machine where wall time does not.  A `LocalCluster` keeps its scheduler
on the event loop thread of this process, so "loop" is scheduler and Dask client together, and
"driver" is everything else here: the flow, the engine, the store writer.  A scheduler that is a
process of its own has a column of its own.  A process that ended
between two samples takes its share with it: clusters must outlive what is measured.  A round is
exact to a few milliseconds: good for 10,000 task runs, coarse for a chain of 300.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from contextlib import suppress
from typing import NamedTuple

import psutil

__all__ = ["CpuSeconds", "Idle", "Meter"]

_LOOP_THREADS = ("IO loop", "daskflow Dask loop")  # threads that run Dask's event loops
_THREAD_CLOCK = 6  # the kernel's clock ids: (~id << 3) | 2 for a process, | 4 for a thread
_PROCESS_CLOCK = 2
_WINDOW_S = 0.15  # longer than the store writer waits for more rows
_IDLE_SHARE = 0.15  # of one CPU: the heartbeats of an idle cluster stay below


class CpuSeconds(NamedTuple):
    """CPU seconds by process; the sum is the whole tree."""

    driver: float
    loop: float
    workers: float
    rest: float
    scheduler: float = 0.0  # of a process of its own; otherwise it is in "loop"

    @property
    def total(self) -> float:
        """Return the CPU seconds of all processes together."""
        return sum(self)

    def since(self, earlier: CpuSeconds) -> CpuSeconds:
        """Return what was spent after an earlier sample."""
        return CpuSeconds(*(max(0.0, now - then) for now, then in zip(self, earlier, strict=True)))


class Idle(NamedTuple):
    """A moment at which nothing was being done: when, spent until then, and its idle rate."""

    at: float
    cpu: CpuSeconds
    rate: CpuSeconds


class Meter:
    """Samples the process tree.

    Parameters
    ----------
    workers
        Process ids to count as Dask workers; other descendants are "rest".
    scheduler
        Process id of a scheduler that runs apart from this process.
    """

    def __init__(self, workers: Collection[int] = (), scheduler: int | None = None) -> None:
        self._kinds = dict.fromkeys(workers, "workers")
        if scheduler is not None:
            self._kinds[scheduler] = "scheduler"
        self._self = psutil.Process()
        self._sampling_s = 0.0  # what looking costs is nobody's

    def sample(self) -> CpuSeconds:
        """Return the CPU seconds spent so far."""
        began = time.thread_time()
        loop, driver = _loop_seconds(), time.process_time()
        spent = {"workers": 0.0, "scheduler": 0.0, "rest": 0.0}
        for child in self._self.children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # it ended while we looked
                spent[self._kinds.get(child.pid, "rest")] += _process_seconds(child)
        driver -= loop + self._sampling_s
        self._sampling_s += time.thread_time() - began
        return CpuSeconds(driver, loop, **spent)

    def settled(self, *, within_s: float = 5.0) -> Idle:
        """Wait until the tree is idle and return what it has spent by then."""
        deadline = time.monotonic() + within_s
        began, before = time.perf_counter(), self.sample()
        while True:
            time.sleep(_WINDOW_S)
            at, now = time.perf_counter(), self.sample()
            spent, took_s = now.since(before), at - began
            if spent.total < _IDLE_SHARE * took_s or time.monotonic() > deadline:
                return Idle(at, now, CpuSeconds(*(part / took_s for part in spent)))
            began, before = at, now

    def spent_since(self, idle: Idle, *, results_at: float) -> CpuSeconds:
        """Wait until the tree is idle again and return what the work since ``idle`` cost.

        What is still done when the last result is there (keys released, rows written) is part of
        the cost, and must not fall to whoever runs next.  The heartbeats of the wait are not.

        Parameters
        ----------
        results_at
            When the work itself ended, by `time.perf_counter`.
        """
        again = self.settled()
        heartbeats = (rate * (again.at - results_at) for rate in idle.rate)
        spent = again.cpu.since(idle.cpu)
        return CpuSeconds(*(max(0.0, s - h) for s, h in zip(spent, heartbeats, strict=True)))


def _process_seconds(process: psutil.Process) -> float:
    try:  # nanoseconds where the kernel has a clock per process, 10 ms ticks elsewhere
        return time.clock_gettime((~process.pid << 3) | _PROCESS_CLOCK)
    except OSError:
        times = process.cpu_times()
        return float(times.user + times.system)


def _loop_seconds() -> float:
    spent = 0.0
    for thread in threading.enumerate():
        if thread.name.startswith(_LOOP_THREADS) and thread.native_id is not None:
            with suppress(OSError):  # it ended, or there is no such clock: counted as driver
                spent += time.clock_gettime((~thread.native_id << 3) | _THREAD_CLOCK)
    return spent
