"""The driver core and packing: what a task run costs before any I/O."""

from __future__ import annotations

import time
from typing import Any

import pytest

from daskflow.runner.core.driver import Driver
from daskflow.runner.core.graph import Outcome, Run, Scope, Stage
from daskflow.runner.core.packing import PackingRules, parcel_size
from daskflow.runner.core.retries import RetryPolicy

RUNS = 10_000
SLOTS = 2

# CPU time of this thread: other work on the machine is not measured.
pytestmark = pytest.mark.benchmark(timer=time.thread_time)


def _driver() -> tuple[Driver, Stage]:
    driver = Driver()
    driver.slots = SLOTS
    stage = Stage(Scope("f"), "noop", RetryPolicy())
    stage.estimate.seconds = 1e-6
    return driver, stage


def _submit(driver: Driver, stage: Stage) -> Driver:
    for number in range(RUNS):
        driver.submit(Run(stage, number, b"payload", (), 0.0))
    return driver


def _work_off(driver: Driver) -> int:
    """Pack, and end every run well, until nothing is left; return how many ended."""
    ended = 0
    while True:
        driver.pack(1.0)
        driver.take()
        if not driver.parcels:
            return ended
        for parcel in list(driver.parcels.values()):
            outcomes = [Outcome(run.number, True, 1.0, 1e-6, 1) for run in parcel.runs]
            driver.outcomes(parcel.id, outcomes, "tcp://worker", 1)
            driver.parcel_done(parcel.id)
            ended += len(outcomes)


def test_driver_takes_task_runs(benchmark: Any) -> None:
    """`Run` and `Driver.submit`."""
    benchmark.extra_info["runs"] = RUNS
    benchmark.pedantic(_submit, setup=lambda: (_driver(), {}), rounds=20)


def test_driver_packs_and_ends_task_runs(benchmark: Any) -> None:
    """Ready runs to parcels, outcomes to final states."""
    benchmark.extra_info["runs"] = RUNS
    ended = benchmark.pedantic(_work_off, setup=lambda: ((_submit(*_driver()),), {}), rounds=20)
    assert ended == RUNS


def test_chain_is_fused_and_ended(benchmark: Any) -> None:
    """Runs of which each waits for the one before."""

    def chained() -> Driver:
        driver, stage = _driver()
        before: tuple[Run, ...] = ()
        for number in range(RUNS):
            run = Run(stage, number, b"payload", before, 0.0)
            driver.submit(run)
            before = (run,)
        return driver

    benchmark.extra_info["runs"] = RUNS
    ended = benchmark.pedantic(_work_off, setup=lambda: ((chained(),), {}), rounds=20)
    assert ended == RUNS


def test_size_of_a_parcel_is_decided(benchmark: Any) -> None:
    """One decision of `parcel_size`."""
    _, stage = _driver()
    stage.ready.extend(Run(stage, number, b"", (), 0.0) for number in range(RUNS))
    assert benchmark(parcel_size, stage, 1.0, 0.1, SLOTS, PackingRules()) >= 1


def test_size_of_a_parcel_for_many_slots_is_decided(benchmark: Any) -> None:
    """The same where the scheduler sets the least size."""
    _, stage = _driver()
    stage.ready.extend(Run(stage, number, b"", (), 0.0) for number in range(RUNS))
    assert benchmark(parcel_size, stage, 1.0, 0.1, 1_000, PackingRules()) >= 1
