"""`timeout_seconds` of a flow: it ends on time as TimedOut, wherever it is."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from daskflow import flow, task
from daskflow.config import get_settings
from daskflow.runner.store import open_store
from tests.gates import Gate

PARALLEL = pytest.mark.parametrize("where", ["processes", "threads", "external"], indirect=True)


@task
def inc(x):
    return x + 1


@task
def pass_gate(gate):
    gate.wait()


def in_main_thread(call):
    return call()


def in_another_thread(call):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result()


@pytest.mark.parametrize("place", [in_main_thread, in_another_thread])
@PARALLEL
def test_a_flow_that_waits_for_a_task_too_long_is_timed_out(where, place, tmp_path):
    gate = Gate(tmp_path)
    openers: list[threading.Timer] = []

    @flow(task_runner=where, timeout_seconds=1)
    def waits():
        inc.submit(1).result()
        openers.append(threading.Timer(2, gate.open))  # threads that close wait for their run
        openers[0].start()
        pass_gate.submit(gate).result()

    began = time.perf_counter()
    state = place(lambda: waits(return_state=True))
    assert time.perf_counter() - began < 10
    reader = os.open(gate.path, os.O_RDONLY | os.O_NONBLOCK)  # if the run was never started
    for opener in openers:
        opener.join()
    os.close(reader)
    assert (state.name, state.is_failed()) == ("TimedOut", True)
    with pytest.raises(TimeoutError, match=r"took longer than timeout_seconds=1"):
        state.result()
    with open_store(get_settings().store.url) as store:
        row = store.find_flow_run("@last")
    assert (row.state, row.message) == ("TimedOut", state.message)


def test_code_that_calls_nothing_of_ours_is_interrupted_in_the_main_thread():
    before = signal.getsignal(signal.SIGALRM)

    @flow(task_runner="sync", timeout_seconds=0.2)
    def spins():
        try:
            while True:
                pass
        except Exception:
            return "eaten"

    with pytest.raises(TimeoutError, match="timeout_seconds"):
        spins()
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_task_that_runs_in_the_flows_thread_is_interrupted_with_it():
    @task(retries=5)
    def spins():
        while True:
            pass

    @flow(task_runner="sync", timeout_seconds=0.2)
    def waits():
        return spins.submit().result()

    assert waits(return_state=True).name == "TimedOut"


def test_an_async_flow_is_cancelled(where):
    ended = []

    @flow(task_runner=where, timeout_seconds=0.5)
    async def waits():
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cleaned up")

    with pytest.raises(TimeoutError, match="timeout_seconds"):
        asyncio.run(waits())
    assert ended == ["cleaned up"]


def test_time_is_over_for_what_the_function_left_open(cluster, tmp_path):
    gate = Gate(tmp_path)

    @flow(task_runner=cluster, timeout_seconds=0.7)
    def leaves():
        pass_gate.submit(gate)

    assert leaves(return_state=True).name == "TimedOut"
    gate.open()


def test_a_flow_that_is_in_time_is_not_touched(where):
    @flow(task_runner=where, timeout_seconds=60)
    def quick():
        return inc.submit(1).result()

    assert quick() == 2


def test_a_timeout_of_its_own_making_is_a_failure(where):
    @flow(task_runner=where, timeout_seconds=60)
    def raises():
        raise TimeoutError("mine")

    assert raises(return_state=True).name == "Failed"


@pytest.mark.parametrize("place", [in_main_thread, in_another_thread])
def test_the_time_of_the_parent_ends_its_subflows(place):
    states = []

    @flow(timeout_seconds=60)
    def child():
        try:
            while True:
                inc.submit(1).result()
        except BaseException as error:
            states.append(type(error).__name__)
            raise

    @flow(task_runner="threads", timeout_seconds=0.5)
    def parent():
        child()

    assert place(lambda: parent(return_state=True)).name == "TimedOut"
    with open_store(get_settings().store.url) as store:
        rows = {row.flow_name: row.state for row in store.flow_runs()}
    assert rows == {"parent": "TimedOut", "child": "Cancelled"}
    assert states == ["RanOut"]


def test_the_time_of_a_subflow_leaves_its_parent_alone():
    @flow(timeout_seconds=0.2)
    def child():
        while True:
            pass

    @flow(task_runner="sync", timeout_seconds=60)
    def parent():
        return child(return_state=True).name, inc.submit(1).result()

    assert parent() == ("TimedOut", 2)


def test_each_attempt_has_all_the_time():
    attempts = []

    @flow(task_runner="sync", timeout_seconds=0.2, retries=1)
    def second_is_quick():
        attempts.append(1)
        while len(attempts) == 1:
            pass
        return "done"

    assert second_is_quick() == "done"
