"""Histories: what is synthesized, and the laws that hold for any row and stored transitions."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskflow.runner.core.states import FINAL, TRANSITIONS
from daskflow.runner.store.history import flow_run_history, task_run_history
from tests.store.made import flow_run, task_run, transition


@pytest.mark.parametrize(
    ("row", "stored", "states"),
    [
        pytest.param(
            task_run(state="Pending", attempt=0, started_at=None, ended_at=None),
            [],
            "Pending",
            id="pending",
        ),
        pytest.param(
            task_run(state="Running", attempt=0, ended_at=None), [], "Pending Running", id="running"
        ),
        pytest.param(
            task_run(state="Running", attempt=0, ended_at=None),
            [transition("Running", 103.0, 1)],
            "Pending Running",
            id="running-and-stored",
        ),
        pytest.param(task_run(), [], "Pending Running Completed", id="completed"),
        pytest.param(
            task_run(state="Cached", attempt=0, started_at=None), [], "Pending Cached", id="cached"
        ),
        pytest.param(
            task_run(state="NotReady", attempt=0, started_at=None),
            [transition("NotReady", 104.0, 0)],
            "Pending NotReady",
            id="not-ready-and-stored",
        ),
        pytest.param(
            task_run(state="Cancelled", attempt=1),
            [transition("Cancelled", 90.0, 1)],
            "Pending Running Cancelled",
            id="cancelled-by-a-clock-that-is-behind",
        ),
        pytest.param(
            task_run(state="AwaitingRetry", attempt=1, ended_at=None),
            [transition("AwaitingRetry", 104.0, 1)],
            "Pending Running AwaitingRetry",
            id="awaiting-a-retry",
        ),
        pytest.param(
            task_run(state="Retrying", attempt=1, started_at=106.0, ended_at=None),
            [transition("AwaitingRetry", 104.0, 1), transition("Retrying", 106.0, 2)],
            "Pending Running AwaitingRetry Retrying",
            id="retrying-and-stored",
        ),
        pytest.param(
            task_run(state="Failed", attempt=3, started_at=1.0),
            [transition("AwaitingRetry", 104.0, 1), transition("AwaitingRetry", 105.0, 2)],
            "Pending Running AwaitingRetry Retrying AwaitingRetry Retrying Failed",
            id="failed-after-two-retries-on-a-worker-whose-clock-is-behind",
        ),
        pytest.param(
            task_run(state="Crashed", attempt=0, started_at=None),
            [],
            "Pending Crashed",
            id="crashed-without-a-worker",
        ),
    ],
)
def test_the_states_of_a_history(row, stored, states):
    assert [t.state for t in task_run_history(row, stored)] == states.split()


def test_what_was_stored_keeps_its_message_and_time():
    cause = transition("NotReady", 103.9, 0)
    row = task_run(state="NotReady", message="other words", started_at=None)
    assert task_run_history(row, [cause])[-1] == cause


def test_a_synthesized_end_tells_the_rows_message_and_worker():
    last = task_run_history(task_run(state="Failed", message="ValueError: x"), [])[-1]
    assert (last.at, last.message, last.worker) == (104.0, "ValueError: x", task_run().worker)


def test_an_attempt_of_which_only_the_end_was_stored_starts_no_later():
    row = task_run(attempt=2, started_at=106.0, ended_at=107.0)
    history = task_run_history(row, [transition("AwaitingRetry", 104.0, 1)])
    assert [(t.state, t.at) for t in history if t.attempt == 1] == [
        ("Running", 104.0),
        ("AwaitingRetry", 104.0),
    ]


def test_a_flow_run_that_failed_before_it_started_has_no_running():
    history = flow_run_history(flow_run(state="Failed", attempt=1, started_at=None), [])
    assert [t.state for t in history] == ["Pending", "Failed"]


@given(
    attempts=st.integers(1, 5),
    state=st.sampled_from(["Completed", "Failed", "Crashed", "TimedOut", "Cancelled"]),
    skew_s=st.floats(-5, 5),
    seen=st.sets(st.integers(1, 5)),
)
def test_any_history_is_legal_whatever_was_stored_and_whatever_the_clocks(
    attempts, state, skew_s, seen
):
    stored = [transition("AwaitingRetry", 100.0 + 10 * n, n) for n in range(1, attempts)]
    stored += [
        transition("Retrying" if n > 1 else "Running", 95.0 + 10 * n + skew_s, n)
        for n in seen
        if n <= attempts
    ]
    row = task_run(
        state=state, attempt=attempts, started_at=95.0 + 10 * attempts + skew_s, ended_at=200.0
    )
    states = [t.state for t in task_run_history(row, stored)]
    for old, new in pairwise(states):
        assert new in TRANSITIONS[old], states
    assert states[0] == "Pending"
    assert states[-1] == state in FINAL
