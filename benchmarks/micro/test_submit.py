"""`task.submit` and `task.map` in a flow: what the calling thread spends until they return."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.bodies import noop
from benchmarks.engines import overridden, settings
from daskflow import flow, task

RUNS = 5_000

pytestmark = pytest.mark.benchmark(timer=time.thread_time)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """Keep away from the store of whoever runs this."""
    with overridden(settings(tmp_path)):
        yield tmp_path


@pytest.mark.parametrize("way", ["loop", "map"])
def test_submit_in_a_flow(benchmark: Any, home: Path, way: str) -> None:
    """No-ops on the threads of this process; waiting for the results is not measured."""
    no_op = task(noop)

    def loop() -> Any:
        return [no_op.submit(i) for i in range(RUNS)]

    def map_() -> Any:
        return no_op.map(range(RUNS))

    submitted = {"loop": loop, "map": map_}[way]

    @flow(task_runner="threads")
    def measured() -> None:
        no_op.submit(0).result()  # the cluster is there from here on
        benchmark.extra_info["runs"] = RUNS
        futures = benchmark.pedantic(submitted, rounds=10, warmup_rounds=1)
        assert [future.result() for future in futures] == list(range(RUNS))

    measured()
