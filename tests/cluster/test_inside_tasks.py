"""What a task may ask for wherever it is executed: its flow run, hooks, lost values."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time

import numpy as np
import pytest

from daskflow import DaskTaskRunner, flow, runtime, task
from daskflow.errors import UsageError

PROCESSES = pytest.mark.parametrize("where", ["processes"], indirect=True)


@task
def double(x):
    return 2 * x


# ---- the flow run around it


@PROCESSES
def test_parameters_that_do_not_pickle_say_so_when_they_are_asked_for(where):
    @task
    def looks():
        with pytest.raises(UsageError, match=r"do not pickle .*as an argument"):
            _ = runtime.flow_run.parameters
        return runtime.flow_run.attempt

    @flow(task_runner=where, validate_parameters=False)
    def around(lock, number):
        return looks.submit().result()

    assert around(threading.Lock(), 1) == 1


@PROCESSES
def test_async_tasks_have_the_parameters_too(where):
    @task
    async def looks():
        return runtime.flow_run.parameters["number"]

    @flow(task_runner=where)
    async def around(number: int):
        return await asyncio.gather(looks.submit(), looks.submit())

    assert asyncio.run(around(7)) == [7, 7]


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
