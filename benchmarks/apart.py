"""A cluster whose scheduler and workers are processes of their own, and the memory of each.

In a `LocalCluster` the scheduler shares a process with the driver, so neither its memory nor its
CPU time can be told from the driver's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil

from benchmarks.workloads import SLOTS

__all__ = ["Apart", "PeakMemory", "cluster_apart"]

_START_TIMEOUT_S = 60.0
_MEMORY_EVERY_S = 0.1
_LOOPBACK = ("--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0")


class Apart(NamedTuple):
    """Where the cluster is, and its processes."""

    address: str
    scheduler: int
    workers: tuple[int, ...]


@contextmanager
def cluster_apart(scratch: Path) -> Iterator[Apart]:
    """Start ``dask scheduler`` and two ``dask worker`` of one thread each, and yield them."""
    scratch.mkdir(parents=True, exist_ok=True)
    file = scratch / "scheduler.json"
    with ExitStack() as stack:
        start = ["--port", "0", "--scheduler-file", str(file), *_LOOPBACK]
        scheduler = stack.enter_context(_process("scheduler", start, scratch))
        address = _address(file, scheduler)
        own = ("--no-nanny", "--nthreads", "1", "--memory-limit", "0", *_LOOPBACK)
        folder = ("--local-directory", str(scratch))
        workers = [
            stack.enter_context(_process("worker", [address, *own, *folder], scratch))
            for _ in range(SLOTS)
        ]
        yield Apart(address, scheduler.pid, tuple(worker.pid for worker in workers))


@contextmanager
def _process(kind: str, options: Sequence[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    # what workers import by name is found as it is here: from the folder that holds `benchmarks`
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    command = [sys.executable, "-m", "dask", kind, *options]
    with (folder / f"{kind}.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env=environment)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def _address(file: Path, scheduler: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline and scheduler.poll() is None:
        try:
            return str(json.loads(file.read_text(encoding="utf-8"))["address"])
        except (OSError, ValueError):
            time.sleep(0.05)  # it is not there yet, or half written
    raise RuntimeError(f"the scheduler has not started; see {file.with_name('scheduler.log')}")


class PeakMemory:
    """Watches the resident memory of some processes while a block runs.

    Parameters
    ----------
    processes
        Process ids by the name of the figure; several ids of one name are added up.
    """

    def __init__(self, processes: Mapping[str, Sequence[int]]) -> None:
        self._watched = {
            name: [psutil.Process(pid) for pid in pids] for name, pids in processes.items()
        }
        self._before = self._now()
        self._peak = dict(self._before)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="benchmark memory", daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._over.set()
        self._thread.join()
        self._look()

    def grown(self) -> dict[str, float]:
        """Return by how many MB each has grown at its peak: ``{"driver_mb": 12.5, …}``."""
        return {f"{name}_mb": (self._peak[name] - self._before[name]) / 1e6 for name in self._peak}

    def _watch(self) -> None:
        while not self._over.wait(_MEMORY_EVERY_S):
            self._look()

    def _look(self) -> None:
        for name, used in self._now().items():
            self._peak[name] = max(self._peak[name], used)

    def _now(self) -> dict[str, int]:
        return {
            name: sum(process.memory_info().rss for process in processes)
            for name, processes in self._watched.items()
        }
