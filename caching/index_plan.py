"""Decisions of the result store, as pure functions: how to look keys up, and what to evict.

A listing returns up to a thousand names a request, so for many keys it is cheaper to list than to
ask for each; which is cheapest depends on how many entries there are, which one listed prefix
tells.  Eviction takes the expired, then the old, then the oldest until the rest fits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import NamedTuple

from daskflow.caching.index import Entry

__all__ = [
    "GcPlan",
    "LookupPlan",
    "PackSize",
    "plan_gc",
    "plan_lookup",
    "plan_merges",
    "prefix_counts",
]

PAGE = 1000  # names a listing request returns
PREFIXES = 256
SMALL_PACK_BYTES = 4 << 20
MERGED_BYTES = 16 << 20
MERGED_ROWS = 50_000
FEW_PACKS = 4  # fewer are not worth writing their rows again


class LookupPlan(Enum):
    """How to find out which of many keys exist."""

    ASK = "ask for each key"
    LIST_PREFIXES = "list the prefixes that keys fall into"
    LIST_ALL = "list the whole index"


def prefix_counts(keys: Iterable[str]) -> Counter[str]:
    """Return how many keys fall into each prefix, the first two hex digits."""
    return Counter(key[:2] for key in keys)


def plan_lookup(pending: int, prefixes: int, in_sample: int) -> LookupPlan:
    """Choose the way that takes fewest requests.

    Parameters
    ----------
    pending : int
        Keys to look up.
    prefixes : int
        Prefixes that they fall into.
    in_sample : int
        Entries under one prefix, as listed; keys are digests, so all prefixes are about alike.
    """
    costs = {
        LookupPlan.ASK: pending,
        LookupPlan.LIST_PREFIXES: prefixes * _pages(in_sample),
        LookupPlan.LIST_ALL: _pages(in_sample * PREFIXES),
    }
    return min(costs, key=lambda plan: costs[plan])


def _pages(names: int) -> int:
    return max(1, -(-names // PAGE))


class GcPlan(NamedTuple):
    """What a garbage collection removes.

    Attributes
    ----------
    entries : tuple of Entry
        Entries to remove.
    kept : tuple of Entry
        Entries that stay.
    blobs : tuple of str
        Digests of blobs that no kept entry names and that are older than the grace period.
    """

    entries: tuple[Entry, ...]
    kept: tuple[Entry, ...]
    blobs: tuple[str, ...]


def plan_gc(
    entries: Sequence[Entry],
    blobs: Mapping[str, float],
    *,
    now: float,
    grace_s: float,
    max_size_bytes: int | None = None,
    older_than_s: float | None = None,
) -> GcPlan:
    """Decide what to evict.

    Parameters
    ----------
    entries : sequence of Entry
        All of the index.
    blobs : mapping of str to float
        Digest of each blob, and when it was last written (unix seconds).
    now : float
        The time (unix seconds).
    grace_s : float
        Age (seconds) below which a blob stays: its writer may be about to publish its entry.
    max_size_bytes : int, optional
        What is kept is at most this large; oldest entries go first. A blob that several entries
        share counts once.
    older_than_s : float, optional
        Entries of this age (seconds) and more go.
    """
    kept: list[Entry] = []
    gone: list[Entry] = []
    size, shared = 0, set[str]()
    full = False
    for entry in sorted(entries, key=lambda e: e.created_unix, reverse=True):
        old = older_than_s is not None and entry.created_unix <= now - older_than_s
        if entry.expired(now) or old:
            gone.append(entry)
            continue
        extra = 0 if entry.blob in shared else entry.size_bytes
        # once one did not fit, older ones go too: eviction is by age, not by what still squeezes in
        full = full or (max_size_bytes is not None and size + extra > max_size_bytes)
        if full:
            gone.append(entry)
            continue
        size += extra
        if entry.blob:
            shared.add(entry.blob)
        kept.append(entry)
    dead = tuple(
        sorted(b for b, written in blobs.items() if b not in shared and written <= now - grace_s)
    )
    return GcPlan(tuple(gone), tuple(kept), dead)


class PackSize(NamedTuple):
    """A pack as `plan_merges` sees it; `live` are the rows that a look-up may find."""

    path: str
    size_bytes: int
    rows: int
    live: int


def plan_merges(packs: Sequence[PackSize]) -> list[list[str]]:
    """Return which packs to make one of, oldest first; a group of one is only cleaned.

    Small packs are merged when there are several, up to a size, so a row is written again a few
    times in its life.  A pack of which half is dead is written again without that.
    """
    groups: list[list[PackSize]] = []
    for pack in sorted(packs):
        if pack.size_bytes >= SMALL_PACK_BYTES and pack.live * 2 > pack.rows:
            continue
        last = groups[-1] if groups else []
        full = sum(p.size_bytes for p in last) + pack.size_bytes > MERGED_BYTES
        if not last or full or sum(p.rows for p in last) + pack.rows > MERGED_ROWS:
            groups.append([pack])
        else:
            last.append(pack)
    return [
        [pack.path for pack in group]
        for group in groups
        if len(group) >= FEW_PACKS or sum(p.live for p in group) * 2 <= sum(p.rows for p in group)
    ]
