"""Claims in the driver's thread, turn by turn: who is sent, who waits, and when it is let go."""

from __future__ import annotations

import pytest

from daskflow.caching.claims import Taken
from daskflow.errors import StoreError
from daskflow.runner.claim_desk import ClaimDesk
from daskflow.runner.core.graph import CacheNote
from daskflow.runner.core.states import CACHED, CANCELLED, COMPLETED
from tests.unit.driver_story import Story


class Noted:
    """Claims that answer as the test says, and remember what they were told."""

    def __init__(self) -> None:
        self.theirs: set[str] = set()
        self.mine: set[str] = set()
        self.running: set[str] = set()
        self.broken = False
        self.others_at = 0.0

    def take(self, places):
        if self.broken:
            raise StoreError("scripted to fail")
        self.mine |= set(places) - self.theirs
        return Taken(set(places) & self.theirs, self.others_at)

    def executing(self, places, now):
        self.running = self.running | set(places) if now else self.running - set(places)

    def release(self, places):
        self.mine -= set(places)
        self.running -= set(places)

    def free(self, places):
        return set(places) - self.theirs

    def close(self):
        self.mine.clear()


class Desk(ClaimDesk):
    """Does in the turn what the pool does, and sends nowhere."""

    def __init__(self, slots: int = 8) -> None:
        self.story = Story(slots)
        self.places: dict = {}
        self.asked_at = 100.0
        self.sent: list = []
        self.again: list = []
        self.noted = Noted()
        self.riders: dict = {}
        finders = self._place, self.riders.get
        super().__init__(self.story.driver, self._call, *finders, self.again.extend)
        self.make = lambda: self.noted
        self.send = self.sent.extend

    def _place(self, run):
        place = self.places.get(run)
        return None if place is None else (place, self.asked_at)

    def _call(self, call, *args):
        call(*args)

    def _in_pool(self, call, *args):
        self._guarded(call, args)

    def wants(self, *places: str, takes_s: float = 1.0, retries: int = 0):
        """Runs of one task that make `places`, looked up and missed."""
        story, task = self.story, self.story.task(takes_s=takes_s, retries=retries)
        runs = []
        for place in places:
            runs.append(story.submit_cached(task, CacheNote()))
            self.places[runs[-1]] = place
        for run in story.driver.take_lookups():
            story.driver.missed(run, story.now)
        return runs

    def turn(self) -> None:
        """Pack, pass on, and hear what came back."""
        self.story.driver.pack(self.story.now)
        send, final, transitions, done = self.story.driver.take()
        self.came_back(done, transitions)
        if go := self.pass_on(send):
            self.send(go)
        self.let_go(final)

    def looks(self) -> None:
        self.look(float("inf"))


@pytest.fixture
def desk():
    return Desk()


def test_a_run_is_sent_once_its_key_is_claimed_and_lets_go_when_it_has_ended(desk):
    (run,) = desk.wants("k")
    desk.turn()
    assert (desk.sent, desk.noted.mine) == ([run.parcel], {"k"})
    desk.started(run.parcel, [run])
    assert desk.noted.running == {"k"}
    desk.waits(run.parcel)
    assert desk.noted.running == set()
    desk.story.ok(run)
    desk.turn()
    assert (run.state, desk.noted.mine) == (COMPLETED, set())


def test_what_somebody_else_makes_waits_and_its_neighbours_go(desk):
    desk.noted.theirs = {"b"}
    a, b, c = desk.wants("a", "b", "c", takes_s=0.0001)
    desk.turn()
    desk.turn()
    assert [run.parcel in desk.sent for run in (a, b, c)] == [True, False, True]
    assert b.parcel is None
    desk.looks()
    assert desk.again == []
    desk.noted.theirs = set()
    desk.looks()
    assert desk.again == [b]
    desk.story.driver.found(b, (0, 1), 10, desk.story.now)
    assert b.state == CACHED
    assert desk.next_look is None


def test_what_was_not_made_by_the_other_one_is_claimed_and_sent(desk):
    desk.noted.theirs = {"k"}
    (run,) = desk.wants("k")
    desk.turn()
    desk.noted.theirs = set()
    desk.looks()
    desk.story.driver.missed(run, desk.story.now)
    desk.turn()
    assert run.parcel in desk.sent
    assert desk.noted.mine == {"k"}


def test_what_was_looked_up_before_others_gave_something_up_is_looked_up_again_once(desk):
    desk.noted.others_at = 100.5
    one, other = desk.wants("k", "l")
    desk.turn()
    assert (desk.sent, desk.again) == ([], [one, other])
    desk.turn()  # hears that the parcels came back
    assert desk.noted.mine == {"k", "l"}  # nobody else makes them meanwhile
    desk.noted.others_at = 200.0  # they go on giving things up, but not these
    desk.story.driver.missed(one, desk.story.now)
    desk.story.driver.found(other, (0, 1), 10, desk.story.now)
    desk.turn()
    assert one.parcel in desk.sent
    assert desk.again == [one, other]
    assert (other.state, desk.noted.mine) == (CACHED, {"k"})
    assert desk._sure == set()


def test_a_run_that_waits_can_be_cancelled(desk):
    desk.noted.theirs = {"k"}
    (run,) = desk.wants("k")
    desk.turn()
    desk.story.driver.cancel(desk.story.scope, desk.story.now)
    assert run.state == CANCELLED
    desk.looks()
    assert (desk.again, desk.next_look) == ([], None)


def test_a_parcel_that_was_dropped_before_its_keys_were_claimed_is_not_sent(desk):
    (run,) = desk.wants("k")
    desk.story.driver.pack(desk.story.now)
    (parcel,) = desk.story.driver.take().send
    desk._in_pool = lambda call, *args: None  # the pool is busy
    desk.pass_on([parcel])
    desk.story.driver.drop_parcel(parcel.id, desk.story.now)
    desk._taken([parcel], Taken(set()), {run: 100.0})
    assert desk.sent == []
    assert run.state == CANCELLED


@pytest.mark.parametrize("how", ["lost", "handed back", "failed once"])
def test_a_run_that_comes_back_holds_no_claim_until_it_goes_again(desk, how):
    story = desk.story
    (run,) = desk.wants("k", retries=1)
    desk.turn()
    desk.started(run.parcel, [run])
    assert desk.noted.running == {"k"}
    if how == "lost":
        story.lose(run, executing=[run])
    elif how == "handed back":
        desk.let_go([run])  # the driver's thread tells before it takes them back
        story.hand_back(run)
    else:
        story.fails(run)
    story.driver.slots = 0
    desk.turn()
    assert (desk.noted.mine, desk.noted.running) == (set(), set())


def test_a_store_that_fails_holds_nothing_up(desk):
    desk.noted.broken = True
    one, other = desk.wants("k"), desk.wants("l")
    desk.turn()
    assert {run.parcel for run in [*one, *other]} == set(desk.sent)
    desk.noted.broken = False
    (third,) = desk.wants("m")
    desk.turn()
    assert third.parcel in desk.sent
    assert desk.noted.mine == set()  # it is not asked again at once


def test_runs_that_are_not_cached_ask_nobody(desk):
    run = desk.story.submit(desk.story.task())
    desk.make = pytest.fail
    desk.turn()
    assert run.parcel in desk.sent


def test_the_first_of_a_chain_is_given_up_when_the_second_is_claimed(desk):
    story = desk.story
    (first,) = desk.wants("k", takes_s=0.001)
    second = story.submit_cached(story.task(takes_s=0.001), CacheNote(), first)
    desk.turn()
    parcel = first.parcel
    assert second.parcel is parcel
    desk.ended(parcel, [first.number])
    story.ok(first)
    desk.turn()
    assert (first.state, desk.noted.mine) == (COMPLETED, {"k"})
    desk.riders[second] = "l"  # its key can be made now
    desk.started(parcel, [second])
    assert (desk.noted.mine, desk.noted.running) == ({"l"}, {"l"})
    desk.ended(parcel, [second.number])
    story.ok(second)
    desk.turn()
    assert desk.noted.mine == set()


def test_the_first_of_a_chain_is_given_up_with_its_parcel_at_the_latest(desk):
    story = desk.story
    (first,) = desk.wants("k", takes_s=0.001)
    second = story.submit_cached(story.task(takes_s=0.001), CacheNote(), first)
    desk.turn()
    desk.ended(first.parcel, [first.number])
    story.ok(first)
    desk.turn()
    assert desk.noted.mine == {"k"}
    story.driver.slots = 0
    story.hand_back(second)
    desk.turn()
    assert desk.noted.mine == set()
