"""W1 from 1,000 to 1,000,000 task runs: time per run and memory of every process.

Results are consumed by `as_completed` while later task runs are not submitted yet.  The control is
daskflow itself at a smaller number: what is asked is whether a task run costs the same.  "Held"
keeps every future instead, for the memory that a future costs.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.apart import Apart, PeakMemory, cluster_apart
from benchmarks.bodies import noop
from benchmarks.cpu import Meter
from benchmarks.engines import DaskflowEngine
from benchmarks.harness import Case, WrongValue
from benchmarks.measurement import Timing

__all__ = ["TITLES", "growth_cases"]

TITLES = {
    "W1.growth": "no-ops consumed by as_completed: 10,000 and 100,000 against 1,000, per run",
    "W1.million": "no-ops consumed by as_completed: 1,000,000 against 10,000, per run",
}
_SIZES = {"W1.growth": (1_000, 10_000, 100_000), "W1.million": (10_000, 1_000_000)}
_QUICK = {"W1.growth": (1_000, 10_000), "W1.million": (10_000, 100_000)}
_WARM = 1_000
_MOST_ROUNDS = {"W1.growth": None, "W1.million": 3}

Consume = Callable[[Any, int], tuple[int, int]]


def growth_cases(
    names: list[str], scratch: Path, stack: ExitStack, *, quick: bool
) -> Iterator[Case]:
    """Yield the chosen cases; they share a cluster that ``stack`` ends."""
    if not names:
        return
    cluster = stack.enter_context(cluster_apart(scratch / "apart"))
    engine = DaskflowEngine(cluster.address, scratch / "home")
    for name in names:
        sizes = (_QUICK if quick else _SIZES)[name]
        contenders = {
            f"daskflow, {size:,}": _contender(engine, cluster, size, _consumed) for size in sizes
        }
        if name == "W1.growth":
            most = sizes[-1]
            contenders[f"daskflow, {most:,} held"] = _contender(engine, cluster, most, _held)
        yield Case(name, TITLES[name], sizes[-1], sizes[-1], contenders, _MOST_ROUNDS[name])


def _consumed(task: Any, size: int) -> tuple[int, int]:
    """Return number and sum of the results of a map over an iterator."""
    from daskflow import as_completed  # the subject; the harness lists its cases without it

    count = total = 0
    for future in as_completed(task.map(iter(range(size)))):
        count += 1
        total += future.result()
    return count, total


def _held(task: Any, size: int) -> tuple[int, int]:
    """Return the same of a loop that keeps every future until the end."""
    futures = [task.submit(i) for i in range(size)]
    results = [future.result() for future in futures]
    return len(results), sum(results)


def _contender(
    engine: DaskflowEngine, cluster: Apart, size: int, consume: Consume
) -> Callable[[], Timing]:
    def run() -> Timing:
        return engine.perform(lambda _: _timed(cluster, size, consume))

    return run


def _timed(cluster: Apart, size: int, consume: Consume) -> Timing:
    from daskflow import task  # as above

    no_op = task(noop)
    consume(no_op, _WARM)
    gc.collect()
    processes = {
        "driver": [os.getpid()], "scheduler": [cluster.scheduler], "workers": cluster.workers
    }  # fmt: skip
    meter = Meter(cluster.workers, cluster.scheduler)
    idle = meter.settled()
    with PeakMemory(processes) as memory:
        began = time.perf_counter()
        got = consume(no_op, size)
        ended = time.perf_counter()
    cpu = meter.spent_since(idle, results_at=ended)
    if got != (size, size * (size - 1) // 2):
        raise WrongValue(f"{size:,} no-ops gave (number, sum) = {got}")
    return Timing(ended - began, cpu, size, memory.grown())
