"""core.driver: news in an order that nobody promised, and clocks that are set meanwhile."""

from __future__ import annotations

import pytest

from daskflow.runner.core.graph import Outcome, Scope
from daskflow.runner.core.states import (
    AWAITING_RETRY,
    CANCELLED,
    COMPLETED,
    FAILED,
    NOT_READY,
    PENDING,
)
from tests.unit.driver_story import Story


@pytest.fixture
def story():
    return Story()


@pytest.fixture
def pair(story):
    """A run and one that takes its value, in one parcel."""
    task = story.task(takes_s=0.0001)
    parent = story.submit(task)
    child = story.submit(task, parent)
    assert story.sent() == [[parent, child]]
    return parent, child


def well(run, value="value"):
    return Outcome(run.number, True, 1.0, 0.001, value)


def badly(run):
    return Outcome(run.number, False, 1.0, 0.001, None, ValueError("not stored"))


def test_a_run_ends_when_its_input_has_though_it_was_told_first(story, pair):
    parent, child = pair
    parcel = parent.parcel.id
    story.driver.outcomes(parcel, [well(child, "first")], "w", 7)
    assert (child.state, child.value) == (PENDING, None)
    story.driver.outcomes(parcel, [well(parent), well(child, "second")], "w", 7)
    assert (parent.state, child.state) == (COMPLETED, COMPLETED)
    assert child.value == "second"
    story.driver.parcel_done(parcel)
    assert story.later(1.0) == []
    assert child.attempt == 1


def test_a_report_may_tell_of_a_run_before_its_input(story, pair):
    parent, child = pair
    parcel = parent.parcel.id
    story.driver.outcomes(parcel, [well(child), well(parent)], "w", 7)
    assert (parent.state, child.state) == (COMPLETED, COMPLETED)
    assert not story.driver.parcels[parcel].open


def test_a_run_does_not_complete_when_its_input_fails_after_all(story, pair):
    """The result of the input could not be stored, say, once the run was executed."""
    parent, child = pair
    story.driver.outcomes(parent.parcel.id, [well(child), badly(parent)], "w", 7)
    assert (parent.state, child.state) == (FAILED, NOT_READY)
    assert child.cause is parent


def test_a_run_whose_input_was_never_told_is_executed_again(story, pair):
    parent, child = pair
    parcel = parent.parcel.id
    story.driver.outcomes(parcel, [well(child)], "w", 7)
    story.driver.parcel_done(parcel)
    assert story.sent() == [[parent, child]]
    story.ok(parent, child)
    assert (child.state, child.attempt) == (COMPLETED, 1)


def test_a_run_does_not_complete_when_its_input_is_cancelled_instead(story):
    task, other = story.task(takes_s=0.0001), Scope("other")
    parent = story.submit(story.task("parent", scope=other, takes_s=0.0001))
    child = story.submit(task, parent)
    story.sent()
    parcel = parent.parcel.id
    story.driver.outcomes(parcel, [well(child)], "w", 7)
    story.driver.cancel(other, story.now)
    story.driver.parcel_done(parcel)
    assert (parent.state, child.state) == (CANCELLED, NOT_READY)


def test_a_long_chain_that_is_told_backwards_needs_no_recursion(story):
    chain = story.chain(story.task(takes_s=1e-6), 2_000)
    assert story.sent() == [chain]
    story.driver.outcomes(chain[0].parcel.id, [well(run) for run in reversed(chain)], "w", 7)
    assert {run.state for run in chain} == {COMPLETED}


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_retry_waits_for_its_delay_though_the_clock_of_its_worker_was_set(story, hours):
    run = story.submit(story.task(retries=1, delays_s=(5.0,)))
    story.sent()
    outcome = badly(run)._replace(started_at=story.now + hours * 3600.0)
    story.driver.outcomes(run.parcel.id, [outcome], "w", 7)
    assert run.state == AWAITING_RETRY
    assert story.later(4.9) == []
    assert story.later(0.2) == [[run]]


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_lost_run_goes_again_after_its_backoff_though_the_clock_was_set(story, hours):
    run = story.submit(story.task(crash_retries=3))
    for _ in range(2):
        assert story.later(0.0) == [[run]]
        wall = story.now + hours * 3600.0
        story.driver.parcel_lost(run.parcel.id, wall, "killed", executing={run.number})
    assert story.later(0.4) == []
    assert story.later(0.2) == [[run]]
