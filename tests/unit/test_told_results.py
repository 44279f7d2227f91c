"""What workers told of stored results: found by key, until it expires or too much is known."""

from __future__ import annotations

from daskflow.caching.keys import CacheKey
from daskflow.caching.plans import CachePlan, StoreAddress
from daskflow.caching.policy import INPUTS
from daskflow.runner import told_results
from daskflow.runner.cache_notes import RunCache
from daskflow.runner.cluster.protocol import Commit
from daskflow.runner.told_results import ToldResults
from tests.unit.driver_story import Story
from tests.unit.test_cache_desk import cached, desk_of, ends_well

ADDRESS = StoreAddress("memory://x")
PLAN = CachePlan("t", INPUTS, None, None, "f", None, None, False, False, ADDRESS)


def ended(key, value=(0, 1), expires_s=None, hit=False, digest="d"):
    story = Story(1)
    cache = RunCache(PLAN._replace(expires_s=expires_s), {}, CacheKey(key, {}))
    run = story.submit_cached(story.task(), cache)
    cache.told(Commit(run.number, hit, key, digest, None, None))
    run.state, run.value, run.started_at, run.result_bytes = "Completed", value, 100.0, 1000
    return run, cache


def test_a_result_is_found_until_it_expires():
    told = ToldResults()
    told.keep(*ended("a"), 101.0)
    told.keep(*ended("b", expires_s=10.0), 101.0)
    assert told.find(ADDRESS, "a", 1e9).value == (0, 1)
    assert told.find(ADDRESS, "b", 109.0).digest == "d"
    assert told.find(ADDRESS, "b", 110.0) is None
    assert told.find(StoreAddress("memory://y"), "a", 0.0) is None


def test_what_is_not_in_the_store_or_may_expire_at_any_time_is_not_kept():
    told = ToldResults()
    told.keep(*ended("a", digest=None), 0.0)
    told.keep(*ended("b", value=None), 0.0)
    told.keep(*ended("c", expires_s=10.0, hit=True), 0.0)
    assert len(told) == 0


def test_the_oldest_go_when_there_are_too_many(monkeypatch):
    monkeypatch.setattr(told_results, "_MOST_BYTES", 4600)
    told = ToldResults()
    for key in "abcd":
        told.keep(*ended(key), 0.0)
    told.keep(*ended("b", value=(0, 2)), 0.0)
    assert [key for key in "abcd" if told.find(ADDRESS, key, 0.0)] == ["b", "c", "d"]
    assert told.find(ADDRESS, "b", 0.0).value == (0, 2)


def test_a_later_run_of_the_same_key_asks_nobody():
    desk = desk_of()
    story, task = desk.story, desk.story.task(takes_s=1.0)
    first = cached(story, task, "k")
    desk.turn()
    desk.answer()
    desk.turn()
    ends_well(desk, first, "k")
    desk.turn()
    second = cached(story, task, "k")
    desk.turn()
    assert desk.answers == []
    desk.turn()
    assert (second.state, second.value) == ("Cached", (0, 1))
    assert (desk._leaders, desk._led, desk._committed) == ({}, {}, [])
