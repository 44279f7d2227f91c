"""Flows that are called inside tasks: runs of their own, wherever the task is executed."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from daskflow import flow, get_run_logger, runtime, task, wait
from daskflow.errors import FlowFailed, ParameterError
from daskflow.runner.store import open_store
from tests.cluster.flows_in_tasks import (
    LOCAL,
    ONE_SLOT,
    calls,
    double,
    doubles,
    fails,
    recorded,
    run_in_task,
)

# ---- a run of its own


def test_its_result_comes_back_and_its_record_is_complete(where, home):
    assert run_in_task(where, doubles, 3) == 6
    row, runs, around = recorded(home, "doubles")
    with open_store(f"sqlite:///{home}/runs.db") as store:
        assert [child.name for child in store.children(around.flow_run_id)] == ["doubles-3"]
    assert (row.name, row.state, row.parameters) == ("doubles-3", "Completed", '{"n": 3}')
    assert (row.parent_flow_run_id, row.parent_task_run) == (around.flow_run_id, 0)
    assert (row.pid, row.task_runner) == (os.getpid(), around.task_runner)
    assert runs == [("double-0", "Completed"), ("double-1", "Completed"), ("double-2", "Completed")]


def test_five_levels_of_flows_and_tasks_end_on_one_worker_with_one_thread():
    @task
    def down(number):
        return level(number)

    @flow
    def level(number):
        return 0 if number == 0 else 1 + down.submit(number - 1).result()

    @flow(task_runner=ONE_SLOT)
    def deep():
        return down.submit(4).result(timeout=60)

    assert deep() == 4


@LOCAL
def test_flows_call_flows_there(where, home):
    @flow
    def inner():
        return double.submit(4).result(), runtime.flow_run.name

    @flow(flow_run_name="middle")
    def middle():
        return inner(), runtime.flow_run.name

    (value, name), middle_name = run_in_task(where, middle)
    assert (value, middle_name) == (8, "middle")
    row, _, around = recorded(home, "inner")
    assert row.name == name
    outer, _, _ = recorded(home, "middle")
    assert row.parent_flow_run_id == outer.flow_run_id
    assert outer.parent_flow_run_id == around.flow_run_id


@LOCAL
def test_async_flows_in_async_tasks(where):
    @flow
    async def later(n):
        return sum([await double.submit(x) for x in range(n)])

    @task
    async def awaits(n):
        return await asyncio.gather(later(n), later(n + 1))

    @flow(task_runner=where)
    async def around():
        return await awaits(3) if where == "sync" else await awaits.submit(3)

    assert asyncio.run(around()) == [6, 12]


def test_an_async_flow_in_a_plain_task_needs_no_second_slot():
    @flow
    async def later(n):
        return sum([await double.submit(x) for x in range(n)])

    @task
    def runs():
        return asyncio.run(later(3))

    @flow(task_runner=ONE_SLOT)
    def around():
        return runs.submit().result(timeout=60)

    assert around() == 6


# ---- direct calls of tasks


def test_tasks_that_it_calls_directly_are_recorded(where, home):
    @task(retries=1)
    def second_time(x):
        get_run_logger().info("attempt %d", runtime.task_run.attempt)
        if runtime.task_run.attempt == 1:
            raise ValueError("first")
        return x, runtime.task_run.id, runtime.flow_run.name

    @flow(flow_run_name="calling")
    def calling():
        values = [double(x) for x in range(4)]
        values.append(double(double.submit(5)))
        return values, second_time(1)

    values, (x, task_run_id, name) = run_in_task(where, calling)
    assert (values, x, name) == ([0, 2, 4, 6, 20], 1, "calling")
    row, runs, _ = recorded(home, "calling")
    assert runs == [
        *((f"double-{n}", "Completed") for n in range(6)),
        ("second_time-0", "Completed"),
    ]
    with open_store(f"sqlite:///{home}/runs.db") as store:
        (again,) = [
            run
            for run in store.task_runs(row.flow_run_id)
            if task_run_id.endswith(f"-{run.number}")
        ]
        assert again.attempt == 2
        assert [
            line.message for line in store.logs(row.flow_run_id) if line.number == again.number
        ][:2] == ["attempt 1", "attempt 2"]


@LOCAL
def test_a_direct_call_that_fails_is_a_failed_run(where, home):
    @flow
    def catching():
        with pytest.raises(ValueError, match="caught"):
            fails("caught")
        return "went on"

    assert run_in_task(where, catching) == "went on"
    row, runs, _ = recorded(home, "catching")
    assert (row.state, runs) == ("Completed", [("fails-0", "Failed")])


# ---- how it ends


@LOCAL
def test_what_it_raises_is_raised_in_the_task(where, home):
    @flow
    def broken():
        double.submit(1).wait()
        raise KeyError("from inside")

    with pytest.raises(KeyError, match="from inside"):
        run_in_task(where, broken)
    row, _, _ = recorded(home, "broken")
    assert (row.state, row.message) == ("Failed", "KeyError: 'from inside'")


def test_a_failure_that_nobody_looks_at_fails_it_and_not_the_flow_around(where, home):
    @flow
    def careless():
        wait([fails.submit()])
        return "done"

    @flow(task_runner=where, name="around")
    def around():
        return calls.submit(judges).result(timeout=60)

    def judges():
        state = careless(return_state=True)
        with pytest.raises(FlowFailed, match=r"fails-0 \(Failed: ValueError: unseen\)"):
            state.result()
        return state.name

    assert around() == "Failed"
    row, runs, outer = recorded(home, "careless")
    assert (row.state, outer.state) == ("Failed", "Completed")
    assert runs == [("fails-0", "Failed")]


@LOCAL
def test_failures_that_it_looks_at_do_not_fail_it(where):
    @flow
    def careful():
        with pytest.raises(ValueError, match="unseen"):
            fails.submit().result()
        late = fails.submit()
        spread = double.submit(late)
        with pytest.raises(Exception, match="fails-1"):
            spread.result()
        return [double.submit(1)]

    assert run_in_task(where, careful) == [2]


@LOCAL
def test_it_waits_for_what_it_leaves_open(where, home, tmp_path):
    @task
    def writes():
        (tmp_path / "written").touch()

    @flow
    def leaves():
        writes.submit()

    run_in_task(where, leaves)
    _, runs, _ = recorded(home, "leaves")
    assert runs == [("writes-0", "Completed")]
    assert (tmp_path / "written").exists()


@LOCAL
def test_its_retries_keep_what_succeeded(where, home, tmp_path):
    @task
    def counted(name):
        with (tmp_path / name).open("a") as file:
            file.write("x")
        return name

    @flow(retries=1)
    def flaky():
        values = [counted.submit("submitted").result(), counted("called")]
        if runtime.flow_run.attempt == 1:
            fails.submit()
        return values, runtime.flow_run.attempt, attempt_there.submit().result()

    @task
    def attempt_there():
        return runtime.flow_run.attempt

    values, attempt, there = run_in_task(where, flaky)
    assert (values, attempt) == (["submitted", "called"], 2)
    assert there in (1, 2)
    assert (tmp_path / "submitted").read_text() == (tmp_path / "called").read_text() == "x"
    row, _, _ = recorded(home, "flaky")
    assert (row.state, row.attempt) == ("Completed", 2)


@LOCAL
def test_its_time_limit_ends_it(where, home):
    @task
    def naps():
        time.sleep(0.8)

    @flow(timeout_seconds=0.2)
    def slow():
        naps.submit().result()

    with pytest.raises(TimeoutError, match=r"timeout_seconds=0\.2"):
        run_in_task(where, slow)
    row, _, _ = recorded(home, "slow")
    assert row.state == "TimedOut"


@LOCAL
def test_parameters_that_do_not_fit_fail_the_call(where, home):
    with pytest.raises(ParameterError, match="n: "):
        run_in_task(where, doubles, "many")
    with open_store(f"sqlite:///{home}/runs.db") as store:
        assert [row.flow_name for row in store.flow_runs()] == ["around"]
