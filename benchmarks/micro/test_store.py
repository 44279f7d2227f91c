"""The store writer: rows of task runs from the engine's hand to the disk."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

import pytest

from daskflow.runner.store import open_store
from daskflow.runner.store.rows import TaskRunRow
from daskflow.runner.store.writer import Writer, open_writer

ROWS = 20_000
BATCH = 500  # about what a parcel brings


def _row(number: int) -> TaskRunRow:
    at = 1_700_000_000.0 + number / 1000
    return TaskRunRow(
        number, 0, number, None, "Completed", None, 1, 0, None, at, at, at, 1e-6, None, 1e-6,
        "tcp://127.0.0.1:40000", 1000, None, None, None,
    )  # fmt: skip


def test_writer_commits_task_runs(benchmark: Any, tmp_path: Path) -> None:
    """Hand over and flush; the clock of the wall, since another thread and the disk do the work."""
    url = f"sqlite:///{tmp_path / 'runs.db'}"
    writer = open_writer(url)
    rounds = itertools.count()

    def write(flow_run_id: str, batches: list[list[TaskRunRow]]) -> bool:
        for batch in batches:
            writer.task_runs(flow_run_id, batch)
        return writer.flush()

    try:
        benchmark.extra_info["rows"] = ROWS
        assert benchmark.pedantic(write, setup=lambda: (_work(rounds), {}), rounds=5)
        with open_store(url) as store:
            assert store.counts(f"{0:032x}") == {"Completed": ROWS}
    finally:
        writer.close()


@pytest.mark.benchmark(timer=time.thread_time)
def test_handing_over_costs_the_engine_next_to_nothing(benchmark: Any, tmp_path: Path) -> None:
    """Only the call that the driver's thread makes, in CPU time of that thread."""
    writer: Writer = open_writer(f"sqlite:///{tmp_path / 'runs.db'}")
    rounds = itertools.count()

    def hand_over(flow_run_id: str, batches: list[list[TaskRunRow]]) -> None:
        for batch in batches:
            writer.task_runs(flow_run_id, batch)

    try:
        benchmark.extra_info["rows"] = ROWS
        benchmark.pedantic(hand_over, setup=lambda: (_work(rounds), {}), rounds=10)
    finally:
        writer.close()


def _work(rounds: Any) -> tuple[str, list[list[TaskRunRow]]]:
    flow_run_id = f"{next(rounds):032x}"
    rows = [_row(number) for number in range(ROWS)]
    return flow_run_id, [rows[i : i + BATCH] for i in range(0, ROWS, BATCH)]
