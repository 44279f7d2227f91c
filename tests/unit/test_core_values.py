"""core.inputs: values that live on workers are kept while wanted, and made again when lost."""

from __future__ import annotations

import gc
import weakref

import pytest

from daskflow.errors import TaskCrashed
from daskflow.runner.core.graph import LaneKey
from daskflow.runner.core.states import COMPLETED, FAILED, NOT_READY
from tests.unit.driver_story import Large, Story

APART = LaneKey(priority=-1)  # in a lane of its own, so that it rides with nobody


@pytest.fixture
def story():
    return Story(slots=2)


def made(story, *runs):
    """Execute runs that are ready, with large results."""
    story.sent()
    for run in runs:
        story.ok(run, value=Large())


def test_a_value_is_dropped_once_neither_a_future_nor_a_dependent_wants_it(story):
    first = story.submit(story.task())
    second = story.submit(story.task("b", lane=APART), first)
    made(story, first)
    story.let_go(first)
    for _ in range(3):
        story.sent()
    assert first.kept
    story.ok(second)
    for _ in range(3):
        story.sent()
    assert not first.kept
    assert first.value is None


def test_a_value_that_may_go_is_due_at_once(story):
    first = story.submit(story.task())
    made(story, first)
    story.let_go(first)
    assert story.driver.next_due() == 0.0
    story.sent()
    story.sent()
    assert story.driver.next_due() is None
    assert not first.kept


def test_a_dependent_that_was_submitted_before_the_future_went_finds_the_value(story):
    """The future goes in the user's thread; the submission before it may arrive after the end."""
    first = story.submit(story.task())
    story.sent()
    first.held = False
    story.ok(first, value=Large())
    story.sent()
    second = story.submit(story.task("b"), first)
    assert story.sent() == [[second]]
    assert first.kept


def test_a_run_that_is_not_ready_at_once_takes_nothing_from_others(story):
    good, bad = story.submit(story.task()), story.submit(story.task())
    user = story.submit(story.task("user", lane=APART), good)
    made(story, good)
    story.fails(bad)
    story.let_go(good)
    assert story.submit(story.task("c"), bad, good).state == NOT_READY
    for _ in range(3):
        story.sent()
    assert good.kept
    assert user.parcel is not None


def test_a_lost_value_is_made_again_when_its_future_is_asked(story):
    run = story.submit(story.task())
    made(story, run)
    story.lose_value(run)
    assert story.sent() == []
    story.driver.value_needed(run)
    story.driver.value_needed(run)
    assert story.sent() == [[run]]
    again = Large()
    story.ok(run, value=again)
    assert (run.state, run.value, run.kept, run.attempt) == (COMPLETED, again, True, 1)
    story.sent()
    assert story.final == [run]


def test_news_that_a_run_executes_again_for_its_value_changes_no_state(story):
    run = story.submit(story.task())
    made(story, run)
    story.lose_value(run)
    story.driver.value_needed(run)
    story.sent()
    story.starts(run)
    assert run.state == COMPLETED
    assert story.told(run) == []


@pytest.mark.parametrize("where", ["queued", "waiting", "delayed", "handed back", "riding"])
def test_a_run_goes_only_after_its_lost_input_was_made_again(story, where):
    first, other = story.submit(story.task("a")), story.submit(story.task("o"))
    made(story, first)
    task = story.task("b", lane=LaneKey() if where == "riding" else APART, retries=1)
    if where in ("waiting", "riding"):
        run = story.submit(task, first, other)
    else:
        run = story.submit(task, first)
    if where == "delayed":
        story.sent()
        story.fails(run)
    elif where == "handed back":
        story.sent()
    elif where == "riding":
        story.hand_back(other)
    story.lose_value(first)
    if where == "handed back":
        story.hand_back(run)
    if where == "waiting":
        story.ok(other)
    if where == "riding":
        assert story.sent() == [[other]]
        story.ok(other)
    assert story.later(1.0) == [[first]]
    story.ok(first, value=Large())
    assert story.sent() == [[run]]
    story.ok(run)
    assert run.state == COMPLETED


def test_inputs_that_were_dropped_meanwhile_are_made_again_to_any_depth(story):
    runs = story.chain(story.task(), 3_000)
    while any(run.state != COMPLETED for run in runs):
        for parcel in story.sent():
            for run in parcel:
                story.ok(run, value=Large())
    story.let_go(*runs[:-1])
    for _ in range(3):
        story.sent()
    assert [run.kept for run in runs] == [False] * 2_999 + [True]
    story.lose_value(runs[-1])
    story.driver.value_needed(runs[-1])
    sent = []
    while parcels := story.sent():
        for parcel in parcels:
            sent += parcel
            for run in parcel:
                assert all(dep.kept for dep in run.deps), run
                story.ok(run, value=Large())
    assert sent == runs
    assert runs[-1].kept


def test_a_value_that_cannot_be_made_again_fails_those_that_want_it(story):
    first = story.submit(story.task("a"))
    made(story, first)
    story.lose_value(first)
    run = story.submit(story.task("b"), first)
    last = story.submit(story.task("c"), run)
    error = ValueError("not twice")
    story.sent()
    story.fails(first, error=error)
    assert (first.state, first.error, first.redo) == (COMPLETED, error, False)
    assert (run.state, last.state) == (NOT_READY, NOT_READY)
    assert "a-0 was lost, and making it again ended in ValueError: not twice" in run.message
    assert story.submit(story.task("d"), first).state == NOT_READY


def test_a_value_whose_input_cannot_be_had_ends_the_wait_for_it(story):
    first = story.submit(story.task("a"))
    made(story, first)
    second = story.submit(story.task("b"), first)
    made(story, second)
    story.lose_value(first, second)
    story.driver.value_needed(first)
    story.sent()
    story.fails(first)
    story.driver.value_needed(second)
    assert second.error is first.error
    assert not second.redo


def test_a_run_that_only_waits_for_another_needs_no_value_of_it(story):
    first = story.submit(story.task("a"))
    made(story, first)
    story.lose_value(first)
    run = story.submit(story.task("b"), first, taken=0)
    assert story.sent() == [[run]]
    story.driver.value_needed(first)
    story.sent()
    story.fails(first)
    assert story.submit(story.task("c"), first, taken=0).state != NOT_READY


def test_making_a_value_again_spends_what_the_retries_have_left(story):
    run = story.submit(story.task(retries=1, delays_s=(2.0,)))
    made(story, run)
    story.lose_value(run)
    story.driver.value_needed(run)
    story.sent()
    story.fails(run)
    assert story.later(1.0) == []
    assert story.later(1.1) == [[run]]
    story.fails(run)
    assert isinstance(run.error, ValueError)
    assert run.state == COMPLETED


def test_making_a_value_again_kills_no_more_workers_than_crash_retries_allow(story):
    run = story.submit(story.task(crash_retries=1))
    made(story, run)
    story.lose_value(run)
    story.driver.value_needed(run)
    for _ in range(2):
        assert story.later(60.0) == [[run]]
        story.lose(run, executing=[run])
    assert story.later(60.0) == []
    assert isinstance(run.error, TaskCrashed)


@pytest.mark.parametrize("event", ["cancel", "drop", "fail", "refuse", "refused before"])
def test_whoever_waits_for_a_lost_value_gets_it_or_an_error(story, event):
    run = story.submit(story.task())
    made(story, run)
    story.lose_value(run)
    error = ConnectionError("gone")
    if event == "refused before":
        story.driver.refuse(error, story.now)
    story.driver.value_needed(run)
    if event == "refuse":
        story.driver.refuse(error, story.now)
    if "refuse" in event:
        assert run.error is error
        return
    if event != "cancel":
        story.sent()
    story.driver.cancel(story.scope, story.now)
    if event == "drop":
        story.driver.drop_parcel(run.parcel.id, story.now)
    if event == "fail":
        story.driver.parcel_failed(run.parcel.id, story.now, "no worker came")
        assert isinstance(run.error, TaskCrashed)
        return
    assert story.sent() == [[run]]
    story.ok(run, value=Large())
    assert run.kept


def test_a_lost_value_is_looked_for_once_however_many_wait_for_it(story):
    first = story.submit(story.task("a"))
    made(story, first)
    story.driver.slots = 0
    runs = [story.submit(story.task("b"), first) for _ in range(5)]
    story.lose_value(first)
    story.driver.slots = 2
    assert story.sent() == [[first]]
    story.ok(first, value=Large())
    assert [run for parcel in story.sent() for run in parcel] == runs[:4]  # probes


def test_a_failure_of_a_small_value_is_no_loss(story):
    run = story.submit(story.task())
    story.sent()
    story.ok(run, value="small")
    story.lose_value(run)
    assert run.kept
    other = story.submit(story.task())
    story.sent()
    story.fails(other)
    story.lose_value(other)
    story.driver.value_needed(other)
    assert story.sent() == []
    assert other.state == FAILED


def test_the_recipe_of_a_value_lives_as_long_as_the_value_may_be_asked_for(story):
    first = story.submit(story.task("a"))
    second = story.submit(story.task("b", lane=APART), first)
    made(story, first)
    story.let_go(first)
    made(story, second)
    story.sent()
    story.sent()
    story.final.clear()
    alive = weakref.ref(first)
    del first
    gc.collect()
    assert alive() is second.deps[0]
    story.lose_value(second)
    story.driver.value_needed(second)
    recipe = story.sent()
    assert recipe == [[alive()]]
    story.ok(alive(), value=Large())
    recipe = None
    story.sent()
    story.ok(second, value="small this time")
    story.sent()
    story.sent()
    assert alive() is None
