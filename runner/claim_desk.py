"""Single flight across flow processes: what another one is making is waited for, not made again.

Before a parcel goes to a worker, its runs that are cached claim their keys, all parcels of a turn
in one transaction.  A run whose key somebody else has claimed is taken out of its parcel and
waits; once the claim is gone it is looked up again, and claimed again if nothing is there.  So is
one that was looked up before somebody else has given claims up.  A claim goes with the end of its
run, or when the run comes back without one.  Only look-ups that missed get here, so a hit costs
nothing.  Without claims, or when their store fails, everything is sent.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from daskflow.errors import StoreError
from daskflow.runner.context import FLOW_LOGGER, TASK_LOGGER, LogLine
from daskflow.runner.core.decisions import Transition
from daskflow.runner.core.driver import Driver
from daskflow.runner.core.graph import Parcel, Run
from daskflow.runner.core.states import AWAITING_RETRY, FINAL, PENDING

if TYPE_CHECKING:
    from daskflow.caching.claims import Claims, Taken

__all__ = ["ClaimDesk"]

_logger = logging.getLogger(FLOW_LOGGER)

_FIRST_LOOK_S, _LAST_LOOK_S = 0.02, 0.25  # at claims of others; the pauses grow
_PAUSE_S = 30.0  # without claims, after their store has failed


class ClaimDesk:
    """The claims of one driver; but for the store, in the driver's thread.

    Parameters
    ----------
    driver : Driver
    post : callable
        ``post(call, *args)`` has `call` made in the driver's thread.
    place_of : callable
        The name of what a run makes, and when it was looked up (unix seconds); None for one that
        was not.
    place_of_rider : callable
        The name for one that is with a worker and was not, if its key is known by now.
    look_again : callable
        Looks runs up that have waited.
    """

    def __init__(
        self,
        driver: Driver,
        post: Callable[..., None],
        place_of: Callable[[Run], tuple[str, float] | None],
        place_of_rider: Callable[[Run], str | None],
        look_again: Callable[[Sequence[Run]], None],
    ) -> None:
        self.make: Callable[[], Claims] | None = None  # None: claims nothing
        self.send: Callable[[Sequence[Parcel]], None] = lambda parcels: None
        self.tell: Callable[[Parcel, LogLine], None] = lambda parcel, line: None
        self.next_look: float | None = None
        self._driver = driver
        self._post = post
        self._place_of = place_of
        self._place_of_rider = place_of_rider
        self._look_again = look_again
        self._pool: ThreadPoolExecutor | None = None
        self._claims: Claims | None = None  # of the pool's thread
        self._claimed: dict[Run, str] = {}
        self._waiting: dict[Run, str] = {}
        self._sure: set[Run] = set()  # claimed first, and looked up again after that
        self._kept_for: dict[int, list[str]] = {}  # by parcel, until what follows is claimed
        self._pause_s = _FIRST_LOOK_S
        self._looking = False
        self._off_until = 0.0

    # -- before a parcel goes ------------------------------------------------------------------

    def pass_on(self, parcels: Sequence[Parcel]) -> Sequence[Parcel]:
        """Return the parcels that may go at once; the others go when their keys are claimed."""
        if self.make is None or time.monotonic() < self._off_until:
            return parcels
        go: list[Parcel] = []
        hold: list[Parcel] = []
        asked_at: dict[Run, float] = {}
        for parcel in parcels:
            before = len(asked_at)
            for run in parcel.runs:
                if run.cache is not None and not run.redo and (found := self._place_of(run)):
                    self._claimed[run], asked_at[run] = found
            (go if len(asked_at) == before else hold).append(parcel)
        if hold:
            places = [self._claimed[run] for run in asked_at]
            self._in_pool(self._take, hold, places, asked_at)
        return go

    def _take(self, parcels: list[Parcel], places: list[str], asked_at: dict[Run, float]) -> None:
        """In the pool's thread."""
        from daskflow.caching.claims import Taken  # only flows that cache get here

        taken = Taken(set())
        try:
            taken = self._kept().take(places)
        finally:
            self._post(self._taken, parcels, taken, asked_at)

    def _taken(self, parcels: list[Parcel], taken: Taken, asked_at: dict[Run, float]) -> None:
        go: list[Parcel] = []
        stale: list[Run] = []
        for parcel in parcels:
            if parcel.id not in self._driver.parcels:  # dropped meanwhile
                continue
            # a run that goes once more goes whoever makes or has made its result by now
            first = [run for run in parcel.open.values() if run.state == PENDING]
            waits = [run for run in first if self._claimed.get(run) in taken.refused]
            late = [
                run
                for run in first
                if asked_at.get(run, math.inf) <= taken.others_at
                and self._claimed.get(run) not in taken.refused
                and run not in self._sure
            ]
            if not waits and not late and len(parcel.open) == len(parcel.runs):
                self._sure.difference_update(parcel.runs)
                go.append(parcel)
                continue
            self._park(parcel, waits)
            self._sure.update(late)
            stale += late
            self._driver.recall(parcel.id, waits + late)
        if go:
            self.send(go)
        if stale:
            self._look_again(stale)

    def _park(self, parcel: Parcel, runs: Iterable[Run]) -> None:
        for run in runs:
            if not self._waiting:  # told of the first one only: there may be thousands
                now, text = time.time(), "waits for another flow run that makes the same result"
                line = LogLine(run.number, run.attempt + 1, now, logging.INFO, TASK_LOGGER, text)
                self.tell(parcel, line)
                self._pause_s = _FIRST_LOOK_S
                if not self._looking:  # else what comes of it sets the next
                    self.next_look = now + self._pause_s
            self._waiting[run] = self._claimed.pop(run)
            self._sure.discard(run)

    # -- while it is with a worker -------------------------------------------------------------

    def started(self, parcel: Parcel, runs: Sequence[Run]) -> None:
        """A worker tells that these runs of a parcel are executing.

        One that rode along with its input is claimed now: its key was not known before.
        """
        if self.make is None or time.monotonic() < self._off_until:
            return
        for run in runs:
            if run.cache is None or run.redo:
                continue
            place, late = self._claimed.get(run), False
            if place is None and (place := self._place_of_rider(run)) is not None:
                self._claimed[run], late = place, True
            if place is not None:
                self._in_pool(self._tell, [place], True, late)
        self._give_up(self._kept_for.pop(parcel.id, []))

    def ended(self, parcel: Parcel, numbers: Iterable[int]) -> None:
        """Runs of a parcel are about to end: claims are kept until what rides along has its own.

        Else somebody who waits for the first of a chain would make the second one at once, which
        a worker is executing already.
        """
        if self._claimed:
            open_runs = parcel.open
            ended = {run for n in numbers if (run := open_runs.get(n)) in self._claimed}
            rides = (r.cache is not None and r not in self._claimed for r in open_runs.values())
            if ended and any(rides):
                kept = self._kept_for.setdefault(parcel.id, [])
                kept += [self._claimed.pop(run) for run in ended if run is not None]

    def waits(self, parcel: Parcel) -> None:
        """What is executing of this parcel waits for other runs."""
        places = [place for run in parcel.open.values() if (place := self._claimed.get(run))]
        if places:
            self._in_pool(self._tell, places, False)

    def _tell(self, places: list[str], executing: bool, take: bool = False) -> None:
        claims = self._kept()
        if take:  # somebody else may have it: this one executes all the same
            claims.take(places)
        claims.executing(places, executing)

    # -- afterwards ----------------------------------------------------------------------------

    def came_back(self, done: Sequence[Parcel], transitions: Sequence[Transition]) -> None:
        """Parcels are closed, and runs wait for their next attempt: what is not out is let go."""
        if self._kept_for:
            for parcel in done:
                self._give_up(self._kept_for.pop(parcel.id, []))
        if self._claimed:
            runs = [run for parcel in done for run in parcel.open.values()]
            runs += [each.run for each in transitions if each.state == AWAITING_RETRY]
            self.let_go([run for run in runs if run.parcel is None and run not in self._sure])

    def let_go(self, runs: Sequence[Run]) -> None:
        """These runs make nothing any more."""
        if self._claimed:
            self._sure.difference_update(runs)
            self._give_up([place for run in runs if (place := self._claimed.pop(run, None))])

    def _give_up(self, places: list[str]) -> None:
        if places:
            self._in_pool(self._release, places)

    def _release(self, places: list[str]) -> None:
        self._kept().release(places)

    # -- those that wait -----------------------------------------------------------------------

    def look(self, now: float) -> None:
        """Look whether those that wait may go on, if it is time."""
        if self.next_look is None or now < self.next_look or self._looking:
            return
        for run in [run for run in self._waiting if run.state in FINAL]:
            del self._waiting[run]
        self.next_look = None
        if self._waiting:
            self._looking = True
            self._in_pool(self._look, set(self._waiting.values()))

    def _look(self, places: set[str]) -> None:
        """In the pool's thread."""
        free = places
        try:
            free = self._kept().free(places)
        finally:
            self._post(self._looked, free)

    def _looked(self, free: set[str]) -> None:
        self._looking = False
        again = [run for run, place in self._waiting.items() if place in free]
        for run in again:
            del self._waiting[run]
        if self._waiting:
            self._pause_s = min(1.5 * self._pause_s, _LAST_LOOK_S)
            self.next_look = time.time() + self._pause_s
        if again:
            self._look_again(again)

    # -- the store -----------------------------------------------------------------------------

    def _in_pool(self, call: Callable[..., None], *args: Any) -> None:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="daskflow-claims")
        self._pool.submit(self._guarded, call, args)

    def _guarded(self, call: Callable[..., None], args: tuple[Any, ...]) -> None:
        try:
            call(*args)
        except StoreError as error:  # then everybody executes, as without claims
            self._off_until = time.monotonic() + _PAUSE_S
            _logger.debug("cache keys are not claimed for a while: %s", error)
        except Exception:  # a defect of ours: the run goes as without claims
            _logger.exception("cache keys are not claimed")

    def _kept(self) -> Claims:
        if self._claims is None:
            assert self.make is not None
            self._claims = self.make()
        return self._claims

    def close(self) -> None:
        """Claim nothing more, and give everything up."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        if self._claims is not None:
            self._claims.close()
