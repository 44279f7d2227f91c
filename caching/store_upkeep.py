"""Upkeep of a result store: evict, verify, count.

Eviction marks before it sweeps: rows go first, then the index is read again for entries that were
published meanwhile, and only then go blobs that nobody names, that are older than the grace
period, and that are still that old right before they are deleted.  A writer that finds its blob
there already touches it, so what it is about to name is young again.  Last, small packs become
larger ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from daskflow.caching.index import Entry
from daskflow.caching.index_plan import GcPlan, plan_gc
from daskflow.caching.pack_rewriting import merge_packs, mergeable, remove_rows
from daskflow.caching.store_layout import (
    BLOBS,
    CANDIDATE,
    INDEX,
    PACKS,
    QUARANTINE,
    blob_path,
    index_path,
)
from daskflow.caching.store_layout import key_of_path as digest_of
from daskflow.caching.store_reader import ResultReader
from daskflow.results.local_files import FileInfo

__all__ = ["GcReport", "StoreStats", "TaskStats", "VerifyReport", "collect", "stats", "verify"]

QUARANTINE_S = 7 * 86_400.0


class GcReport(NamedTuple):
    """What a collection removed, or would remove when `dry_run`.

    Attributes
    ----------
    entries : tuple of Entry
        Entries removed, without their values.
    blobs : int
        Blobs removed.
    freed_bytes : int
        Size of the blobs and of the values in rows (bytes).
    kept_entries, kept_bytes : int
        What is left. Blobs younger than the grace period wait for the next collection.
    dry_run : bool
        Whether nothing was touched.
    merged_packs : int
        Packs that became part of larger ones.
    """

    entries: tuple[Entry, ...]
    blobs: int
    freed_bytes: int
    kept_entries: int
    kept_bytes: int
    dry_run: bool
    merged_packs: int = 0


class VerifyReport(NamedTuple):
    """What `verify` found.

    Attributes
    ----------
    entries, blobs : int
        How many were read and checked.
    damaged : tuple of str
        Paths of blobs whose bytes are wrong; they are in quarantine now.
    missing : tuple of str
        Keys of entries whose blob is gone; they are misses.
    unused_bytes : int
        Size of blobs that no entry names (bytes); `gc` removes them.
    """

    entries: int
    blobs: int
    damaged: tuple[str, ...]
    missing: tuple[str, ...]
    unused_bytes: int


class TaskStats(NamedTuple):
    """Entries of one task: how many, their bytes, and how long computing them took (seconds)."""

    entries: int
    size_bytes: int
    duration_s: float


class StoreStats(NamedTuple):
    """A store in figures; sizes in bytes."""

    entries: int
    size_bytes: int
    blobs: int
    blob_bytes: int
    packs: int
    quarantined: int
    tasks: dict[str, TaskStats]


def collect(
    store: ResultReader,
    *,
    now: float,
    grace_s: float,
    max_size_bytes: int | None,
    older_than_s: float | None,
    dry_run: bool,
) -> GcReport:
    """Evict entries and sweep what nobody names; see `ResultStore.gc`."""
    blobs = _blobs(store)
    plan = plan_gc(
        _slim(store),
        {digest: info.modified_unix for digest, info in blobs.items()},
        now=now,
        grace_s=grace_s,
        max_size_bytes=max_size_bytes,
        older_than_s=older_than_s,
    )
    dead = plan.blobs if dry_run else _sweep(store, plan, blobs, now, grace_s)
    inline = sum(e.size_bytes for e in plan.entries if e.blob is None)
    freed = inline + sum(blobs[digest].size_bytes for digest in dead)
    kept = sum(e.size_bytes for e in {e.blob or e.key: e for e in plan.kept}.values())
    merged = _merge(store, now - grace_s, dry_run)
    return GcReport(plan.entries, len(dead), freed, len(plan.kept), kept, dry_run, merged)


def _merge(store: ResultReader, before_unix: float, dry_run: bool) -> int:
    if dry_run:
        return sum(map(len, mergeable(store.packs, before_unix)))
    return merge_packs(store.storage, store.packs, before_unix, store.sealer.holds)


def _slim(store: ResultReader) -> list[Entry]:
    return [entry.without_payload() for entry in store.entries()]


def _blobs(store: ResultReader) -> dict[str, FileInfo]:
    infos = store.storage.list(BLOBS)
    return {digest: info for info in infos if (digest := digest_of(info.path))}


def _sweep(
    store: ResultReader,
    plan: GcPlan,
    blobs: Mapping[str, FileInfo],
    now: float,
    grace_s: float,
) -> list[str]:
    gone = [entry.key for entry in plan.entries]
    packed = [entry.key for entry in plan.entries if entry.pack is not None]
    if packed:
        remove_rows(store.storage, store.packs, packed, store.sealer.holds)
    store.storage.delete([index_path(e.key) for e in plan.entries if e.pack is None])
    store.forget()
    # entries that came while we looked keep their blobs
    alive = {entry.blob for entry in store.entries() if entry.key not in set(gone)}
    dead = []
    for digest in plan.blobs:
        if digest in alive:
            continue
        info = store.storage.info(blob_path(digest))
        if info is not None and info.modified_unix <= now - grace_s:
            store.storage.delete([info.path])
            dead.append(digest)
    _sweep_left_over(store, now, grace_s)
    return dead


def _sweep_left_over(store: ResultReader, now: float, grace_s: float) -> None:
    """Delete temporary files of writers that died, and what has been in quarantine for a week."""
    ages = {INDEX: grace_s, BLOBS: grace_s, PACKS: grace_s, QUARANTINE: QUARANTINE_S}
    for folder, age_s in ages.items():
        store.storage.delete(
            info.path
            for info in store.storage.list(folder)
            if (folder == QUARANTINE or info.path.endswith((".tmp", CANDIDATE)))
            and info.modified_unix <= now - age_s
        )


def verify(store: ResultReader) -> VerifyReport:
    """Read every entry and every blob; see `ResultStore.verify`."""
    store.forget()
    blobs = _blobs(store)
    damaged, missing, seen, entries = [], [], set[str](), 0
    for entry in store.entries():
        entries += 1
        if entry.blob is None or entry.blob in seen:
            continue
        if entry.blob not in blobs:
            missing.append(entry.key)
            continue
        seen.add(entry.blob)
        if not store.blob_is_whole(entry):
            damaged.append(blob_path(entry.blob))
    unused = sum(info.size_bytes for digest, info in blobs.items() if digest not in seen)
    return VerifyReport(entries, len(seen), tuple(damaged), tuple(missing), unused)


def stats(store: ResultReader) -> StoreStats:
    """Count entries, bytes and seconds; see `ResultStore.stats`."""
    tasks: dict[str, TaskStats] = {}
    size = entries = 0
    counted: set[str] = set()
    for entry in store.entries():
        entries += 1
        own = 0 if entry.blob in counted else entry.size_bytes
        if entry.blob:
            counted.add(entry.blob)
        size += own
        had = tasks.get(entry.task, TaskStats(0, 0, 0.0))
        tasks[entry.task] = TaskStats(
            had.entries + 1, had.size_bytes + own, had.duration_s + (entry.duration_s or 0.0)
        )
    blobs = _blobs(store)
    return StoreStats(
        entries=entries,
        size_bytes=size,
        blobs=len(blobs),
        blob_bytes=sum(info.size_bytes for info in blobs.values()),
        packs=len(store.storage.list(PACKS)),
        quarantined=len(store.storage.list(QUARANTINE)),
        tasks=tasks,
    )
