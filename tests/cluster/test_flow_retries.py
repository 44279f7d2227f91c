"""Retries of a flow: the function runs again, task runs that succeeded do not."""

from __future__ import annotations

import asyncio
import threading

import pytest

from daskflow import allow_failure, flow, runtime, tags, task
from daskflow.config import get_settings
from daskflow.runner.cancellation import Cancellation
from daskflow.runner.store import open_store


class Ran:
    """Counts executions on disk, wherever they happen."""

    def __init__(self, folder):
        self.folder = folder

    def add(self, name):
        number = len(list(self.folder.glob(f"ran-{name}-*")))
        (self.folder / f"ran-{name}-{number}").touch(exist_ok=False)
        return number

    def count(self, name):
        return len(list(self.folder.glob(f"ran-{name}-*")))


@task
def once(ran, name, *parts):
    ran.add(name)
    return f"{name}{''.join(map(str, parts))}"


@task
def fails_first(ran, name, times=1):
    if ran.add(name) < times:
        raise ValueError(name)
    return name


@task
def large(ran):
    ran.add("large")
    return b"x" * 200_000


@task
def size(ran, data):
    ran.add("size")
    return len(data)


def last_run():
    with open_store(get_settings().store.url) as store:
        row = store.find_flow_run("@last")
        run = row.flow_run_id
        story = [each.state for each in store.transitions(run, None)]
        reused = store.events(run, "daskflow.task_run.reused")
        return row, story, store.task_runs(run), sorted({event.number for event in reused})


def test_what_succeeded_is_not_run_again(where, tmp_path):
    ran, attempts = Ran(tmp_path), []

    @flow(task_runner=where, retries=2)
    def retried():
        attempts.append(runtime.flow_run.attempt)
        a = once.submit(ran, "a")
        b = once.submit(ran, "b", a)
        mapped = once.map([ran] * 3, ["m0", "m1", "m2"])
        called = once(ran, "called")
        flaky = fails_first.submit(ran, "flaky", 2)
        after = once.submit(ran, "after", flaky)
        return [b.result(), *mapped.result(), called, after.result()]

    assert retried() == ["ba", "m0", "m1", "m2", "called", "afterflaky"]
    assert attempts == [1, 2, 3]
    for name in ("a", "b", "m0", "m1", "m2", "called", "after"):
        assert ran.count(name) == 1, name
    assert ran.count("flaky") == 3
    row, story, runs, reused = last_run()
    assert (row.state, row.attempt) == ("Completed", 3)
    assert story == [
        "Pending",
        "Running",
        *("AwaitingRetry", "Retrying") * 2,
        "Completed",
    ]
    states = [run.state for run in runs]
    assert (states.count("Completed"), states.count("Failed")) == (8, 2)
    assert states.count("NotReady") == 2
    assert len(reused) == 6


def test_equal_calls_are_told_apart_by_their_place(where, tmp_path):
    ran = Ran(tmp_path)

    @flow(task_runner=where, retries=1)
    def retried():
        first, second = fails_first.submit(ran, "same"), None
        first.wait()
        second = fails_first.submit(ran, "same")
        return second.result(), first.result()

    assert retried() == ("same", "same")
    assert ran.count("same") == 3  # the one that failed, once more; the other one not


def test_a_run_that_was_told_of_a_failure_runs_again_when_that_succeeds(where, tmp_path):
    ran = Ran(tmp_path)

    @flow(task_runner=where, retries=1)
    def retried():
        flaky = fails_first.submit(ran, "flaky")
        told = once.submit(ran, "told", allow_failure(flaky)).result()
        if runtime.flow_run.attempt == 1:
            raise KeyError("mine")
        return told

    assert retried() == "toldflaky"
    assert ran.count("told") == 2


def test_large_results_are_there_in_the_next_attempt(where, tmp_path):
    ran = Ran(tmp_path)

    @flow(task_runner=where, retries=1)
    def retried():
        data = large.submit(ran)
        known = size.submit(ran, b"y" * 100_000)
        if runtime.flow_run.attempt == 1:
            data.wait()
            known.wait()
            raise KeyError("mine")
        return size.submit(ran, data).result(), known.result()

    assert retried() == (200_000, 100_000)
    assert (ran.count("large"), ran.count("size")) == (1, 2)


def test_a_task_has_all_its_retries_in_each_attempt(where, tmp_path):
    ran = Ran(tmp_path)

    @flow(task_runner=where, retries=1)
    def retried():
        return fails_first.with_options(retries=1).submit(ran, "flaky", 3).result()

    assert retried() == "flaky"
    assert ran.count("flaky") == 4


def test_async_flows_run_again_too(where, tmp_path):
    ran = Ran(tmp_path)

    @flow(task_runner=where, retries=1)
    async def retried():
        good = await once.submit(ran, "good")
        return good, await fails_first.with_options(name="f").submit(ran, "flaky")

    assert asyncio.run(retried()) == ("good", "flaky")
    assert (ran.count("good"), ran.count("flaky")) == (1, 2)


def test_attempts_are_spent_by_failures_only():
    ended = []

    @flow(task_runner="sync", retries=3, on_failure=lambda *told: ended.append(told[1].attempt))
    def ends(error):
        ended.append(type(error).__name__)
        raise error

    assert ends(KeyboardInterrupt(), return_state=True).name == "Cancelled"
    assert ends(SystemExit(), return_state=True).name == "Crashed"
    assert ended == ["KeyboardInterrupt", "SystemExit"]
    del ended[:]
    assert ends(ValueError(), return_state=True).name == "Failed"
    assert ended == ["ValueError"] * 4 + [4]


def test_failures_that_nobody_looked_at_spend_an_attempt(tmp_path):
    ran = Ran(tmp_path)

    @flow(task_runner="threads", retries=1)
    def leaves():
        fails_first.submit(ran, "left")

    assert leaves(return_state=True).is_completed()
    assert ran.count("left") == 2


def test_an_interrupt_ends_the_wait_for_the_next_attempt(monkeypatch):
    slept = []

    def interrupted(cancellation, seconds):
        slept.append(seconds)
        raise KeyboardInterrupt

    @flow(task_runner="sync", retries=1, retry_delay_seconds=1000)
    def fails():
        monkeypatch.setattr(Cancellation, "sleep", interrupted)
        raise ValueError("no")

    assert fails(return_state=True).name == "Cancelled"
    assert slept == [1000]
    _, story, _, _ = last_run()
    assert story == ["Pending", "Running", "AwaitingRetry", "Cancelled"]


def test_tags_and_arguments_that_do_not_pickle_stay_as_they_are():
    calls = []

    @task
    def opened(lock):
        calls.append(lock)
        return len(calls)

    @flow(task_runner="threads", retries=1)
    def retried():
        number = opened.submit(threading.Lock()).result()
        with tags("x"):
            kept = opened.submit(1).result()
        if runtime.flow_run.attempt == 1:
            raise KeyError("mine")
        return number, kept

    assert retried() == (3, 2)


@pytest.mark.parametrize("delay", [0, 0.01])
def test_the_parent_is_told_the_end_only(delay):
    @flow(retries=1, retry_delay_seconds=delay)
    def child():
        if runtime.flow_run.attempt == 1:
            raise KeyError("mine")
        return runtime.flow_run.attempt

    @flow(task_runner="sync")
    def parent():
        return child()

    assert parent() == 2


def test_a_run_that_cost_too_many_workers_is_not_executed_again(scripted):
    body = scripted(["die"] * 5)

    @flow(retries=1)
    def poisoned():
        return task(body, name="poison", crash_retries=0).submit("x").result()

    state = poisoned(return_state=True)

    assert state.name == "Failed"
    assert "worker lost 1 times" in str(state.error)
    assert body.attempts("x") == 1
    with open_store(get_settings().store.url) as store:
        row = store.find_flow_run("@last")
        events = {each.event for each in store.events(row.flow_run_id)}
        assert (row.attempt, "daskflow.task_run.quarantined" in events) == (2, True)
