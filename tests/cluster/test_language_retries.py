"""Retries: how many, when, on what condition, and at whose cost."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from daskflow import exponential_backoff, flow, runtime, task
from daskflow.config import get_settings
from daskflow.runner import driving
from daskflow.runner.store import open_store

PARALLEL = pytest.mark.parametrize("where", ["processes", "threads", "external"], indirect=True)


def failing(times):
    def body(x=0):
        if runtime.task_run.attempt <= times:
            raise ValueError(f"attempt {runtime.task_run.attempt}")
        return runtime.task_run.attempt

    return body


def recorded_story():
    """States of the newest flow run's only task run, and when it had them."""
    with open_store(get_settings().store.url) as store:
        flow_run_id = store.flow_runs()[0].flow_run_id
        (run,) = store.task_runs(flow_run_id)
        return [(each.state, each.at) for each in store.transitions(flow_run_id, run.number)]


@pytest.mark.parametrize(
    ("options", "attempts"),
    [
        pytest.param({"retries": 2}, 3, id="number"),
        pytest.param({"retries": 2, "retry_delay_seconds": 0.01}, 3, id="delay"),
        pytest.param({"retries": 2, "retry_delay_seconds": [0.01, 0]}, 3, id="list"),
        pytest.param({"retries": 2, "retry_delay_seconds": lambda n: [0.0] * n}, 3, id="callable"),
        pytest.param(
            {"retries": 2, "retry_delay_seconds": exponential_backoff(0.001)}, 3, id="exponential"
        ),
        pytest.param(
            {"retries": 2, "retry_delay_seconds": 0.01, "retry_jitter_factor": 0.5}, 3, id="jitter"
        ),
    ],
)
def test_an_exception_is_retried(where, options, attempts):
    @flow(task_runner=where)
    def retrying():
        enough = task(failing(2), **options).submit()
        too_few = task(failing(3), **options).submit()
        with pytest.raises(ValueError, match="attempt 3"):
            too_few.result()
        return enough.result()

    assert retrying() == attempts


@PARALLEL
def test_a_condition_decides_whether_to_retry(where):
    asked = []

    def only_values(task, run, state):
        asked.append((task.name, run.name, run.attempt, state.name, state.message))
        return isinstance(state.result(raise_on_failure=False), ValueError)

    def broken(task, run, state):
        raise RuntimeError("the condition itself fails")

    def other(x=0):
        raise KeyError("other")

    @flow(task_runner=where)
    def conditional():
        yes = task(failing(1), retries=2, retry_condition_fn=only_values).submit()
        no = task(other, retries=2, retry_condition_fn=only_values).submit()
        bad = task(failing(1), name="bad", retries=2, retry_condition_fn=broken).submit()
        for future in (no, bad):
            future.wait()
        return yes.result(), no.state.message, bad.state.message

    assert conditional() == (2, "KeyError: 'other'", "ValueError: attempt 1")
    assert sorted(asked) == [
        ("body", "body-0", 1, "Failed", "ValueError: attempt 1"),
        ("other", "other-0", 1, "Failed", "KeyError: 'other'"),
    ]


def test_a_delayed_retry_holds_no_slot(tmp_path):
    from daskflow import DaskTaskRunner

    one = DaskTaskRunner(
        cluster_kwargs={"n_workers": 1, "processes": False, "threads_per_worker": 1}
    )

    @task
    def quick(x):
        return x

    @flow(task_runner=one)
    def one_slot():
        late = task(failing(1), retries=1, retry_delay_seconds=0.5).submit()
        while late.state.name != "AwaitingRetry":
            late.wait(0.01)
        done = quick.map(range(20)).result()
        assert late.state.name == "AwaitingRetry"
        return len(done), late.result()

    assert one_slot() == (20, 2)


@pytest.mark.parametrize(
    ("delay", "factor"),
    [
        pytest.param(0.1, 0.0, id="plain"),
        pytest.param([0.0, 0.1], 0.0, id="last-of-a-list"),
        pytest.param(0.1, 1.0, id="jitter-only-adds"),
    ],
)
def test_a_delay_is_waited_for(where, delay, factor):
    options = {"retries": 2, "retry_delay_seconds": delay, "retry_jitter_factor": factor}

    @flow(task_runner=where)
    def delayed():
        return task(failing(2), **options).submit().result()

    assert delayed() == 3
    notes = recorded_story()
    assert [state for state, _ in notes] == [
        *("Pending", "Running", "AwaitingRetry", "Retrying"),
        *("AwaitingRetry", "Retrying", "Completed"),
    ]
    assert notes[5][1] - notes[4][1] >= 0.1


def test_settings_give_the_default_and_an_option_overrules_it(monkeypatch):
    from daskflow.config import reset_settings

    monkeypatch.setenv("DASKFLOW_TASKS__RETRIES", "2")
    reset_settings()

    @flow(task_runner="sync")
    def defaults():
        own = task(failing(1), retries=0).submit()
        own.wait()
        return task(failing(2)).submit().result(), own.state.name

    assert defaults() == (3, "Failed")


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_retry_comes_in_time_though_the_clock_is_set_meanwhile(monkeypatch, cluster, hours):
    ahead_s = 0.0
    clocks = SimpleNamespace(time=lambda: time.time() + ahead_s, monotonic=time.monotonic)
    monkeypatch.setattr(driving, "time", clocks)

    @flow(task_runner=cluster)
    def retrying():
        nonlocal ahead_s
        assert task(failing(0)).submit().result() == 1
        ahead_s = hours * 3600.0
        started = time.monotonic()
        body = task(failing(1), retries=1, retry_delay_seconds=0.3)
        assert body.submit().result(timeout=20) == 2
        return time.monotonic() - started

    assert retrying() >= 0.3
