"""Tasks that submit tasks: from worker processes, from threads and in the flow's own thread."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest

from daskflow import DaskTaskRunner, flow, runtime, task, wait
from daskflow.errors import FlowFailed
from daskflow.runner.store import open_store

ONE_SLOT = DaskTaskRunner(cluster_kwargs={"n_workers": 1, "threads_per_worker": 1})


@pytest.fixture(params=["processes", "threads", "sync"])
def task_runner(request, cluster):
    """Every kind of place that a task can submit from; processes are shared."""
    return cluster if request.param == "processes" else request.param


@task
def add(left, right):
    return left + right


@task
def level(number):
    return 0 if number == 0 else 1 + level.submit(number - 1).result()


@task
def fibonacci(number):
    if number < 2:
        return number
    parts = [fibonacci.submit(number - 1), fibonacci.submit(number - 2)]
    return sum(part.result() for part in parts)


def test_five_levels_end_on_one_worker_with_one_thread():
    @flow(task_runner=ONE_SLOT)
    def deep():
        return level.submit(5).result(timeout=60)

    assert deep() == 5


def test_recursion_fans_out_and_comes_home(task_runner):
    @flow(task_runner=task_runner)
    def recursive():
        return fibonacci.submit(6).result(timeout=60)

    assert recursive() == 8


def test_nested_futures_depend_on_each_other(task_runner):
    @task
    def asks():
        first = add.submit(1, 2)
        second = add.submit(first, [10][0])
        mapped = add.map([second, first], 100)
        done = wait(mapped, timeout=60).done
        return second.result(), mapped.result(), len(done)

    @flow(task_runner=task_runner)
    def dependent():
        return asks.submit().result(timeout=60)

    assert dependent() == (13, [113, 103], 2)


def test_a_nested_failure_is_the_asking_tasks_to_handle(task_runner):
    @task
    def fails():
        raise ValueError("inside")

    @task
    def handles():
        try:
            return fails.submit().result()
        except ValueError as error:
            return f"handled {error}"

    @flow(task_runner=task_runner)
    def handled():
        return handles.submit().result(timeout=60)

    assert handled() == "handled inside"


def test_a_nested_failure_that_nobody_looks_at_fails_the_flow(task_runner):
    @task
    def fails():
        raise ValueError("unseen")

    @task
    def forgets():
        wait([fails.submit()])
        return "done"

    @flow(task_runner=task_runner)
    def forgetful():
        return forgets.submit().result(timeout=60)

    with pytest.raises(FlowFailed, match="unseen"):
        forgetful()


def test_parents_are_recorded(task_runner, home):
    @task
    def asks():
        return add.submit(1, 2).result(), runtime.task_run.id

    @flow(task_runner=task_runner)
    def recorded():
        return asks.submit().result(timeout=60)

    value, asking = recorded()
    assert value == 3
    with open_store(f"sqlite:///{home}/runs.db") as store:
        run = store.find_flow_run("@last")
        assert asking == f"{run.flow_run_id}-0"
        assert [row.state for row in store.task_runs(run.flow_run_id)] == ["Completed"] * 2
        assert store.edges(run.flow_run_id) == [(1, 0)]
        assert len(store.tasks(run.flow_run_id)) == 2


def test_waiting_does_not_count_as_duration(cluster, tmp_path, home):
    @task
    def naps():
        import time

        time.sleep(0.5)

    @task
    def waits():
        return naps.submit().result()

    @flow(task_runner=cluster)
    def timed():
        waits.submit().result(timeout=60)

    timed()
    with open_store(f"sqlite:///{home}/runs.db") as store:
        run = store.find_flow_run("@last")
        outer, inner = store.task_runs(run.flow_run_id)
        assert inner.run_s >= 0.5
        assert outer.run_s < inner.run_s


def test_async_tasks_submit_and_await(cluster):
    @task
    async def asks(number):
        futures = [add.submit(number, other) for other in range(3)]
        return [await future for future in futures]

    @flow(task_runner=cluster)
    def awaited():
        return asks.map(range(4)).result(timeout=60)

    assert awaited() == [[n, n + 1, n + 2] for n in range(4)]


def test_large_nested_results_reach_the_task_that_asks(cluster):
    @task
    def make(value):
        return np.full(100_000, value)

    @task
    def total(array):
        return int(array.sum())

    @task
    def asks():
        made = make.submit(2)
        return total.submit(made).result(), int(made.result()[0])

    @flow(task_runner=cluster)
    def large():
        return asks.submit().result(timeout=60)

    assert large() == (200_000, 2)


def test_a_task_that_is_lost_with_its_children_asks_again(tmp_path):
    counted = tmp_path / "attempts"

    @task
    def child(number):
        return number

    @task
    def parent():
        with counted.open("a") as file:
            file.write("x")
        children = child.map(range(5))
        if counted.stat().st_size == 1:
            children.wait()
            os.kill(os.getpid(), signal.SIGKILL)
        return children.result()

    @flow
    def survives():
        return parent.submit().result(timeout=60)

    assert survives() == [0, 1, 2, 3, 4]
    assert counted.read_text() == "xx"


def test_a_retried_task_leaves_no_run_behind(cluster, home):
    @task(retries=1)
    def asks_twice():
        future = add.submit(1, 1)
        if runtime.task_run.attempt == 1:
            raise ValueError("first attempt")
        return future.result()

    @flow(task_runner=cluster)
    def retried():
        return asks_twice.submit().result(timeout=60)

    assert retried() == 2
    with open_store(f"sqlite:///{home}/runs.db") as store:
        run = store.find_flow_run("@last")
        states = {row.state for row in store.task_runs(run.flow_run_id)}
        assert states <= {"Completed", "Cancelled"}
