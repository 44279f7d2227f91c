"""Claims on cache keys, kept in the run store beside the leases of the flow runs that hold them.

A claim stands from when its run is sent to a worker until it has ended or comes back.  It is
respected while its holder lives and the run executes; one whose run only waits in a queue, or for
other runs, is respected for a short while, and so no two processes wait for each other.
"""

from __future__ import annotations

import sqlite3
import time
import uuid
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Any

from daskflow.caching.claims import Taken
from daskflow.errors import StoreError
from daskflow.runner.core.leases import Watch, is_claim_free, judge
from daskflow.runner.store.address import sqlite_path
from daskflow.runner.store.leases import LEASE_S
from daskflow.runner.store.process import ProcessIdentity, process_is_gone, this_process
from daskflow.runner.store.sqlite import SqliteReader, SqliteWriter
from daskflow.runner.store.statements import load_statements

__all__ = ["KeyClaims"]

_PATIENCE_S = 2.0  # for the store's lock: what waits meanwhile is the flow
_REMEMBERED_S = 86_400.0  # that somebody gave something up: no look-up is older when it is used
IDLE_S = 5.0  # for so long a claim is respected whose run is not executing


class KeyClaims:
    """The claims of one driver; see `daskflow.caching.claims.Claims`.

    Parameters
    ----------
    url : str
        Of the run store.
    flow_run_id : str
        Whose lease says whether the holder goes on.
    clock : callable, optional
        Monotonic seconds.
    """

    def __init__(
        self, url: str, flow_run_id: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        path = sqlite_path(url)
        self._sink, self._reader = SqliteWriter(path), SqliteReader(path)
        self._sql = load_statements("sqlite", "claims")
        self._holder = uuid.uuid4().hex
        self._flow_run_id = flow_run_id
        self._clock = clock
        self._watch = Watch()
        self._used = False
        self._gone: dict[ProcessIdentity, bool | None] = {}  # asked once in each call

    def take(self, places: Collection[str]) -> Taken:
        """Claim `places`, those that nobody else holds."""
        mine = {"holder": self._holder, "flow_run_id": self._flow_run_id}
        mine |= this_process()._asdict()
        refused: set[str] = set()
        self._used = True
        self._gone.clear()
        with self._sink.transaction(_PATIENCE_S) as connection:
            for place in places:
                given = mine | {"place": place}
                if not connection.execute(self._sql["claimed"], given).rowcount:
                    if self._is_held(connection, place):
                        refused.add(place)
                        continue
                    connection.execute(self._sql["broken"], (place,))
                    connection.execute(self._sql["claimed"], given)
                self._watch.forget(place)
            others = connection.execute(self._sql["given_up_by_others"], (self._holder,))
            return Taken(refused, *others.fetchone())

    def _is_held(self, connection: sqlite3.Connection, place: str) -> bool:
        holder, *found = connection.execute(self._sql["seen"], (place,)).fetchone()
        return holder != self._holder and not self._is_free(place, holder, found)

    def _is_free(self, place: str, holder: str, found: Sequence[Any]) -> bool:
        executing, *columns, flow_run_id, fence, heartbeat = found
        process = ProcessIdentity(*columns)
        if process not in self._gone:
            self._gone[process] = process_is_gone(process)
        now = self._clock()
        still_s = self._watch.still_s(flow_run_id, (fence, heartbeat), now)
        idle_s = self._watch.still_s(place, (holder, executing), now)
        verdict = judge(self._gone[process], still_s, LEASE_S)
        return is_claim_free(verdict, bool(executing), idle_s, IDLE_S)

    def executing(self, places: Collection[str], now: bool) -> None:
        """Tell whether what makes these results is executing, and waits for no other run."""
        rows = [(now, place, self._holder) for place in places]
        with self._sink.transaction(_PATIENCE_S) as connection:
            connection.executemany(self._sql["executing"], rows)

    def release(self, places: Collection[str]) -> None:
        """Give `places` up."""
        with self._sink.transaction(_PATIENCE_S) as connection:
            rows = [(place, self._holder) for place in places]
            connection.executemany(self._sql["released"], rows)
            connection.execute(self._sql["given_up"], (self._holder, time.time()))

    def free(self, places: Collection[str]) -> set[str]:
        """Return those of `places` that `take` would get."""
        held = set()
        self._gone.clear()
        for place, holder, *found in self._reader.rows("claims", {"holder": self._holder}):
            if place in places and not self._is_free(place, holder, found):
                held.add(place)
        return set(places) - held

    def close(self) -> None:
        """Give everything up; a store that cannot be written keeps it until somebody looks."""
        if self._used:
            with suppress(StoreError), self._sink.transaction(_PATIENCE_S) as connection:
                connection.execute(self._sql["all_released"], (self._holder,))
                connection.execute(self._sql["forgotten"], (time.time() - _REMEMBERED_S,))
        self._sink.close()
        self._reader.close()
