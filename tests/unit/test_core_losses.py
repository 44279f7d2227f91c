"""core.driver: what becomes of runs when workers, flows or clusters go, and when all is done."""

from __future__ import annotations

import gc
import weakref

import pytest

from daskflow.errors import TaskCancelled
from daskflow.runner.core.graph import LaneKey, Run, Scope, executed_once
from daskflow.runner.core.states import (
    AWAITING_RETRY,
    CANCELLED,
    COMPLETED,
    CRASHED,
    FINAL,
    NOT_READY,
    PENDING,
)
from tests.unit.driver_story import Story


@pytest.fixture
def story():
    return Story()


# ---- lost workers


def test_only_the_run_that_was_executing_is_charged_for_a_lost_worker(story):
    task = story.task(takes_s=0.001)
    runs = [story.submit(task) for _ in range(4)]
    assert story.sent() == [runs]
    story.lose(runs[1], executing=[runs[1]])
    assert [run.crashes for run in runs] == [0, 1, 0, 0]
    assert [run.state for run in runs] == [PENDING, AWAITING_RETRY, PENDING, PENDING]


def test_a_run_that_was_charged_travels_alone_ever_after(story):
    task = story.task(takes_s=0.0001)
    runs = [story.submit(task) for _ in range(3)]
    story.sent()
    story.lose(runs[0], executing=[runs[0]])
    sent = story.later(0.0)
    assert [runs[0]] in sent


def test_suspects_of_a_blind_loss_each_go_alone_and_uncharged():
    story = Story(slots=2)
    task = story.task(takes_s=0.0001)
    runs = [story.submit(task) for _ in range(3)]
    assert story.sent() == [runs]
    story.lose(runs[0], executing=None)
    assert story.sent() == [[run] for run in runs]
    assert [run.crashes for run in runs] == [0, 0, 0]
    story.lose(runs[1], executing=None)
    assert runs[1].crashes == 1


def test_a_run_that_was_lost_among_others_is_charged_from_the_second_time_on():
    story = Story(slots=2)
    run = story.submit(story.task())
    for crashes in (0, 1, 2):
        story.later(60)
        story.lose(run, executing=None, alone=False)
        assert run.crashes == crashes


def test_a_suspect_rides_with_no_other():
    story = Story(slots=3)
    task = story.task(takes_s=0.0001)
    parent = story.submit(task)
    other = story.submit(story.task("late", takes_s=0.0001, lane=LaneKey(priority=1)))
    child = story.submit(task, parent, other)
    story.sent()
    story.ok(other)
    story.lose(parent, executing=None, expected=True)
    child.solo = True
    assert story.sent() == [[parent]]


def test_nobody_is_charged_for_a_worker_that_was_retired(story):
    run = story.submit(story.task(crash_retries=0))
    story.sent()
    story.starts(run)
    story.lose(run, executing=[run], expected=True)
    assert (run.state, run.crashes) == (PENDING, 0)
    assert story.sent() == [[run]]


def test_a_run_is_crashed_after_one_more_execution_than_it_has_crash_retries(story):
    run = story.submit(story.task(crash_retries=2))
    executions = 0
    while run.state not in FINAL:
        assert story.later(10.0) == [[run]]
        executions += 1
        story.lose(run, executing=[run])
    assert (run.state, executions, run.attempt, run.crashes) == (CRASHED, 3, 3, 3)
    assert "lost 3 times" in str(run.error)


def test_the_first_loss_goes_again_at_once_and_later_ones_wait(story):
    run = story.submit(story.task())
    story.sent()
    story.lose(run, executing=[run])
    assert story.later(0.0) == [[run]]
    story.lose(run, executing=[run])
    assert story.later(0.4) == []
    assert story.later(0.2) == [[run]]


def test_a_long_run_that_was_not_executing_when_its_worker_went_is_pending_again(story):
    run = story.submit(story.task())
    story.sent()
    story.starts(run)
    story.lose(run, executing=[])
    assert (run.state, run.started_at, run.crashes) == (PENDING, None, 0)


def test_a_rider_that_crashed_goes_once_though_its_cancelled_parent_makes_it_ready(story):
    other = Scope("other")
    parent = story.submit(story.task(scope=other))
    child = story.submit(story.task("b"), parent, allow=[0])
    assert story.sent() == [[parent, child]]
    story.driver.cancel(other, story.now)
    story.lose(parent, executing=[child])
    assert (parent.state, child.state) == (CANCELLED, AWAITING_RETRY)
    assert story.later(0.0) == [[child]]
    assert story.later(60.0) == []


def test_a_long_rider_that_crashed_is_not_ready_when_its_parent_was_cancelled(story):
    other = Scope("other")
    parent = story.submit(story.task(scope=other))
    child = story.submit(story.task("b"), parent)
    story.sent()
    story.starts(child)
    story.driver.cancel(other, story.now)
    story.lose(parent, executing=[child])
    assert (parent.state, child.state) == (CANCELLED, NOT_READY)
    assert story.later(60.0) == []


@pytest.mark.parametrize("how", ["parcel", "cluster"])
def test_what_cannot_run_ends_once_though_a_cancelled_parent_makes_it_ready(story, how):
    other = Scope("other")
    first = story.submit(story.task())
    parent = story.submit(story.task("b", scope=other), first)
    child = story.submit(story.task("c"), parent, allow=[0])
    assert story.sent() == [[first, parent, child]]
    story.driver.cancel(other, story.now)
    if how == "parcel":
        story.driver.parcel_failed(first.parcel.id, story.now, "no worker came")
        assert story.sent() == [[child]]
        story.ok(child)
    else:
        story.driver.refuse(ConnectionError("gone"), story.now)
    assert [run.state for run in (first, parent)] == [CRASHED, CANCELLED]
    assert child.state == (COMPLETED if how == "parcel" else CRASHED)
    assert story.sent() == []
    assert story.scope.open == other.open == 0


def test_a_parcel_that_cannot_run_crashes_its_runs_and_those_that_rode_along_are_not_ready(story):
    first, second = story.chain(story.task(), 2)
    story.sent()
    lane = first.parcel.lane
    story.driver.parcel_failed(first.parcel.id, story.now, "no worker came")
    assert (first.state, second.state) == (CRASHED, NOT_READY)
    assert (lane.parcels, lane.runs) == (0, 0)


# ---- cancelling and giving up


def test_cancelling_ends_what_has_not_started_and_leaves_what_executes():
    story = Story(slots=1)
    task = story.task(retries=3, delays_s=(9.0,), lane=LaneKey(priority=1))
    running, delayed = story.submit(task), story.submit(task)
    story.sent()
    story.fails(delayed)
    queued = [story.submit(story.task("q")) for _ in range(3)]
    waiting = story.submit(story.task("w"), running)
    story.driver.cancel(story.scope, story.now)
    assert {run.state for run in [*queued, delayed]} == {CANCELLED}
    assert isinstance(delayed.error, TaskCancelled)
    assert story.driver.next_due() is None
    story.ok(running)
    assert (running.state, waiting.state) == (COMPLETED, CANCELLED)
    assert story.submit(task).state == CANCELLED
    assert story.sent() == []
    assert story.scope.open == 0


@pytest.mark.parametrize("event", ["raises", "lost", "handed back", "dropped"])
def test_a_run_of_a_cancelled_flow_never_goes_again(story, event):
    run = story.submit(story.task(retries=3))
    story.sent()
    story.driver.cancel(story.scope, story.now)
    {
        "raises": story.fails,
        "lost": lambda run: story.lose(run, executing=[run]),
        "handed back": story.hand_back,
        "dropped": lambda run: story.driver.drop_parcel(run.parcel.id, story.now),
    }[event](run)
    assert run.state == CANCELLED
    assert run.ended_at >= story.now
    assert story.later(60.0) == []


def test_cancelling_one_flow_leaves_another_alone(story):
    other = Scope("other")
    mine = [story.submit(story.task()) for _ in range(2)]
    theirs = [story.submit(story.task(scope=other)) for _ in range(2)]
    story.driver.cancel(other, story.now)
    assert story.sent() == [[run] for run in mine]
    assert {run.state for run in theirs} == {CANCELLED}


def test_a_run_of_a_cancelled_flow_does_not_ride_with_one_that_goes_on(story):
    other = Scope("other")
    parent = story.submit(story.task())
    child = story.submit(story.task("b", scope=other), parent)
    story.driver.cancel(other, story.now)
    assert story.sent() == [[parent]]
    story.ok(parent)
    assert child.state == CANCELLED


def test_without_a_cluster_everything_ends_also_what_an_allowed_failure_makes_ready(story):
    error = ConnectionError("gone")
    task = story.task(retries=1, delays_s=(9.0,), lane=LaneKey(priority=9))
    flying, delayed = story.submit(task), story.submit(task)
    story.sent()
    story.fails(delayed)
    story.sent()
    queued = story.submit(story.task("z"))
    tolerant = [
        story.submit(story.task("b", lane=LaneKey(priority=place)), queued, flying, allow=[0, 1])
        for place in (9, 0, -9)
    ]
    story.driver.refuse(error, story.now)
    runs = [flying, delayed, queued, *tolerant]
    assert {run.state for run in runs} == {CRASHED}
    assert {run.error for run in runs} == {error}
    assert story.submit(task).error is error
    assert (story.scope.open, story.driver.next_due(), story.sent()) == (0, None, [])


# ---- memory


def test_a_finished_run_lives_no_longer_than_its_future(story):
    task = story.task(retries=1)
    runs = [*story.chain(task, 3), story.submit(task), story.submit(story.task("b"))]
    runs.append(story.submit(story.task("c"), runs[0], runs[-1]))
    gc.disable()
    try:
        while any(run.state not in FINAL for run in runs):
            for parcel in story.later(1.0):
                for run in parcel:
                    if run is runs[3] and not run.failures:
                        story.fails(run)
                    else:
                        story.ok(run)
        del parcel, run
        story.sent()
        story.final.clear()
        story.notes.clear()
        alive = [weakref.ref(run) for run in runs]
        runs.clear()
        assert [ref() for ref in alive] == [None] * len(alive)
    finally:
        gc.enable()


def test_a_driver_with_nothing_to_do_holds_no_run_of_a_cancelled_flow(story):
    task = story.task(retries=1, delays_s=(3_600.0,))
    run = story.submit(task)
    story.sent()
    story.fails(run)
    story.driver.cancel(story.scope, story.now)
    story.sent()
    story.scope.failed.clear()
    story.final.clear()
    story.notes.clear()
    alive: weakref.ref[Run] = weakref.ref(run)
    del run
    assert alive() is None


def test_runs_that_wait_for_others_crash_with_the_same_error_when_nothing_can_run(story):
    parent = story.submit(story.task())
    child = story.submit(parent.stage, parent)
    grandchild = story.submit(parent.stage, child)
    error = ConnectionError("no cluster")
    story.driver.refuse(error, story.now)
    assert {(run.state, run.error) for run in (parent, child, grandchild)} == {(CRASHED, error)}


def test_what_may_run_once_is_charged_when_it_had_ended_before_the_one_that_was_executing(story):
    """Runs of a parcel are executed in order; the ends of the first were not told yet."""
    task = story.task(takes_s=0.001, crash_retries=0)
    runs = [story.submit(task) for _ in range(4)]
    (sent,) = story.sent()
    parcel = runs[0].parcel
    assert sent == runs
    numbers = [run.number for run in runs]
    assert executed_once(parcel, {numbers[2]}) == numbers[:2]
    assert executed_once(parcel, {numbers[0]}) == []
    assert executed_once(parcel, set()) == numbers  # not begun or through: nobody can tell
