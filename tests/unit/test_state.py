"""State: names, types, what `result` gives and raises."""

from __future__ import annotations

import pytest

from daskflow import State
from daskflow.errors import UsageError


@pytest.mark.parametrize(
    ("name", "kind", "true"),
    [
        pytest.param("Scheduled", "SCHEDULED", {"scheduled"}, id="Scheduled"),
        pytest.param("AwaitingRetry", "SCHEDULED", {"scheduled"}, id="AwaitingRetry"),
        pytest.param("Pending", "PENDING", {"pending"}, id="Pending"),
        pytest.param("Running", "RUNNING", {"running"}, id="Running"),
        pytest.param("Retrying", "RUNNING", {"running"}, id="Retrying"),
        pytest.param("Completed", "COMPLETED", {"completed", "final"}, id="Completed"),
        pytest.param("Cached", "COMPLETED", {"completed", "final"}, id="Cached"),
        pytest.param("Failed", "FAILED", {"failed", "final"}, id="Failed"),
        pytest.param("TimedOut", "FAILED", {"failed", "final"}, id="TimedOut"),
        pytest.param("Crashed", "CRASHED", {"crashed", "final"}, id="Crashed"),
        pytest.param("Cancelled", "CANCELLED", {"cancelled", "final"}, id="Cancelled"),
    ],
)
def test_a_state_says_what_it_is(name, kind, true):
    state = State(name)
    questions = (
        *("scheduled", "pending", "running", "completed", "failed", "crashed", "cancelled"),
        "final",
    )
    assert state.type == kind
    assert {each for each in questions if getattr(state, f"is_{each}")()} == true


def test_a_result_is_loaded_or_raised():
    error = ValueError("no")
    assert State("Completed", load=lambda: 5).result() == 5
    assert State("Completed").result() is None
    assert State("Failed", error=error).result(raise_on_failure=False) is error
    with pytest.raises(ValueError, match="no"):
        State("Failed", error=error).result()
    with pytest.raises(UsageError, match="a run in state Running has no result yet"):
        State("Running").result()


def test_an_unknown_state_is_refused_with_those_that_exist():
    with pytest.raises(UsageError, match=r"there is no state 'Done'; states are .*Completed"):
        State("Done")


def test_a_state_is_shown_with_its_message():
    assert repr(State("Failed", "why")) == "Failed('why')"
    assert repr(State("Completed")) == "Completed()"
