"""The work of W1, W2 and W3, written once and run alike by every engine.

A shape sees an engine through `Surface` only.  `submitter` and `mapper` hand out the engine's own
callables, so the loops below add nothing of ours to what is timed: ``submit(i)`` here is the
very call that a user writes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = ["WORKLOADS", "Surface", "Workload", "add", "inc", "noop"]


class Surface(Protocol):
    """What a workload may ask of an engine."""

    def submitter(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the callable that submits one task run and gives a future."""

    def mapper(self, function: Callable[..., Any]) -> Callable[[Iterable[Any]], Sequence[Any]]:
        """Return the callable that submits one task run per item and gives futures."""

    def gather(self, futures: Sequence[Any]) -> list[Any]:
        """Wait for every result, in order."""


def noop(i: int) -> int:
    """Return its argument."""
    return i


def inc(i: int) -> int:
    """Return the next number."""
    return i + 1


def add(left: int, right: int) -> int:
    """Return the sum."""
    return left + right


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
    return surface.gather([future])[0]


def _tree(surface: Surface, size: int) -> object:
    submit = surface.submitter(add)
    level: list[Any] = list(range(size))
    while len(level) > 1:
        level = [submit(left, right) for left, right in zip(level[::2], level[1::2], strict=True)]
    return surface.gather(level)[0]


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
    """

    name: str
    title: str
    shape: Callable[[Surface, int], object]
    runs: Callable[[int], int]
    expected: Callable[[int], object]
    size: int
    quick_size: int
    warm_size: int


WORKLOADS: tuple[Workload, ...] = (
    Workload(
        "W1.submit",
        "no-ops by a loop of .submit, against client.submit",
        _submit_loop,
        runs=int,
        expected=lambda size: list(range(size)),
        size=10_000,
        quick_size=2_000,
        warm_size=100,
    ),
    Workload(
        "W1.map",
        "no-ops by .map, against client.map",
        _map,
        runs=int,
        expected=lambda size: list(range(size)),
        size=10_000,
        quick_size=2_000,
        warm_size=100,
    ),
    Workload(
        "W2.chain",
        "a chain of inc, each waiting for the one before",
        _chain,
        runs=int,
        expected=int,
        size=300,
        quick_size=300,
        warm_size=20,
    ),
    Workload(
        "W3.tree",
        "a tree of add over range(n)",
        _tree,
        runs=lambda size: size - 1,
        expected=lambda size: size * (size - 1) // 2,
        size=1_024,
        quick_size=1_024,
        warm_size=16,
    ),
)
