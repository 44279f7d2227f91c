"""Which workers a parcel may go to: those that meet its requests, and sometimes fewer.

A run that must not be executed a second time is pinned to one worker of a cluster that is not ours:
Dask would run it again elsewhere on its own account, for one when the worker is retired.  Where the
scheduler takes no plugin, Dask's own loss budget holds, so there every parcel is pinned.  Never
softly: Dask lets what may go elsewhere wait for ever once its worker is gone.

A run that was lost with its worker goes to another host next time, where there is one.
"""

from __future__ import annotations

import weakref
from collections import Counter
from typing import NamedTuple

from daskflow.runner.cluster.protocol import WITH_NANNY
from daskflow.runner.cluster.requests import Requests
from daskflow.runner.cluster.session import Session
from daskflow.runner.core.graph import Parcel, Run, once_only

__all__ = ["Place", "Placing", "host_of"]


class Place(NamedTuple):
    """Where a parcel may be executed."""

    workers: tuple[str, ...] = ()  # addresses; empty: anywhere
    only: str | None = None  # folder of the one worker that may execute it


_ANYWHERE = Place()


def host_of(worker: str) -> str:
    """The host in a worker's address."""
    return worker.partition("://")[2].rpartition(":")[0]


class Placing:
    """Decides for one session's cluster.

    Parameters
    ----------
    session : Session
    requests : Requests
        Knows what the workers offer.
    """

    def __init__(self, session: Session, requests: Requests) -> None:
        self._requests = requests
        self._foreign = session.flight_folder == WITH_NANNY
        self._pins_all = self._foreign and not session.loss_budget
        self._lost_on: weakref.WeakKeyDictionary[Run, set[str]] = weakref.WeakKeyDictionary()
        self._pinned: dict[int, str] = {}

    def lost_on(self, runs: list[Run], worker: str | None) -> None:
        """These runs were executing on a worker that was lost."""
        if worker is not None:
            for run in runs:
                self._lost_on.setdefault(run, set()).add(host_of(worker))

    def pinned(self, parcel_id: int) -> str | None:
        """The one worker that a parcel in flight was sent to, if it was."""
        return self._pinned.get(parcel_id)

    def place(self, parcel: Parcel) -> Place | None:
        """Where to send `parcel` now; None when no worker can take it yet."""
        key, hosts = parcel.lane.key, self._avoided(parcel)
        pin = self._pins_all or (self._foreign and bool(once_only(parcel)))
        asks = bool(key.resources or key.workers)
        if not (asks or pin or hosts):
            return _ANYWHERE
        able = self._requests.able(key)
        places = [address for address in able if host_of(address) not in hosts] or able
        if pin and places:
            used = Counter(self._pinned.values())
            places = [min(places, key=lambda address: used[address])]
            self._pinned[parcel.id] = places[0]
        narrowed = pin or len(places) < len(able)
        if asks or narrowed:
            if not places:
                self._requests.hold(parcel)  # `Requests.look` says until when
                return None
            self._requests.sent(parcel.id, places)
        only = self._requests.folder_of(places[0]) if pin else None
        return Place(tuple(places) if key.workers or narrowed else (), only)

    def _avoided(self, parcel: Parcel) -> set[str]:
        if not self._lost_on:
            return set()
        return {host for run in parcel.runs for host in self._lost_on.get(run, ())}

    def release(self, parcel_id: int) -> None:
        """Nothing more is expected of this parcel."""
        self._pinned.pop(parcel_id, None)
        self._requests.release(parcel_id)
