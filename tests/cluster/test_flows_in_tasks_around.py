"""What surrounds a flow that is called inside a task: hooks, log lines, tags, lost workers."""

from __future__ import annotations

import os
import signal
import time

import pytest

from daskflow import (
    FLOW_PARAMETERS,
    flow,
    get_client,
    get_run_logger,
    runtime,
    tags,
    task,
)
from daskflow.errors import TaskTimedOut, UsageError
from daskflow.runner.cache_plans import uncached
from daskflow.runner.store import open_store
from tests.cluster.flows_in_tasks import (
    LOCAL,
    ONE_SLOT,
    PROCESSES,
    calls,
    double,
    recorded,
    run_in_task,
)
from tests.cluster.told import Told

# ---- what surrounds it


def test_its_hooks_are_called_in_the_flow_process_once_each(where):
    told = []

    def hook(subflow, run, state):
        told.append((subflow.name, run.name, dict(run.parameters), state.name, os.getpid()))

    @flow(flow_run_name="hooked", on_running=[hook], on_completion=[hook], on_failure=[hook])
    def hooked(x):
        if x < 0:
            raise ValueError("negative")
        return double.submit(x).result()

    assert run_in_task(where, hooked, 1) == 2
    with pytest.raises(ValueError, match="negative"):
        run_in_task(where, hooked, -1)
    me = os.getpid()
    assert told == [
        ("hooked", "hooked", {"x": 1}, "Running", me),
        ("hooked", "hooked", {"x": 1}, "Completed", me),
        ("hooked", "hooked", {"x": -1}, "Running", me),
        ("hooked", "hooked", {"x": -1}, "Failed", me),
    ]


@PROCESSES
def test_hooks_of_one_with_very_large_parameters_are_called_without_them(where):
    told = []

    @flow(on_completion=[lambda subflow, run, state: told.append((state.name, run.parameters))])
    def large(data):
        return len(data)

    assert run_in_task(where, large, b"x" * 100_000) == 100_000
    ((name, parameters),) = told
    assert name == "Completed"
    with pytest.raises(UsageError, match="larger than the 65,536 bytes"):
        _ = parameters["data"]


@LOCAL
def test_its_tasks_cache_as_it_says(where, tmp_path):
    told = Told(tmp_path / "told")

    @task
    def load(x):
        told(f"load-{x}")
        return 2 * x

    @task(cache_policy=FLOW_PARAMETERS)
    def once(number):
        told("once")
        return number

    @flow(persist_result=True, result_storage=str(tmp_path / "results"))
    def caching(n):
        submitted = load.submit(n), once.submit(0)
        return [future.result() for future in submitted], load(n + 1), once(submitted[1])

    expected = [6, 0], 8, 0
    assert run_in_task(where, caching, 3) == expected
    assert told.take() == ["load-3", "load-4", "once"]
    assert run_in_task(where, caching, 3) == expected
    assert told.take() == []
    assert run_in_task(where, caching, 4) == ([8, 0], 10, 0)
    assert told.take() == ["load-5", "once"]
    with uncached():
        run_in_task(where, caching, 4)
    assert told.take() == ["load-4", "load-5", "once", "once"]


@LOCAL
def test_its_log_lines_are_its_own(where, home):
    @flow(log_prints=True)
    def talks():
        get_run_logger().info("logged")
        print("printed")

    run_in_task(where, talks)
    row, _, _ = recorded(home, "talks")
    with open_store(f"sqlite:///{home}/runs.db") as store:
        lines = [(line.number, line.message) for line in store.logs(row.flow_run_id)]
    assert lines == [(None, "logged"), (None, "printed")]


def test_tags_around_the_call_are_its_own(where, home):
    @flow
    def tagged():
        return runtime.flow_run.tags, tags_there.submit().result()

    @task(tags=["task"])
    def tags_there():
        return runtime.task_run.tags

    def calling():
        with tags("inside"):
            return tagged()

    with tags("outside"):
        own, there = run_in_task(where, calling)
    assert own == ("inside", "outside")
    assert there == ("inside", "outside", "task")


@PROCESSES
def test_a_task_runner_of_its_own_is_refused_with_a_way_out(where):
    @flow(task_runner="threads")
    def elsewhere():
        return double.submit(1).result()

    with pytest.raises(
        UsageError, match=r"task_runner of its own.*with_options\(task_runner=None\)"
    ):
        run_in_task(where, elsewhere)
    assert run_in_task(where, elsewhere.with_options(task_runner=None)) == 2


@PROCESSES
def test_workers_load_neither_store_nor_engine_for_it(where):
    @flow
    def looks():
        import sys

        double(1)
        double.submit(1).result()
        return {"sqlite3", "daskflow.runner.engine", "daskflow.runner.shell"} & set(sys.modules)

    def outside():
        return looks()

    before = run_in_task(where, lambda: {"sqlite3"} & set(__import__("sys").modules))
    assert run_in_task(where, outside) <= before


def test_it_crashes_with_the_worker_of_the_task_that_called_it(home, tmp_path):
    marker = tmp_path / "died"

    @flow(name="dies")
    def dies():
        double.submit(1).result()
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return "the second time"

    assert run_in_task(ONE_SLOT, dies) == "the second time"
    with open_store(f"sqlite:///{home}/runs.db") as store:
        states = [row.state for row in store.flow_runs() if row.flow_name == "dies"]
    assert sorted(states) == ["Completed", "Crashed"]


@LOCAL
def test_a_dask_client_is_there_for_it(where):
    @flow
    def uses():
        with get_client() as client:
            return client.submit(abs, -3).result()

    @flow
    async def uses_later():
        async with get_client() as client:
            return await client.submit(abs, -4)

    @task
    async def awaits():
        return await uses_later()

    @flow(task_runner=where)
    def around():
        return calls.submit(uses).result(timeout=60), awaits.submit().result(timeout=60)

    assert around() == (3, 4)


@PROCESSES
def test_it_ends_with_a_task_run_that_ran_out_of_time(where, home):
    @task
    def naps():
        time.sleep(0.4)

    @flow
    def slow():
        return [naps.submit().result() for _ in range(3)]

    @task(timeout_seconds=0.2)
    def late():
        return slow()

    @flow(task_runner=where, name="around")
    def around():
        return [late.submit().result(raise_on_failure=False)]

    assert isinstance(around()[0], TaskTimedOut)
    with open_store(f"sqlite:///{home}/runs.db") as store:
        ended = [(row.state, row.message) for row in store.flow_runs() if row.flow_name == "slow"]
    assert ended == [("Crashed", "late-0, the task run that called it, ended before it")]


@PROCESSES
def test_a_task_that_the_flow_process_cannot_load_fails_alone(where):
    class Unloadable:
        __name__ = __qualname__ = "unloadable"

        def __call__(self):
            return 1

        def __reduce__(self):
            return eval, ("1 / 0",)

    @task
    def submits(kind):
        made = task(kind())
        for _ in range(2):
            with pytest.raises(UsageError, match=r"cannot be loaded|could not be loaded"):
                made.submit().result(timeout=20)
        return double.submit(2).result()

    @flow(task_runner=where)
    def around():
        return submits.submit(Unloadable).result(timeout=60)

    assert around() == 4
