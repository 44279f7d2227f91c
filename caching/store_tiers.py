"""Two tiers: a local result store in front of a remote one, with the same methods.

Look-ups ask the local store first and the remote one for the rest; what the remote one has is
copied as it is, sealed bytes and all, so a value crosses the network once a machine.  Publishing
goes to both, remote first, so that the winner there is the winner here; a read-only remote store
is never written to.  The local tier may fail or be full: the remote one then answers alone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from daskflow.caching.index import Entry
from daskflow.caching.store import NewResult, ResultStore
from daskflow.errors import ResultGone, StoreError

__all__ = ["TieredStore"]

_log = logging.getLogger(__name__)


class TieredStore:
    """A local store in front of a remote one.

    Parameters
    ----------
    local : ResultStore
        The near one; what it holds may be evicted at any time.
    remote : ResultStore
        The one that counts.
    read_only : bool
        Never write to the remote store; new results stay local. Default False.
    """

    def __init__(self, local: ResultStore, remote: ResultStore, *, read_only: bool = False) -> None:
        self.local, self.remote, self.read_only = local, remote, read_only
        self._told: set[str] = set()

    def __repr__(self) -> str:
        return f"TieredStore({self.local!r}, {self.remote!r})"

    def lookup(self, keys: Iterable[str]) -> dict[str, Entry]:
        """Return the entries of those keys that either store has; raises as `ResultStore` does."""
        wanted = list(dict.fromkeys(keys))
        try:
            found = self.local.lookup(wanted)
        except StoreError as error:
            self._warn("local results cannot be read", error)
            found = {}
        missing = [key for key in wanted if key not in found]
        if missing:
            far = self.remote.lookup(missing)
            self._keep(far.values())
            found |= far
        return found

    def _keep(self, entries: Iterable[Entry]) -> None:
        """Copy small entries; large ones follow when they are loaded."""
        small = [entry for entry in entries if entry.blob is None]
        try:
            self.local.adopt(small)
        except StoreError as error:
            self._warn("results are not kept locally", error)

    def _warn(self, what: str, error: StoreError) -> None:
        if what not in self._told:
            self._told.add(what)
            _log.warning("%s: %s", what, error)

    def missed(self, keys: Iterable[str]) -> set[str]:
        """Return those keys that are remembered as misses: nothing is asked for them."""
        return self.remote.missed(keys)

    def load(self, entry: Entry, *, checked: bool = False) -> Any:
        """Return the value of an entry, from the near store when it has it."""
        if entry.blob is None:
            if entry.payload is None:  # it travelled without
                entry = self.lookup([entry.key]).get(entry.key, entry)
            return self.remote.load(entry, checked=checked)
        try:
            if not self.local.has_blob(entry):
                self.local.adopt_blob(entry, self.remote)
            return self.local.load(entry)
        except ResultGone:
            return self.remote.load(entry)
        except StoreError as error:
            self._warn("results are not kept locally", error)
            return self.remote.load(entry)

    def publish(self, key: str, value: Any, **about: Any) -> Entry:
        """Publish a result; parameters and errors are those of `ResultStore.publish`."""
        if self.read_only:
            return self.local.publish(key, value, **about)
        entry = self.remote.publish(key, value, **about)
        if about.get("replace"):
            self.local.remove([key])
        self._keep([entry])
        return entry

    def publish_many(self, results: Iterable[NewResult]) -> list[Entry]:
        """Publish many results; small ones share a pack."""
        if self.read_only:
            return self.local.publish_many(results)
        return self.publish_prepared([(self.prepare(item), item.replace) for item in results])

    def prepare(self, new: NewResult) -> Entry:
        """Encode a result, and store it if it is large, as `ResultStore.prepare`."""
        return (self.local if self.read_only else self.remote).prepare(new)

    def publish_prepared(self, prepared: Sequence[tuple[Entry, bool]]) -> list[Entry]:
        """Publish what `prepare` returned, each with whether it replaces."""
        if self.read_only:
            return self.local.publish_prepared(prepared)
        entries = self.remote.publish_prepared(prepared)
        try:
            if replaced := [entry.key for entry, replace in prepared if replace]:
                self.local.remove(replaced)
        except StoreError as error:
            self._warn("what was replaced may still be found locally", error)
        self._keep(entries)
        return entries

    def remove(self, keys: Iterable[str]) -> int:
        """Remove entries from every store that may be written to; return how many there were."""
        wanted = list(keys)
        near = self.local.remove(wanted)
        return near if self.read_only else max(near, self.remote.remove(wanted))

    def forget(self) -> None:
        """Forget remembered misses and look for new packs at the next look-up."""
        self.local.forget()
        self.remote.forget()
