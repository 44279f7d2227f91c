"""core.states: the whole table of transitions, and the laws that it keeps."""

from __future__ import annotations

import itertools

import pytest

from daskflow.errors import InvalidTransition
from daskflow.runner.core.states import (
    FINAL,
    STATES,
    SUCCESSFUL,
    TRANSITIONS,
    TYPES,
    check_transition,
)

# what may follow each state, as a person reads the life of a run
ALLOWED = {
    "Scheduled": "Late Pending Running Cancelled Crashed",
    "Late": "Pending Running Cancelled Crashed",
    "Pending": "Running Cached NotReady Paused Failed Crashed Cancelled",
    "Running": "Completed Cached Failed TimedOut Crashed Cancelled Pending AwaitingRetry Retrying "
    "Paused Cancelling",
    "AwaitingRetry": "Retrying NotReady Crashed Cancelled",
    "Retrying": "Completed Cached Failed TimedOut Crashed Cancelled AwaitingRetry Retrying Paused "
    "Cancelling",
    "Paused": "Pending Running Retrying Failed Cancelled Crashed",
    "Cancelling": "Completed Failed TimedOut Crashed Cancelled",
    **dict.fromkeys("Cached Completed Failed TimedOut NotReady Crashed Cancelled".split(), ""),
}


@pytest.mark.parametrize(("old", "new"), [*itertools.product(STATES, STATES)])
def test_a_transition_is_legal_or_raises(old, new):
    if new in ALLOWED[old].split():
        check_transition(old, new, "a story")
    else:
        with pytest.raises(InvalidTransition):
            check_transition(old, new, "a story")


def test_the_table_names_every_state_and_no_other():
    assert set(TRANSITIONS) == set(STATES) == set(TYPES) == set(ALLOWED)
    assert {new for follow in TRANSITIONS.values() for new in follow} <= set(STATES)


def test_nothing_follows_a_final_state_and_something_every_other():
    assert {state for state in STATES if not TRANSITIONS[state]} == FINAL
    assert SUCCESSFUL < FINAL


def test_every_state_leads_to_an_end():
    ending = set(FINAL)
    while more := {s for s in STATES if s not in ending and TRANSITIONS[s] & ending}:
        ending |= more
    assert ending == set(STATES)


def test_every_state_but_the_first_can_be_reached():
    assert {new for follow in TRANSITIONS.values() for new in follow} == set(STATES) - {"Scheduled"}


def test_an_illegal_transition_tells_what_was_allowed_and_the_story_of_the_run():
    with pytest.raises(InvalidTransition, match=r"Cancelling, .*; 'run 7'") as caught:
        check_transition("Retrying", "NotReady", "run 7")
    assert "Retrying cannot become NotReady" in str(caught.value)
    with pytest.raises(InvalidTransition, match="it is final"):
        check_transition("Failed", "Running", None)


@pytest.mark.parametrize(
    ("state", "type_"),
    [
        pytest.param("AwaitingRetry", "SCHEDULED", id="waits-for-a-time"),
        pytest.param("Retrying", "RUNNING", id="runs"),
        pytest.param("TimedOut", "FAILED", id="failed"),
        pytest.param("Cached", "COMPLETED", id="completed"),
        pytest.param("NotReady", "PENDING", id="never-ran"),
    ],
)
def test_the_type_of_a_state_is_what_prefect_calls_it(state, type_):
    assert TYPES[state] == type_
