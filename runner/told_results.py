"""Results that workers have stored in this flow run: later calls of the same key need no request.

Kept small: the youngest few thousand, and only values that ride with their outcome or a reference
to the store.  For the driver's thread only.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple

from daskflow.runner.core.graph import Run
from daskflow.runner.core.states import SUCCESSFUL
from daskflow.runner.stored import StoredValue

if TYPE_CHECKING:
    from daskflow.caching.plans import StoreAddress
    from daskflow.runner.cache_notes import RunCache

__all__ = ["ToldResult", "ToldResults"]

_MOST = 10_000
_MOST_BYTES = 16 << 20
_OTHER_BYTES = 500  # of a reference with its index entry, about


class ToldResult(NamedTuple):
    """What a worker told of a result that it stored."""

    value: Any  # as the driver holds that of a run
    digest: str
    run_s: float | None
    result_bytes: int | None
    expires_unix: float | None


class ToldResults:
    """The results of one driver, by store and key."""

    def __init__(self) -> None:
        self._found: OrderedDict[tuple[StoreAddress, str], ToldResult] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._found)

    def keep(self, run: Run, cache: RunCache, now: float) -> None:
        """A run has ended of which a worker told what the cache made of it."""
        value = run.value
        small = type(value) is tuple or isinstance(value, StoredValue)
        good = run.state in SUCCESSFUL and run.error is None and small
        if not good or cache.made_as is None or cache.digest is None:
            return
        expires_s = cache.plan.expires_s
        if cache.hit and expires_s is not None:
            return  # when that one expires only its entry says
        # not later than in the store: that counts from the end of the run
        began = now if run.started_at is None else run.started_at
        expires = None if expires_s is None else began + expires_s
        place = cache.plan.store, cache.made_as
        self._drop(place)
        self._found[place] = ToldResult(value, cache.digest, run.run_s, run.result_bytes, expires)
        self._bytes += _size(self._found[place])
        while len(self._found) > _MOST or self._bytes > _MOST_BYTES:
            self._drop(next(iter(self._found)))

    def find(self, address: StoreAddress, key: str, now: float) -> ToldResult | None:
        """The result under a key, if it is known and has not expired."""
        told = self._found.get((address, key))
        if told is not None and told.expires_unix is not None and told.expires_unix <= now:
            return None
        return told

    def _drop(self, place: tuple[StoreAddress, str]) -> None:
        if (told := self._found.pop(place, None)) is not None:
            self._bytes -= _size(told)


def _size(told: ToldResult) -> int:
    here = type(told.value) is tuple
    return _OTHER_BYTES + (told.result_bytes or 0 if here else 0)
