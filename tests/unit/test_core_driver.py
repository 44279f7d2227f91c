"""core.driver: what becomes of a run at each event that a worker, a user or the cluster causes."""

from __future__ import annotations

import pytest

from daskflow.errors import TaskCrashed, TaskTimedOut, UpstreamFailed
from daskflow.runner.core.graph import LaneKey, Outcome, Run
from daskflow.runner.core.states import (
    AWAITING_RETRY,
    CANCELLED,
    COMPLETED,
    CRASHED,
    FAILED,
    NOT_READY,
    PENDING,
    RETRYING,
    RUNNING,
    TIMED_OUT,
)
from tests.unit.driver_story import Story

APART = LaneKey(priority=1)  # a lane of its own: such runs ride with no other


@pytest.fixture
def story():
    return Story()


# ---- executions


def test_a_run_is_sent_and_completes_with_its_value(story):
    run = story.submit(story.task())
    assert story.sent() == [[run]]
    story.ok(run, value=7)
    assert (run.state, run.value, run.attempt, run.worker, run.pid) == (COMPLETED, 7, 1, "w", 7)
    assert story.sent() == []
    assert story.final == [run]
    assert story.scope.open == 0


def test_a_run_that_raises_has_failed_with_its_own_error(story):
    run = story.submit(story.task())
    story.sent()
    error = KeyError("x")
    story.fails(run, error=error)
    assert (run.state, run.error, run.message) == (FAILED, error, "KeyError: 'x'")
    assert story.scope.failed == [run]


def test_a_retry_waits_for_its_delay_and_no_longer(story):
    run = story.submit(story.task(retries=1, delays_s=(5.0,)))
    story.sent()
    story.fails(run)
    assert run.state == AWAITING_RETRY
    due = story.driver.next_due()
    assert due == pytest.approx(105.0, abs=0.1)
    assert story.later(4.9) == []
    assert story.later(0.2) == [[run]]
    story.ok(run)
    assert (run.state, run.attempt, run.failures) == (COMPLETED, 2, 1)
    assert story.driver.next_due() is None


def test_a_spent_budget_of_retries_is_the_end(story):
    run = story.submit(story.task(retries=2))
    for _ in range(2):
        assert story.later(0.01) == [[run]]
        story.fails(run)
    assert story.later(0.01) == [[run]]
    story.fails(run)
    assert (run.state, run.attempt) == (FAILED, 3)


def test_a_condition_that_says_no_ends_the_retries(story):
    run = story.submit(story.task(retries=5, retry_if=lambda run, error: False))
    story.sent()
    story.fails(run)
    assert run.state == FAILED


def test_a_body_that_asks_its_process_to_end_is_crashed_at_once(story):
    run = story.submit(story.task(retries=5))
    story.sent()
    story.fails(run, error=SystemExit(3), exits=True)
    assert run.state == CRASHED
    assert isinstance(run.error, TaskCrashed)
    assert isinstance(run.error.__cause__, SystemExit)


def test_a_run_that_takes_too_long_has_timed_out(story):
    run = story.submit(story.task())
    story.sent()
    story.times_out(run)
    assert (run.state, run.message) == (TIMED_OUT, "ran longer than it may")
    assert isinstance(run.error, TaskTimedOut)
    assert story.scope.open == 0


def test_a_timeout_spends_a_retry_and_what_comes_late_is_dropped(story):
    run = story.submit(story.task(retries=1))
    story.sent()
    first = run.parcel.id
    story.times_out(run)
    assert run.state == AWAITING_RETRY
    assert story.later(1.1) == [[run]]
    story.driver.outcomes(first, [Outcome(run.number, True, 100.0, 9.0, "late")], "w", 7)
    story.driver.parcel_done(first)
    assert (run.state, run.value, story.driver.late) == (AWAITING_RETRY, None, 1)
    story.ok(run, value="second")
    assert (run.state, run.value, run.attempt) == (COMPLETED, "second", 2)


def test_a_body_that_goes_on_keeps_its_slot(story):
    depth = story.driver.rules.depth
    runs = [story.submit(story.task(takes_s=10.0)) for _ in range(depth + 1)]
    assert len(story.sent()) == depth
    parcel_id = runs[0].parcel.id
    story.times_out(runs[0])
    assert story.sent() == []
    story.driver.parcel_done(parcel_id)
    assert story.sent() == [[runs[-1]]]


def test_a_lost_worker_costs_nothing_to_a_run_that_had_timed_out_on_it(story):
    run = story.submit(story.task(retries=1, crash_retries=0))
    story.sent()
    parcel_id = run.parcel.id
    story.times_out(run)
    story.driver.parcel_lost(parcel_id, story.now, "killed", executing={run.number})
    assert (run.state, run.crashes) == (AWAITING_RETRY, 0)


def test_the_start_of_an_attempt_that_failed_is_recorded_when_it_was(story):
    run = story.submit(story.task(retries=2))
    story.sent()
    story.fails(run)
    story.later(1.0)
    story.fails(run)
    assert story.told(run) == [RUNNING, AWAITING_RETRY, RETRYING, AWAITING_RETRY]
    notes = [note for note in story.notes if note.run is run]
    assert [(note.at, note.attempt) for note in notes][::2] == [(100.0, 1), (101.0, 2)]


def test_a_long_run_is_recorded_as_running_once(story):
    run = story.submit(story.task(retries=1))
    story.sent()
    story.starts(run)
    story.starts(run)
    assert run.state == RUNNING
    story.fails(run)
    story.later(0.01)
    story.starts(run)
    assert run.state == RETRYING
    assert story.told(run) == [RUNNING, AWAITING_RETRY, RETRYING]


def test_news_of_runs_that_are_no_longer_open_is_late_and_changes_nothing(story):
    run = story.submit(story.task())
    story.sent()
    parcel_id = run.parcel.id
    story.ok(run, value=1)
    story.driver.outcomes(parcel_id, [], "w", 1)
    story.driver.handed_back(parcel_id, [run.number])
    story.driver.started(parcel_id, run.number, 1.0, "w")
    story.driver.parcel_done(parcel_id)
    story.driver.parcel_failed(parcel_id, 1.0, "late")
    story.driver.drop_parcel(parcel_id, 1.0)
    story.driver.parcel_lost(parcel_id, 1.0, "late", executing=None)
    assert (run.state, run.value, story.driver.late) == (COMPLETED, 1, 7)


def test_a_run_that_is_handed_back_goes_again_before_newer_ones_and_is_charged_nothing(story):
    task = story.task(takes_s=0.02)
    runs = [story.submit(task) for _ in range(4)]
    assert story.sent() == [runs[:2], [runs[2]]]
    story.ok(runs[0])
    story.hand_back(runs[1])
    assert story.sent() == [[runs[1]]]
    assert (runs[1].attempt, runs[1].state) == (0, PENDING)


def test_what_is_open_when_its_parcel_is_done_goes_again(story):
    run = story.submit(story.task())
    story.sent()
    story.driver.parcel_done(run.parcel.id)
    assert story.sent() == [[run]]


# ---- inputs


def test_a_run_waits_for_all_its_inputs():
    story = Story(slots=2)
    task = story.task(lane=LaneKey(priority=1))
    a, b = story.submit(task), story.submit(task)
    run = story.submit(story.task("sum"), a, b, a)
    story.sent()
    story.ok(a)
    assert story.sent() == []
    story.ok(b)
    assert story.sent() == [[run]]


def test_a_failure_spreads_to_all_that_depend_on_it_and_names_the_first_cause(story):
    runs = story.chain(story.task(), 3)
    story.sent()
    story.fails(runs[0])
    assert [run.state for run in runs] == [FAILED, NOT_READY, NOT_READY]
    assert isinstance(runs[2].error, UpstreamFailed)
    assert runs[2].error.__cause__ is runs[0].error
    assert runs[2].cause is runs[0]
    assert "t-0 ended Failed: ValueError: no good" in runs[2].message


def test_a_run_submitted_after_its_input_failed_is_not_ready_at_once(story):
    first = story.submit(story.task())
    story.sent()
    story.fails(first)
    assert story.submit(story.task(), first).state == NOT_READY


def test_an_allowed_failure_is_handed_on_and_counts_as_looked_at(story):
    first = story.submit(story.task())
    run = story.submit(story.task("b", lane=LaneKey(priority=1)), first, allow=[0])
    story.sent()
    story.fails(first)
    assert story.sent() == [[run]]
    assert first.looked_at


@pytest.mark.parametrize(
    ("allow", "state"),
    [
        pytest.param([0, 1], PENDING, id="in-both-places"),
        pytest.param([0], NOT_READY, id="in-one-of-two-places"),
    ],
)
def test_an_input_may_fail_only_if_it_may_wherever_it_is_used(story, allow, state):
    first = story.submit(story.task())
    run = story.submit(story.task("b", lane=LaneKey(priority=1)), first, first, allow=allow)
    story.sent()
    story.fails(first)
    assert run.state == state
    later = story.submit(story.task("c"), first, first, allow=allow)
    assert later.state == state


def test_many_failed_inputs_cost_no_more_than_there_are(story):
    class Counted(frozenset):
        asked = 0

        def __contains__(self, slot):
            Counted.asked += 1
            return super().__contains__(slot)

    story = Story(slots=500)
    inputs = [story.submit(story.task()) for _ in range(1_000)]
    run = Run(story.task("b", lane=APART), -5, (), tuple(inputs), 0.0, Counted(range(1_000)))
    story.driver.submit(run)
    while parcels := story.sent():
        for parcel in parcels:
            if parcel != [run]:
                story.fails(*parcel)
    assert run.parcel is not None
    assert Counted.asked <= 2_000


@pytest.mark.parametrize("length", [3_000])
@pytest.mark.parametrize("how", ["fails", "cancel", "refuse"])
def test_the_end_of_a_long_chain_needs_no_recursion(story, length, how):
    runs = story.chain(story.task(retries=1), length)
    story.sent()
    if how == "fails":
        story.fails(runs[0])
        story.hand_back(*(run for run in runs if run.parcel))
        story.later(0.1)
        story.fails(runs[0])
        assert {run.state for run in runs[1:]} == {NOT_READY}
    elif how == "cancel":
        story.driver.cancel(story.scope, story.now)
        story.driver.drop_parcel(runs[0].parcel.id, story.now)
        assert {run.state for run in runs} == {CANCELLED}
    else:
        story.driver.refuse(ConnectionError("gone"), story.now)
        assert runs[0].state == CRASHED
    assert story.scope.open == 0


# ---- runs that ride in the parcel of an input


def test_a_rider_whose_parent_waits_for_a_retry_goes_again_after_it(story):
    parent, child = story.chain(story.task(retries=1, delays_s=(1.0,)), 2)
    assert story.sent() == [[parent, child]]
    story.fails(parent)
    story.hand_back(child)
    assert story.sent() == []
    assert story.later(1.1) == [[parent, child]]
    story.ok(parent, child)
    assert child.state == COMPLETED


def test_a_rider_that_comes_back_after_its_parent_was_executed_elsewhere_goes_at_once(story):
    parent, child = story.chain(story.task(retries=1), 2)
    story.sent()
    story.fails(parent)
    assert story.later(0.1) == [[parent]]
    story.ok(parent)
    assert story.sent() == []
    story.hand_back(child)
    assert story.sent() == [[child]]


def test_a_rider_that_may_have_a_failed_input_goes_once_it_is_handed_back(story):
    parent = story.submit(story.task())
    child = story.submit(parent.stage, parent, allow=[0])
    assert story.sent() == [[parent, child]]
    story.fails(parent)
    assert story.sent() == []
    story.hand_back(child)
    assert story.sent() == [[child]]


def test_a_rider_that_crashed_waits_for_its_parent_whose_outcome_was_lost_too(story):
    parent, child = story.chain(story.task(), 2)
    story.sent()
    story.lose(parent, executing=[child])
    assert story.later(0.0) == [[parent]]
    assert story.later(10.0) == []
    story.ok(parent)
    assert story.sent() == [[child]]
    story.ok(child)
    assert (child.state, child.attempt, child.crashes) == (COMPLETED, 2, 1)


def test_a_rider_that_crashed_is_not_ready_when_its_parent_fails_the_second_time(story):
    parent, child = story.chain(story.task(), 2)
    story.sent()
    story.lose(parent, executing=[child])
    story.later(0.0)
    story.fails(parent)
    assert (parent.state, child.state) == (FAILED, NOT_READY)
    assert story.later(60.0) == []
