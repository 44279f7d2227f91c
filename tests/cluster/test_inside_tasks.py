"""What a task may ask for wherever it is executed: its flow run, tags, hooks, lost values."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time

import numpy as np
import pytest

from daskflow import DaskTaskRunner, flow, runtime, tags, task
from daskflow.errors import UsageError

PROCESSES = pytest.mark.parametrize("where", ["processes"], indirect=True)


@task
def double(x):
    return 2 * x


# ---- the flow run around it


def test_attempt_and_parameters_of_the_flow_run_are_known(where):
    @task
    def looks():
        return runtime.flow_run.attempt, dict(runtime.flow_run.parameters)

    @flow(task_runner=where, retries=1)
    def around(count: int, names: list[str]):
        seen = looks.submit().result()
        if runtime.flow_run.attempt == 1:
            raise ValueError("again")
        called = looks()
        return seen, looks.with_options(name="looks-again").submit().result(), called

    first, second, called = around(3, ["a", "b"])
    parameters = {"count": 3, "names": ["a", "b"]}
    assert first in ((1, parameters), (2, parameters))  # the first attempt's result is kept
    assert second == called == (2, parameters)


@PROCESSES
def test_parameters_that_cannot_travel_say_so_when_they_are_asked_for(where):
    @task
    def looks():
        parameters = runtime.flow_run.parameters
        with pytest.raises(UsageError, match=r"'lock'.*does not pickle.*as an argument"):
            parameters["lock"]
        with pytest.raises(UsageError, match=r"'data'.*2,000,0\d\d bytes"):
            parameters["data"]
        with pytest.raises(KeyError):
            parameters["nothing"]
        return sorted(parameters)

    @flow(task_runner=where, validate_parameters=False)
    def around(lock, data, number):
        return looks.submit().result()

    assert around(threading.Lock(), b"x" * 2_000_000, 1) == ["number"]


@PROCESSES
def test_async_tasks_have_the_parameters_too(where):
    @task
    async def looks():
        return runtime.flow_run.parameters["number"]

    @flow(task_runner=where)
    async def around(number: int):
        return await asyncio.gather(looks.submit(), looks.submit())

    assert asyncio.run(around(7)) == [7, 7]


# ---- tags


def test_tags_inside_a_task_reach_what_it_submits(where):
    @task(tags=["own"])
    def has():
        return runtime.task_run.tags

    @task
    def submits():
        plain = has.submit()
        with tags("inside"):
            tagged = [has.submit(), has.submit()]
        return plain.result(), [future.result() for future in tagged]

    @flow(task_runner=where)
    def around():
        return submits.submit().result(timeout=60)

    with tags("around"):
        plain, tagged = around()
    assert plain == ("around", "own")
    assert tagged == [("around", "inside", "own")] * 2


# ---- hooks of tasks that a task calls


def test_hooks_of_a_task_called_in_a_task_are_called_in_the_flow_process_once_each(where):
    told = []
    names = ("on_running", "on_completion", "on_failure", "on_retry")

    def hook(name):
        def tell(subject, run, state):
            value = state.result(raise_on_failure=False) if state.is_final() else None
            told.append((name, subject.name, run.attempt, state.name, repr(value), os.getpid()))

        return tell

    hooks = {name: hook(name) for name in names}

    @task(**hooks)
    def good(x):
        return x

    @task(retries=1, **hooks)
    def bad():
        raise ValueError("no")

    @task
    def calling():
        with pytest.raises(ValueError, match="no"):
            bad()
        return good(5)

    @flow(task_runner=where)
    def around():
        return calling.submit().result(timeout=60)

    assert around() == 5
    me = os.getpid()
    assert told == [
        ("on_running", "bad", 1, "Running", "None", me),
        ("on_retry", "bad", 1, "AwaitingRetry", "None", me),
        ("on_failure", "bad", 2, "Failed", "ValueError('no')", me),
        ("on_running", "good", 1, "Running", "None", me),
        ("on_completion", "good", 1, "Completed", "5", me),
    ]


told_in_module: list[tuple[str, int]] = []


@task
def hooked(x):
    return x


@hooked.on_completion
def tell_in_module(subject, run, state):
    told_in_module.append((run.name, os.getpid()))


@task
def uses_hooked():
    return hooked(1), hooked.submit(2).result()


@PROCESSES
def test_hooks_of_an_imported_module_are_those_of_the_flow_process(where):
    @flow(task_runner=where)
    def around():
        return uses_hooked.submit().result(timeout=60)

    told_in_module.clear()
    assert around() == (1, 2)
    assert sorted(told_in_module) == [("hooked-0", os.getpid())] * 2


# ---- values that are lost


def test_a_value_that_dies_while_a_task_fetches_it_is_made_again(tmp_path):
    made = tmp_path / "made"
    runner = DaskTaskRunner(cluster_kwargs={"n_workers": 2, "threads_per_worker": 1})

    @task(workers=["1"])
    def make():
        with made.open("a") as file:
            file.write("x")
        return np.full(100_000, os.getpid())

    @task(workers=["0"])
    def fetches():
        first = make.submit()
        pid = int(first.result()[0])
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while os.path.exists(f"/proc/{pid}") and time.monotonic() < deadline:
            time.sleep(0.01)  # until the worker is gone for good
        return pid, [int(first.result()[0]) for _ in range(2)]

    @flow(task_runner=runner)
    def around():
        return fetches.submit().result(timeout=60)

    pid, again = around()
    assert pid not in again
    assert again[0] == again[1]
    assert made.read_text() == "xx"
