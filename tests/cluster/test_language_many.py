"""Very many task runs from an iterator: memory that does not grow with their number, in every
process, and results that are there while later runs are not submitted yet."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Iterator

import psutil
import pytest

from daskflow import as_completed, flow, task

MEGABYTE = 1e6


@task
def echo(x):
    return x


def _resident() -> dict[str, float]:
    """Bytes of this process, which has the scheduler too, and of all workers together."""
    gc.collect()
    me = psutil.Process(os.getpid())
    workers = 0
    for child in me.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
            workers += child.memory_info().rss
    return {"flow process": me.memory_info().rss, "workers": workers}


def _consume(cluster, count: int) -> None:
    """Run `count` no-ops through a map and check what it keeps."""
    taken = 0
    ahead: list[int] = []

    def items() -> Iterator[int]:
        nonlocal taken
        while taken < count:
            taken += 1
            yield taken - 1

    @flow(task_runner=cluster)
    def many():
        warm = [future.result() for future in echo.map(range(20_000))]
        assert len(warm) == 20_000
        del warm
        before, total, seen = _resident(), 0, 0
        for future in as_completed(echo.map(items())):
            total += future.result()
            seen += 1
            if seen % 1_000 == 0:
                ahead.append(taken - seen)
        return before, _resident(), total, seen

    before, after, total, seen = many()
    assert (seen, total) == (count, count * (count - 1) // 2)
    assert max(ahead) < 0.2 * count  # results came while most items had not been taken
    grown = {place: (after[place] - before[place]) / MEGABYTE for place in before}
    # less than a tenth of what `count` futures would take, whatever the allocator keeps
    assert grown["flow process"] < 24, grown
    assert grown["workers"] < 24, grown


def test_a_hundred_thousand_runs_from_an_iterator_take_no_more_memory_than_a_few(cluster):
    _consume(cluster, 100_000)


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_a_million_runs_from_an_iterator_take_no_more_memory_than_a_few():
    _consume("processes", 1_000_000)


def test_a_future_that_is_held_costs_less_than_a_kilobyte(cluster):
    count = 50_000

    @flow(task_runner=cluster)
    def holds():
        assert len(echo.map(range(20_000)).result()) == 20_000  # what is made once is made
        before = _resident()["flow process"]
        futures = [echo.submit(x) for x in range(count)]
        assert sum(future.result() for future in futures) == count * (count - 1) // 2
        held = _resident()["flow process"] - before
        return held

    assert holds() / count < 1_000
