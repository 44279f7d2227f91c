"""What task runs ask of workers, `resources=` and `workers=`, held against what workers offer.

Dask lets a request that nobody can meet wait for ever.  Here it is sent once a worker can meet it;
when none can, and none has come for a while, its runs end with a message that lists the offers.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from distributed import Client, Future

from daskflow.errors import UsageError
from daskflow.runner.core.graph import LaneKey, Parcel

__all__ = ["Requests", "Ruling"]

_GRACE_S = 5.0  # after the last worker has come or gone
_SETTLED_S = 1.0  # by then a lost worker's own parcels were told to be lost
_SHOWN = 5


class Ruling(NamedTuple):
    """What is to become of parcels that ask for something."""

    again: list[int]  # a worker has come that can run them
    refused: list[tuple[LaneKey, UsageError]]


class Requests:
    """Knows what the workers of one cluster offer.

    Parameters
    ----------
    client : distributed.Client
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._offers: Mapping[str, Mapping[str, Any]] | None = None
        self._changed_at: float | None = None
        self._sent: dict[int, frozenset[str]] = {}  # where a parcel may run; nowhere: it is held
        self._held: dict[int, LaneKey] = {}  # those that wait for the first worker
        self._knocks: dict[LaneKey, Future[bool]] = {}
        self._unmet_since: dict[LaneKey, float] = {}

    def workers_changed(self) -> None:
        """A worker came or went."""
        self._offers, self._changed_at = None, None

    def sent(self, parcel_id: int, places: Iterable[str]) -> None:
        """A parcel is about to be sent to some workers."""
        self._sent[parcel_id] = frozenset(places)

    def hold(self, parcel: Parcel) -> None:
        """A parcel waits until a worker has come; one that scales itself up starts one for it."""
        self._held[parcel.id], self._sent[parcel.id] = parcel.lane.key, frozenset()
        self._knock(parcel.lane.key)

    def _knock(self, key: LaneKey) -> None:
        """Have something wait on the scheduler: nothing else makes an adaptive cluster grow."""
        waiting = self._knocks.get(key)
        if key.workers or (waiting is not None and not waiting.done()):
            return
        options: dict[str, Any] = {"resources": dict(key.resources)} if key.resources else {}
        name = f"daskflow-waits-for-a-worker-{uuid.uuid4().hex}"
        self._knocks[key] = self._client.submit(bool, key=name, pure=False, **options)

    def holds(self, key: LaneKey) -> bool:
        """Whether such parcels wait, which later ones are not to overtake."""
        return key in self._held.values()

    def folder_of(self, address: str) -> str | None:
        """The folder of a worker, which tells it from a later one at the same address."""
        found = (self._offers or {}).get(address, {}).get("local_directory")
        return None if found is None else str(found)

    def release(self, parcel_id: int) -> None:
        """Nothing more is expected of this parcel."""
        self._sent.pop(parcel_id, None)
        key = self._held.pop(parcel_id, None)
        if key is not None and not self.holds(key):
            self._knocks.pop(key, None)

    def look(self, parcels: Mapping[int, Parcel], now: float) -> Ruling:
        """Decide on the parcels in flight that ask for something."""
        ruling = Ruling([], [])
        if not self._sent:
            return ruling
        if self._changed_at is None:
            self._changed_at = now
        lanes: dict[LaneKey, list[int]] = {}
        for parcel_id in self._sent:
            if (parcel := parcels.get(parcel_id)) is not None:
                lanes.setdefault(parcel.lane.key, []).append(parcel_id)
        for key, parcel_ids in lanes.items():
            able = frozenset(self.able(key))
            if able:
                self._unmet_since.pop(key, None)
                settled = now - self._changed_at >= _SETTLED_S
                ruling.again.extend(
                    parcel_id
                    for parcel_id in parcel_ids
                    if not self._sent[parcel_id]
                    or (settled and self._sent[parcel_id].isdisjoint(able))
                )
            elif not self._offers or not (key.resources or key.workers):
                if self.holds(key):  # there is no worker at all: one may come, as for any other
                    self._knock(key)
            elif now - max(self._unmet_since.setdefault(key, now), self._changed_at) >= _GRACE_S:
                ruling.refused.append((key, UsageError(self._told(key))))
        return ruling

    def able(self, key: LaneKey) -> list[str]:
        """Addresses of the workers that can meet a request."""
        if not self._offers:  # none yet: whoever waits for the first one asks again
            self._offers = self._client.scheduler_info(n_workers=-1)["workers"]
        return [
            address
            for address, offer in self._offers.items()
            if _has(offer, key.resources) and _is_one_of(address, offer, key.workers)
        ]

    def _told(self, key: LaneKey) -> str:
        asked = []
        if key.resources:
            asked.append(f"resources={ {name: _number(n) for name, n in key.resources}!r}")
        if key.workers:
            asked.append(f"workers={list(key.workers)!r}")
        offers = [
            f"{offer.get('name')} at {address} "
            f"({', '.join(f'{name}={_number(n)}' for name, n in _resources(offer).items()) or '-'})"
            for address, offer in (self._offers or {}).items()
        ]
        more = f" and {len(offers) - _SHOWN} more" if len(offers) > _SHOWN else ""
        return (
            f"no worker can run this: it asks for {' and '.join(asked)}, and the workers, with "
            f"their resources, are {'; '.join(offers[:_SHOWN]) or 'none'}{more}; start a worker "
            "that offers it, for example with: dask worker ADDRESS --resources GPU=1"
        )


def _resources(offer: Mapping[str, Any]) -> Mapping[str, float]:
    return offer.get("resources") or {}


def _has(offer: Mapping[str, Any], resources: Iterable[tuple[str, float]]) -> bool:
    offered = _resources(offer)
    return all(offered.get(name, 0) >= amount for name, amount in resources)


def _is_one_of(address: str, offer: Mapping[str, Any], workers: tuple[str, ...]) -> bool:
    if not workers:
        return True
    known = {address, address.partition("://")[2], str(offer.get("name")), str(offer.get("host"))}
    return not known.isdisjoint(workers)


def _number(amount: float) -> float:
    return int(amount) if amount == int(amount) else amount
