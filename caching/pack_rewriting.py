"""Rewriting packs while others read, write and rewrite: rows are taken out, small packs merged.

No lock: a row that was removed must not come back with a pack that another process makes of what it
has read before.  So a rewriter first writes a candidate, which no reader looks at; then makes sure
that its sources are all still there; then gives the candidate its name, and deletes the sources.
Who removes rows deletes the sources first and looks last: it ends when a new listing shows neither
its keys nor a candidate of somebody else, and deletes such a candidate, so that its owner starts
again.  Either the owner sees the sources gone, or who removes sees the candidate.
"""

from __future__ import annotations

import hashlib
import random
import time
import uuid
from collections.abc import Callable, Iterable, Sequence

from daskflow.caching.index import Entry, rows_of, write_rows
from daskflow.caching.index_packs import Pack, Packs
from daskflow.caching.index_plan import PackSize, plan_merges
from daskflow.caching.store_layout import CANDIDATE, PACKS, pack_path
from daskflow.errors import StoreError
from daskflow.results.storage import Storage

__all__ = ["merge_packs", "mergeable", "remove_rows"]

_TRIES = 50

Holds = Callable[[Entry], bool]


def remove_rows(storage: Storage, packs: Packs, keys: Iterable[str], holds: Holds) -> int:
    """Take keys out of every pack; return how many of them packs held.

    Parameters
    ----------
    storage : Storage
    packs : Packs
    keys : iterable of str
    holds : callable
        Whether an entry has its seal, for packs that are not whole.

    Raises
    ------
    StoreError
        When the storage cannot be read or written, or others rewrite without end.
    """
    gone, removed = set(keys), set[str]()
    for attempt in range(_TRIES):
        holding = [pack for pack in packs.fresh() if not gone.isdisjoint(pack.positions)]
        for pack in holding:
            removed |= gone & pack.positions.keys()
            kept = [entry for entry in _sound(pack, holds) if entry.key not in gone]
            _rewrite(storage, packs, [pack], kept)
        if holding:
            continue
        others = [i.path for i in storage.list(PACKS) if i.path.endswith(CANDIDATE)]
        if not others:
            return len(removed)
        storage.delete(others)
        time.sleep(random.random() * 0.002 * attempt)
    raise StoreError(
        f"cannot take results out of {storage.shown_url!r}: other processes rewrite its packs all "
        "the time; try again"
    )


def merge_packs(storage: Storage, packs: Packs, before_unix: float, holds: Holds) -> int:
    """Merge small packs, and drop rows that no look-up finds; return how many packs went.

    `before_unix`: only packs that were written by then (unix seconds).  What another process
    rewrites at the same time is left for the next merge.
    """
    merged = 0
    for group in mergeable(packs, before_unix):
        kept = [
            entry
            for pack in group
            for entry in _sound(pack, holds)
            if packs.first_holder(entry.key) == pack.path
        ]
        if _rewrite(storage, packs, group, kept):
            merged += len(group)
    return merged


def mergeable(packs: Packs, before_unix: float) -> list[list[Pack]]:
    """Return the groups of packs that are worth to be merged."""
    found = {pack.path: pack for pack in packs.fresh() if _written(pack) <= before_unix}
    sizes = [
        PackSize(
            *(path, pack.table.nbytes, len(pack.positions)),
            sum(packs.first_holder(key) == path for key in pack.positions),
        )
        for path, pack in found.items()
    ]
    return [[found[path] for path in group] for group in plan_merges(sizes)]


def _written(pack: Pack) -> float:
    return int(pack.path.removeprefix(f"{PACKS}/").partition("-")[0]) / 1000


def _sound(pack: Pack, holds: Holds) -> list[Entry]:
    # a new pack has a hash of its own, so what is damaged must not get into it
    entries = rows_of(pack.table)
    return entries if pack.whole else [entry for entry in entries if holds(entry)]


def _rewrite(
    storage: Storage, packs: Packs, sources: Sequence[Pack], kept: Sequence[Entry]
) -> bool:
    """Put a pack of `kept` in the place of `sources`; False when one of them has gone meanwhile."""
    paths = [pack.path for pack in sources]
    final, data = None, b""
    if kept:
        data = write_rows(kept)
        # the time of the oldest in the name keeps its rank among packs
        final = pack_path(_written(sources[0]), hashlib.sha256(data).hexdigest())
        candidate = f"{PACKS}/{uuid.uuid4().hex}{CANDIDATE}"
        storage.create(candidate, data)
        there = {info.path for info in storage.list(PACKS)}
        if not there.issuperset(paths):
            storage.delete([candidate])
            return False
        if not storage.move(candidate, final):
            return False
    storage.delete([path for path in paths if path != final])
    packs.replaced(sources, final, data)
    return True
