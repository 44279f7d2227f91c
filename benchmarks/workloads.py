"""The work of W1 to W5, W9 and the round trip, written once and run alike by every engine.

A shape sees an engine through `Surface` only.  `submitter` and `mapper` hand out the engine's own
callables, so the loops below add nothing of ours to what is timed: ``submit(i)`` here is the
very call that a user writes.
"""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from benchmarks.bodies import add, fail_once, inc, nap, noop, spin

__all__ = ["SLOTS", "WORKLOADS", "Surface", "Workload"]

SLOTS = 2  # two worker processes with one thread each
_SERIAL_WORK_S = 4.0


class Surface(Protocol):
    """What a workload may ask of an engine."""

    @property
    def say(self) -> Callable[[int], int]:
        """The task body that logs a line in the engine's own way."""

    def submitter(self, function: Callable[..., Any], *, retries: int = 0) -> Callable[..., Any]:
        """Return the callable that submits one task run and gives a future."""

    def mapper(
        self, function: Callable[..., Any], *, retries: int = 0
    ) -> Callable[[Iterable[Any]], Sequence[Any]]:
        """Return the callable that submits one task run per item and gives futures."""

    def gather(self, futures: Sequence[Any]) -> list[Any]:
        """Wait for every result, in order."""

    def result(self, future: Any) -> Any:
        """Wait for one result."""

    def lines(self, expected: int) -> int:
        """Wait until so many lines of `say` are home, and return how many are."""


def _submit_loop(surface: Surface, size: int) -> object:
    submit = surface.submitter(noop)
    return surface.gather([submit(i) for i in range(size)])


def _map(surface: Surface, size: int) -> object:
    return surface.gather(surface.mapper(noop)(range(size)))


def _chain(surface: Surface, size: int) -> object:
    submit = surface.submitter(inc)
    future = submit(0)
    for _ in range(size - 1):
        future = submit(future)
    return surface.result(future)


def _tree(surface: Surface, size: int) -> object:
    submit = surface.submitter(add)
    level: list[Any] = list(range(size))
    while len(level) > 1:
        level = [submit(left, right) for left, right in zip(level[::2], level[1::2], strict=True)]
    return surface.result(level[0])


def _naps(surface: Surface, size: int) -> object:
    return surface.gather(surface.mapper(nap)(range(size)))


def _spins(task_s: float, surface: Surface, size: int) -> object:
    return surface.gather(surface.mapper(spin)([task_s] * size))


_DEPTH = 10


def _deep(surface: Surface, size: int) -> object:
    level: Sequence[Any] = range(size)
    map_ = surface.mapper(inc)
    for _ in range(_DEPTH):
        level = map_(level)
    return surface.gather(level)


def _retries(surface: Surface, size: int) -> object:
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        items = [(folder, i) for i in range(size)]
        values = surface.gather(surface.mapper(fail_once, retries=1)(items))
        return values, len(os.listdir(folder))


def _logs(surface: Surface, size: int) -> object:
    values = surface.gather(surface.mapper(surface.say)(range(size)))
    return values, surface.lines(size)


def _round_trips(surface: Surface, size: int) -> object:
    submit = surface.submitter(noop)
    return [surface.result(submit(i)) for i in range(size)]


@dataclass(frozen=True)
class Workload:
    """One shape of work: how much of it is run, by which control, and what must come out.

    Parameters
    ----------
    name
        As on the command line and in `budgets.toml`: ``W1.submit``.
    title
        One line for people.
    shape
        ``shape(surface, size)`` runs the work and returns its value.
    runs
        Task runs that a size takes.
    expected
        The value that a size must give; anything else stops the benchmark.
    size, quick_size
        What is timed by a full and by a quick run.
    warm_size
        Run before each timed part, on every engine alike: code is loaded, durations are known.
    control
        The engine that ratios refer to.
    others
        Engines that a full run shows beside the control.
    """

    name: str
    title: str
    shape: Callable[[Surface, int], object]
    runs: Callable[[int], int]
    expected: Callable[[int], object]
    size: int
    quick_size: int
    warm_size: int
    control: str = "dask"
    others: tuple[str, ...] = ()


def _numbers(size: int) -> list[int]:
    return list(range(size))


def _no_ops(name: str, title: str, shape: Callable[[Surface, int], object]) -> Workload:
    return Workload(name, title, shape, int, _numbers, 10_000, 1_000, 100, others=("dask.delayed",))


def _nap_case(size: int, quick_size: int, control: str) -> Workload:
    title = f"{size:,} async naps of 0.1 s, against {_IN_WORDS[control]}"
    return Workload(
        f"W4.naps{size}", title, _naps, int, _numbers, size, quick_size, 10, control=control
    )


_IN_WORDS = {"dask": "async functions by client.map", "asyncio": "one asyncio.gather"}


def _spin_case(milliseconds: int) -> Workload:
    task_s = milliseconds / 1000
    full = round(_SERIAL_WORK_S / task_s)
    return Workload(
        f"W5.{milliseconds}ms",
        f"tasks of {milliseconds} ms of pure Python on {SLOTS} slots, against a serial loop",
        functools.partial(_spins, task_s),
        runs=int,
        expected=lambda size: [task_s] * size,
        size=full,
        quick_size=full // 8,
        warm_size=min(20, full // 8),
        control="serial",
    )


WORKLOADS: tuple[Workload, ...] = (
    _no_ops("W1.submit", "no-ops by a loop of .submit, against client.submit", _submit_loop),
    _no_ops("W1.map", "no-ops by .map, against client.map", _map),
    Workload(
        "W2.chain",
        "a chain of inc, each waiting for the one before",
        _chain,
        runs=int,
        expected=int,
        size=300,
        quick_size=300,
        warm_size=20,
        others=("dask.delayed",),
    ),
    Workload(
        "W3.tree",
        "a tree of add over range(n)",
        _tree,
        runs=lambda size: size - 1,
        expected=lambda size: size * (size - 1) // 2,
        size=1_024,
        quick_size=512,
        warm_size=16,
        others=("dask.delayed",),
    ),
    _nap_case(100, 40, "dask"),
    _nap_case(1_000, 1_000, "asyncio"),
    _nap_case(10_000, 4_000, "asyncio"),
    *(_spin_case(milliseconds) for milliseconds in (1, 5, 10, 20, 50)),
    Workload(
        "W9.deep",
        f"a map of maps, n wide and {_DEPTH} deep",
        _deep,
        runs=lambda size: size * _DEPTH,
        expected=lambda size: list(range(_DEPTH, size + _DEPTH)),
        size=1_000,
        quick_size=100,
        warm_size=10,
    ),
    Workload(
        "W9.retries",
        "no-ops of which 30 % fail once and are retried",
        _retries,
        runs=int,
        expected=lambda size: (_numbers(size), sum(i % 10 < 3 for i in range(size))),
        size=10_000,
        quick_size=1_000,
        warm_size=100,
    ),
    Workload(
        "W9.logs",
        "tasks that log a line each, until all lines are home, against log_event of Dask",
        _logs,
        runs=int,
        expected=lambda size: (_numbers(size), size),
        size=10_000,
        quick_size=1_000,
        warm_size=10,
    ),
    Workload(
        "latency",
        "one submit and its result, one after the other, on an idle cluster",
        _round_trips,
        runs=int,
        expected=_numbers,
        size=100,
        quick_size=25,
        warm_size=5,
    ),
)
