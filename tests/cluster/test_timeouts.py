"""`timeout_seconds`: a run that takes too long is TimedOut on time, and nobody else pays for it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from daskflow import flow, runtime, task
from daskflow.config import get_settings
from daskflow.errors import TaskTimedOut, UpstreamFailed
from daskflow.runner.store import open_store

EVERYWHERE = pytest.mark.parametrize("where", ["processes", "threads", "sync"], indirect=True)
PARALLEL = pytest.mark.parametrize("where", ["processes", "threads"], indirect=True)
LONG_S = 20.0


@pytest.fixture
def gate(tmp_path):
    """Path of a file; bodies hang until it exists, at the latest at the end of the test."""
    path = tmp_path / "gate"
    yield str(path)
    path.touch()


def hang(gate, seconds=LONG_S):
    deadline = time.monotonic() + seconds
    while not os.path.exists(gate) and time.monotonic() < deadline:
        threading.Event().wait(0.01)


def write(path, text):
    Path(path).write_text(text)


def recorded_runs():
    with open_store(get_settings().store.url) as store:
        flow_run_id = store.flow_runs()[0].flow_run_id
        return [
            (run, store.transitions(flow_run_id, run.number))
            for run in store.task_runs(flow_run_id)
        ]


@EVERYWHERE
def test_a_plain_run_that_hangs_has_timed_out(where, gate):
    @task(timeout_seconds=0.3)
    def hangs():
        hang(gate)

    @flow(task_runner=where)
    def hanging():
        future = hangs.submit()
        began = time.monotonic()
        with pytest.raises(TaskTimedOut, match=r"'hangs' ran longer than timeout_seconds=0\.3"):
            future.result()
        return future.state.name, future.state.message, time.monotonic() - began

    state, message, waited_s = hanging()
    assert state == "TimedOut"
    assert message == "task 'hangs' ran longer than timeout_seconds=0.3"
    assert waited_s < LONG_S / 2
    ((run, history),) = recorded_runs()
    assert (run.state, run.attempt, run.message) == ("TimedOut", 1, message)
    assert 0.25 < run.run_s < LONG_S / 2
    assert [each.state for each in history] == ["Pending", "Running", "TimedOut"]


@EVERYWHERE
def test_an_async_run_that_hangs_is_cancelled_and_has_timed_out(where, tmp_path):
    told = str(tmp_path / "told")

    @task(timeout_seconds=0.3)
    async def hangs(x):
        try:
            await asyncio.sleep(LONG_S if x == 1 else 0)
        except asyncio.CancelledError:
            write(told, "cancelled")
            raise
        return x

    @flow(task_runner=where)
    def hanging():
        futures = hangs.map([0, 1, 2])
        futures.wait()
        return [(future.state.name, future.state.result(False)) for future in futures]

    first, second, third = hanging()
    assert first == ("Completed", 0)
    assert third == ("Completed", 2)
    assert second[0] == "TimedOut"
    assert isinstance(second[1], TaskTimedOut)
    assert Path(told).read_text() == "cancelled"


@PARALLEL
def test_the_neighbours_of_a_hanging_run_complete_and_pay_nothing(where, gate):
    @task(timeout_seconds=0.3, retries=0, crash_retries=0)
    def one(x):
        if x == 250:
            hang(gate)
        return x

    @flow(task_runner=where)
    def packed():
        for future in one.map(range(-20, 0)):  # from now on the task is known to be short
            future.result()
        futures = one.map(range(500))
        futures.wait()
        return [future.state.name for future in futures]

    states = packed()
    assert states.pop(250) == "TimedOut"
    assert set(states) == {"Completed"}
    runs = [run for run, _ in recorded_runs()]
    assert {(run.attempt, run.crashes) for run in runs} == {(1, 0)}


@EVERYWHERE
def test_a_run_that_timed_out_is_retried_and_the_late_result_is_dropped(where, gate):
    @task(timeout_seconds=0.3, retries=1)
    def hangs_once():
        attempt = runtime.task_run.attempt
        if attempt == 1:
            hang(gate)
        return attempt

    @task
    def opens(attempt):
        Path(gate).touch()  # the first attempt ends now
        return attempt

    @flow(task_runner=where)
    def retrying():
        future = hangs_once.submit()
        second = opens.submit(future).result()
        assert opens.submit(7).result() == 7
        return second, future.result()

    assert retrying() == (2, 2)
    run, history = recorded_runs()[0]
    assert (run.state, run.attempt) == ("Completed", 2)
    assert [each.state for each in history] == [
        "Pending",
        "Running",
        "AwaitingRetry",
        "Retrying",
        "Completed",
    ]
    started, awaited = history[1].at, history[2].at
    assert 0.2 < awaited - started < LONG_S / 2


@EVERYWHERE
def test_what_depends_on_a_run_that_timed_out_never_runs_and_says_why(where, gate):
    @task(timeout_seconds=0.2)
    def hangs():
        hang(gate)

    @task
    def takes(value):
        return value

    @flow(task_runner=where)
    def depending():
        last = takes.submit(takes.submit(hangs.submit()))
        with pytest.raises(UpstreamFailed) as caught:
            last.result()
        return last.state.name, caught.value

    state, error = depending()
    assert state == "NotReady"
    assert isinstance(error.__cause__, TaskTimedOut)


@EVERYWHERE
def test_a_condition_is_asked_about_a_timed_out_attempt(where, gate):
    asked = []

    def condition(task, run, state):
        asked.append(state.name)
        return False

    @task(timeout_seconds=0.2, retries=5, retry_condition_fn=condition)
    def hangs():
        hang(gate)

    @flow(task_runner=where)
    def asking():
        future = hangs.submit()
        future.wait()
        return future.state.name

    assert asking() == "TimedOut"
    assert asked == ["TimedOut"]


@EVERYWHERE
def test_an_error_of_another_run_that_timed_out_is_a_failure_like_any(where, gate):
    @task(timeout_seconds=5)
    def raises():
        raise TaskTimedOut("other-1", "another one")

    @flow(task_runner=where)
    def failing():
        future = raises.submit()
        future.wait()
        return future.state.name

    assert failing() == "Failed"


@pytest.mark.parametrize("retries", [0, 1])
def test_a_direct_call_is_interrupted(gate, retries):
    attempts = []

    @task(timeout_seconds=0.1, retries=retries)
    def hangs():
        attempts.append(1)
        hang(gate)

    with pytest.raises(TaskTimedOut):
        hangs()
    assert hangs(return_state=True).name == "TimedOut"
    assert len(attempts) == 2 * (1 + retries)


def test_a_direct_call_of_an_async_task_is_cancelled():
    @task(timeout_seconds=0.1)
    async def hangs():
        await asyncio.Event().wait()

    @flow(task_runner="sync")
    async def calling():
        state = await hangs(return_state=True)
        return state.name

    assert asyncio.run(calling()) == "TimedOut"


def test_a_limit_around_a_direct_call_ends_both_and_retries_only_the_outer_one(gate):
    calls = []

    @task(timeout_seconds=30, retries=9)
    def inner():
        calls.append("inner")
        hang(gate)

    @task(timeout_seconds=0.2)
    def outer():
        calls.append("outer")
        inner()

    assert outer(return_state=True).name == "TimedOut"
    assert calls == ["outer", "inner"]


@pytest.mark.parametrize("runner", ["processes", "threads"])
def test_a_hanging_body_does_not_hold_up_the_end_of_its_flow(tmp_path, runner):
    script = tmp_path / "hanging.py"
    script.write_text(
        "import time, threading\n"
        "from daskflow import flow, task\n\n"
        "@task(timeout_seconds=0.2)\n"
        "def hangs():\n"
        "    threading.Event().wait(60)\n\n"
        f"@flow(task_runner={runner!r})\n"
        "def hanging():\n"
        "    future = hangs.submit()\n"
        "    future.wait()\n"
        "    return future.state.name, time.monotonic()\n\n"
        "state, at = hanging(return_state=True).result()\n"
        "print(state, time.monotonic() - at)\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.getcwd(), "DASKFLOW_RUNNER__WORKERS": "1"},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    state, closing_s = done.stdout.split()
    assert state == "TimedOut"
    assert float(closing_s) < 15
    left = [
        process
        for process in psutil.process_iter(["cmdline"])
        if str(tmp_path) in " ".join(process.info["cmdline"] or ())
    ]
    assert left == []
