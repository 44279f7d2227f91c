"""Cache look-ups of one session's driver, and single flight: equal keys are executed once.

The driver's thread hands over runs that are ready; keys are looked up in batches, in a thread of
their own, for storage may be far away; answers come back as events.  What is found needs no
cluster.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from daskflow.errors import DaskflowError
from daskflow.runner.cache_status import hit_status
from daskflow.runner.claim_desk import ClaimDesk
from daskflow.runner.context import FLOW_LOGGER
from daskflow.runner.core.driver import Driver
from daskflow.runner.core.graph import Parcel, Run
from daskflow.runner.core.states import FINAL, SUCCESSFUL
from daskflow.runner.stored import StoredValue
from daskflow.runner.told_results import ToldResults

if TYPE_CHECKING:
    from daskflow.caching.index import Entry
    from daskflow.caching.plans import StoreAddress
    from daskflow.runner.cache_notes import RunCache
    from daskflow.runner.cluster.protocol import Commit

__all__ = ["CacheDesk"]

_logger = logging.getLogger(FLOW_LOGGER)
_Batch = list[tuple[Run, str]]
_Found = dict[str, "Entry"]


class CacheDesk:
    """Answers the look-ups of one driver; but for the look-up itself, in the driver's thread.

    Parameters
    ----------
    driver : Driver
    post : callable
        ``post(call, *args)`` has `call` made in the driver's thread.
    """

    def __init__(self, driver: Driver, post: Callable[..., None]) -> None:
        self._driver = driver
        self._post = post
        self._pool: ThreadPoolExecutor | None = None
        self._leaders: dict[tuple[StoreAddress, str], Run] = {}
        self._led: dict[Run, tuple[StoreAddress, str]] = {}
        self._asked_at: dict[Run, float] = {}  # of how old what the look-ups knew is at the most
        self._known_at: dict[StoreAddress, float] = {}  # a store lists its packs once
        self._followers: dict[Run, list[Run]] = {}
        self._committed: list[Run] = []  # told of, and not ended yet
        self._told = ToldResults()
        self._warned = False
        self._refused: set[str] = set()  # tasks of which it was said that they run uncached
        self.claims = ClaimDesk(
            driver, post, self._place_of, self._place_of_rider, self._look_again
        )

    def pass_on(self, parcels: Sequence[Parcel]) -> Sequence[Parcel]:
        """Return the parcels that may go at once; the others go when their keys are claimed."""
        return self.claims.pass_on(parcels) if self._led else parcels

    def _place_of(self, run: Run) -> tuple[str, float] | None:
        led = self._led.get(run)
        return None if led is None else (_claim_place(*led), self._asked_at.get(run, 0.0))

    def _place_of_rider(self, run: Run) -> str | None:
        cache = _cache(run)
        with suppress(DaskflowError):
            if cache.why is None and not cache.plan.refresh and (key := cache.key()) is not None:
                return _claim_place(cache.plan.store, key.key)
        return None

    def _look_again(self, runs: Sequence[Run]) -> None:
        """Look runs up that led, and may have been executed by another process."""
        now = time.time()
        batches: dict[tuple[StoreAddress, str], _Batch] = {}
        for run in runs:
            if (place := self._led.get(run)) is not None:
                address, key = place
                self._asked_at[run] = self._known_at[address] = now
                batch = batches.setdefault((address, _cache(run).plan.flow_run_id), [])
                batch.append((run, key))
        self._send_out(batches, again=True)

    def look(self, runs: Iterable[Run]) -> None:
        """Look `runs` up; those whose key only a worker can make are missed at once."""
        now = time.time()
        batches: dict[tuple[StoreAddress, str], _Batch] = {}
        for run in runs:
            if run.state in FINAL:  # cancelled before it came here
                continue
            cache = _cache(run)
            key = self._key_of(cache)
            if key is None:
                self._driver.missed(run, now)
                continue
            address = cache.plan.store
            if (before := cache.resumption) is not None:
                if (earlier := before.take(cache)) is not None:
                    before.account.late(cache.plan.task_name)
                    self._hit(run, address, earlier.entry, now)
                    continue
                if not cache.looks_up:
                    self._driver.missed(run, now)
                    continue
            leader = self._leaders.get((address, key))
            if leader is not None and leader.state not in SUCCESSFUL:
                self._followers.setdefault(leader, []).append(run)
                continue
            if (told := self._told.find(address, key, now)) is not None:
                self._hit_again(run, key, told.value, told.digest, told.run_s, told.result_bytes)
                continue
            self._lead(run, address, key)
            self._asked_at[run] = self._known_at.setdefault(address, now)
            batches.setdefault((address, cache.plan.flow_run_id), []).append((run, key))
        self._send_out(batches)

    def _key_of(self, cache: RunCache) -> str | None:
        try:
            key = cache.key()
        except DaskflowError as error:  # what futures stand inside of has no content
            why = cache.why = cache.status = f"{type(error).__name__}: {error}"
            name = cache.plan.task_name
            if name not in self._refused and not cache.plan.strict:  # strict ones fail, and say so
                self._refused.add(name)
                _logger.warning("task %s runs uncached: %s", name, why)
            return None
        return None if key is None else key.key

    def _send_out(
        self, batches: dict[tuple[StoreAddress, str], _Batch], *, again: bool = False
    ) -> None:
        for (address, flow_run_id), batch in batches.items():
            if self._pool is None:
                self._pool = ThreadPoolExecutor(1, thread_name_prefix="daskflow-lookups")
            self._pool.submit(self._look_up, address, flow_run_id, batch, again)

    def _look_up(self, address: StoreAddress, flow_run_id: str, batch: _Batch, again: bool) -> None:
        """In the pool's thread; `again`: what was missed before may be there by now."""
        from daskflow.caching.plans import open_store  # only flows that cache get here

        found: _Found = {}
        problem: Exception | None = None
        keys = [key for _, key in batch]
        unasked = set(keys)  # of these a worker may know more
        try:
            store = open_store(address, flow_run_id)
            if again:
                store.forget()
            remembered = store.missed(keys)
            found = store.lookup(keys)
            unasked = remembered
        except Exception as error:  # whatever it is: these runs are executed
            problem = error
        self._post(self._answer, address, batch, found, unasked, problem)

    def _answer(
        self,
        address: StoreAddress,
        batch: _Batch,
        found: _Found,
        unasked: set[str],
        problem: Exception | None,
    ) -> None:
        if problem is not None and not self._warned:
            self._warned = True
            expected = isinstance(problem, DaskflowError)
            _logger.warning(
                "the result store did not answer, so everything is executed: %s",
                problem,
                exc_info=None if expected else problem,
            )
        now = time.time()
        for run, key in batch:
            entry = found.get(key)
            if entry is None:
                _cache(run).absent = key not in unasked
                self._driver.missed(run, now)
            else:
                self._hit(run, address, entry, now)

    def _hit(self, run: Run, address: StoreAddress, entry: Entry, now: float) -> None:
        from daskflow.caching.plans import StoredRef  # only flows that cache get here

        ref = StoredRef(address, entry.carried())
        cache = _cache(run)
        cache.hit, cache.digest, cache.made_as = True, entry.content_digest, entry.key
        cache.status = hit_status(entry.key, entry.duration_s)
        self._driver.found(run, StoredValue(ref), entry.size_bytes, now)

    # -- single flight -------------------------------------------------------------------------

    def _lead(self, run: Run, address: StoreAddress, key: str) -> None:
        self._leaders[address, key] = run
        self._led[run] = address, key

    def ended(self, runs: Sequence[Run]) -> None:
        """Runs are final: those with the same key that waited for one get its result."""
        self.claims.let_go(runs)
        if self._committed:
            self._keep_told()
        if not self._led:
            return
        now = time.time()
        for run in runs:
            place = self._led.pop(run, None)
            self._asked_at.pop(run, None)
            if place is None:
                continue
            if self._leaders.get(place) is run:  # another may lead since, asked for in this turn
                del self._leaders[place]
            followers = self._followers.pop(run, None)
            if followers:
                self._follow(run, followers, place, now)

    def _keep_told(self) -> None:
        now, committed, self._committed = time.time(), self._committed, []
        for run in committed:
            if run.state in FINAL:
                self._told.keep(run, _cache(run), now)
            else:
                self._committed.append(run)

    def _hit_again(
        self,
        run: Run,
        key: str,
        value: Any,
        digest: str,
        run_s: float | None,
        result_bytes: int | None,
    ) -> None:
        cache = _cache(run)
        cache.hit, cache.digest, cache.made_as = True, digest, key
        cache.status = hit_status(key, run_s)
        self._driver.found(run, value, result_bytes, time.time())

    def _follow(
        self, leader: Run, followers: list[Run], place: tuple[StoreAddress, str], now: float
    ) -> None:
        made = _cache(leader)
        plain = type(leader.value) is tuple
        shared = leader.state in SUCCESSFUL and leader.error is None and leader.kept
        # what it was called with may have changed after it was looked up
        shared = shared and made.made_as == place[1]
        if shared and made.digest is not None and (plain or isinstance(leader.value, StoredValue)):
            told = leader.value, made.digest, leader.run_s, leader.result_bytes
            for run in followers:
                self._hit_again(run, place[1], *told)
            return
        # the first of them takes its place; nothing new can be in the store but by another flow
        first, *rest = followers
        self._lead(first, *place)
        if rest:
            self._followers[first] = rest
        self._driver.missed(first, now)

    # -- what workers tell ---------------------------------------------------------------------

    def committed(self, parcel: Parcel, commits: Sequence[Commit]) -> None:
        """What the cache made of runs of a parcel; before their outcomes."""
        for commit in commits:
            run = parcel.open.get(commit.number)
            if run is not None and run.cache is not None:
                _cache(run).told(commit)
                self._committed.append(run)

    def close(self) -> None:
        """Look nothing more up."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self.claims.close()


def _cache(run: Run) -> RunCache:
    cache: Any = run.cache
    return cache  # type: ignore[no-any-return]


def _claim_place(address: StoreAddress, key: str) -> str:
    from daskflow.caching.claims import claim_place  # only flows that cache get here

    return claim_place(address.url, key)
