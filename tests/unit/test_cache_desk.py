"""Single flight in the driver's thread, turn by turn, without a store."""

from __future__ import annotations

from daskflow.caching.keys import CacheKey
from daskflow.caching.plans import CachePlan, StoreAddress
from daskflow.caching.policy import INPUTS
from daskflow.runner.cache_desk import CacheDesk
from daskflow.runner.cache_notes import RunCache
from daskflow.runner.cluster.protocol import Commit
from daskflow.runner.core.graph import Outcome
from daskflow.runner.core.states import CACHED, CANCELLED, COMPLETED, FAILED
from tests.unit.driver_story import Story

PLAN = CachePlan("t", INPUTS, None, None, "f", None, None, False, False, StoreAddress("memory://x"))


class Desk(CacheDesk):
    """Answers that nothing is there, when the test says so."""

    def __init__(self, story: Story) -> None:
        super().__init__(story.driver, lambda call, *args: self.answers.append((call, args)))
        self.answers: list = []
        self.story = story
        self._pool = self  # type: ignore[assignment]

    def submit(self, call, address, flow_run_id, batch, again):
        self.answers.append((self._answer, (address, batch, {}, None)))

    def turn(self) -> None:
        """What the driver's thread does in one turn, but for sending."""
        self.look(self.story.driver.take_lookups())
        self.story.sent()
        final, self.story.final = self.story.final, []
        self.ended(final)

    def answer(self) -> None:
        answers, self.answers = self.answers, []
        for call, args in answers:
            call(*args)


def cached(story: Story, task, key: str):
    run = story.submit_cached(task, RunCache(PLAN, {}, CacheKey(key, {})))
    return run


def ends_well(desk: Desk, run, key: str, value=(0, 1)) -> None:
    assert run.parcel is not None
    desk.committed(run.parcel, [Commit(run.number, False, key, f"digest-{key}", None, None)])
    desk.story.ok(run, value=value)


def desk_of(slots: int = 4) -> Desk:
    story = Story(slots)
    return Desk(story)


def test_equal_keys_wait_for_the_first_and_get_its_result():
    desk = desk_of()
    story, task = desk.story, desk.story.task(takes_s=1.0)
    leader, *others = [cached(story, task, "k") for _ in range(4)]
    desk.turn()
    desk.answer()
    desk.turn()
    assert [run.parcel is not None for run in (leader, *others)] == [True, False, False, False]
    ends_well(desk, leader, "k")
    desk.turn()
    assert leader.state == COMPLETED
    assert [(run.state, run.value) for run in others] == [(CACHED, (0, 1))] * 3
    desk.turn()
    assert (desk._leaders, desk._led, desk._followers) == ({}, {}, {})


def test_where_the_first_fails_the_next_one_is_executed():
    desk = desk_of()
    story, task = desk.story, desk.story.task(takes_s=1.0)
    runs = [cached(story, task, "k") for _ in range(3)]
    desk.turn()
    desk.answer()
    desk.turn()
    story.fails(runs[0])
    desk.turn()
    desk.turn()
    assert runs[0].state == FAILED
    assert [run.parcel is not None for run in runs[1:]] == [True, False]
    ends_well(desk, runs[1], "k")
    desk.turn()
    assert runs[2].state == CACHED


def test_one_that_comes_in_the_turn_in_which_the_first_ends_leads_itself():
    desk = desk_of()
    story, task = desk.story, desk.story.task(takes_s=1.0)
    first = cached(story, task, "k")
    desk.turn()
    desk.answer()
    desk.turn()
    ends_well(desk, first, "k")
    second, third = cached(story, task, "k"), cached(story, task, "k")
    desk.turn()  # looks up, and hears of the end of the first only then
    desk.answer()
    desk.turn()
    assert second.parcel is not None
    ends_well(desk, second, "k")
    desk.turn()
    desk.turn()
    assert (second.state, third.state) == (COMPLETED, CACHED)
    assert (desk._leaders, desk._led, desk._followers) == ({}, {}, {})


def test_a_result_that_was_made_of_other_arguments_is_not_shared():
    desk = desk_of()
    story, task = desk.story, desk.story.task(takes_s=1.0)
    first, second = cached(story, task, "k"), cached(story, task, "k")
    desk.turn()
    desk.answer()
    desk.turn()
    ends_well(desk, first, "another key")
    desk.turn()
    desk.turn()
    assert second.parcel is not None


def test_runs_cancelled_while_they_are_looked_up_end_at_once_and_leave_nothing():
    desk = desk_of()
    story, task = desk.story, desk.story.task(takes_s=1.0)
    runs = [cached(story, task, "k") for _ in range(3)]
    desk.turn()
    story.driver.cancel(story.scope, story.now)
    assert {run.state for run in runs} == {CANCELLED}
    desk.turn()
    desk.answer()
    desk.turn()
    assert {run.state for run in runs} == {CANCELLED}
    assert (desk._leaders, desk._led, desk._followers) == ({}, {}, {})


def test_runs_cancelled_before_they_are_looked_up_lead_nobody():
    desk = desk_of()
    story, task = desk.story, desk.story.task(takes_s=1.0)
    run = cached(story, task, "k")
    story.driver.cancel_run(run, story.now)
    desk.turn()
    assert (desk._leaders, desk._led, desk.answers) == ({}, {}, [])


def test_a_run_keeps_no_other_once_its_key_is_told():
    desk = desk_of()
    story, task = desk.story, desk.story.task(takes_s=1.0)
    upper = story.submit(task)
    note = RunCache(PLAN, {"x": upper})
    note.wanted = False
    lower = story.submit_cached(task, note, upper)
    story.sent()
    story.driver.outcomes(
        upper.parcel.id, [Outcome(upper.number, True, story.now, 0.1, (0, 1))], "w", 7
    )
    note.told(Commit(lower.number, False, "k", "digest", None, None))
    assert note._inputs is None
