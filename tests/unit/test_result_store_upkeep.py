"""Eviction, verification, figures and tiers of the result store; its decisions as functions."""

from __future__ import annotations

import os

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskflow.caching.index import Entry, Sealer, StoredParts, read_table, rows_of, write_rows
from daskflow.caching.index_plan import (
    LookupPlan,
    PackSize,
    plan_gc,
    plan_lookup,
    plan_merges,
)
from daskflow.caching.store import ResultStore
from daskflow.caching.store_layout import blob_path
from daskflow.caching.store_tiers import TieredStore
from daskflow.errors import StoreError
from tests.unit.result_stores import NOW, key, new, publish
from tests.unit.sameness import same

LARGE = np.arange(50_000.0)


@pytest.fixture
def store(tmp_path):
    return ResultStore(str(tmp_path / "store"))


def again(store):
    return ResultStore(store.storage.url)


def names_in(store, *names):
    found = again(store).lookup([key(name) for name in names])
    return [name for name in names if key(name) in found]


def age(store, path, seconds):
    os.utime(store.storage.local_root / path, (NOW - seconds, NOW - seconds))


# ---- pure


ENTRIES = st.builds(
    Entry,
    key=st.uuids().map(lambda u: u.hex),
    task=st.text(max_size=5),
    codec=st.sampled_from(["json", "pickle", "tree+pickle"]),
    content_digest=st.binary(max_size=4).map(bytes.hex),
    blob=st.sampled_from([None, "b1" * 8, "b2" * 8]),
    size_bytes=st.integers(0, 100),
    payload=st.none() | st.binary(max_size=10),
    created_unix=st.integers(0, 2_000_000).map(float),
    expires_unix=st.none() | st.integers(0, 2_000_000).map(float),
    duration_s=st.none() | st.floats(0, 1e6),
    parts=st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2).map(StoredParts.of),
    schema=st.none() | st.text(max_size=5),
    seal=st.just(""),
    pack=st.none(),
)


@given(st.lists(ENTRIES, max_size=5), st.binary(max_size=3))
def test_rows_come_back_with_seals_that_hold(entries, secret):
    sealer = Sealer(secret or None)
    sealed = [sealer.sealed(entry) for entry in entries]
    assert rows_of(read_table(write_rows(sealed))) == sealed
    assert all(map(sealer.holds, sealed))
    assert not any(map(Sealer(b"another").holds, sealed))


@given(ENTRIES, ENTRIES, st.sampled_from([f for f in Entry._fields if f not in ("seal", "pack")]))
def test_a_seal_covers_every_field(entry, other, field):
    sealed = Sealer(None).sealed(entry)
    changed = sealed._replace(**{field: getattr(other, field)})
    assert Sealer(None).holds(changed) == (changed == sealed)


@given(
    st.lists(ENTRIES, max_size=12, unique_by=lambda e: e.key),
    st.none() | st.integers(0, 300),
    st.none() | st.integers(0, 2_000_000),
)
def test_eviction_takes_the_expired_the_old_and_then_the_oldest(entries, size, older):
    now = 1_000_000.0
    # one blob has one size
    entries = [e._replace(size_bytes=7) if e.blob else e for e in entries]
    blobs = {"b1" * 8: 0.0, "b2" * 8: now, "b3" * 8: 0.0}
    plan = plan_gc(entries, blobs, now=now, grace_s=10.0, max_size_bytes=size, older_than_s=older)
    assert sorted(e.key for e in plan.entries + plan.kept) == sorted(e.key for e in entries)
    assert not any(entry.expired(now) for entry in plan.kept)
    named = {entry.blob for entry in plan.kept}
    assert set(plan.blobs) == {"b1" * 8, "b3" * 8} - named  # b2 is younger than the grace period
    if older is not None:
        assert all(entry.created_unix > now - older for entry in plan.kept)
    if size is not None:
        inline = sum(e.size_bytes for e in plan.kept if not e.blob)
        assert (
            inline
            + sum(min(e.size_bytes for e in plan.kept if e.blob == b) for b in named - {None})
            <= size
        )
    if size is None and older is None:
        assert all(entry.expired(now) for entry in plan.entries)


@pytest.mark.parametrize(
    ("pending", "prefixes", "in_sample", "plan"),
    [
        (40, 37, 0, LookupPlan.LIST_ALL),
        (1000, 250, 1, LookupPlan.LIST_ALL),
        (1000, 250, 900, LookupPlan.LIST_ALL),
        (100_000, 256, 900, LookupPlan.LIST_ALL),
        (100_000, 256, 1001, LookupPlan.LIST_ALL),
        (100, 80, 5000, LookupPlan.ASK),
        (1000, 2, 5000, LookupPlan.LIST_PREFIXES),
    ],
)
def test_keys_are_looked_up_in_the_way_that_takes_fewest_requests(
    pending, prefixes, in_sample, plan
):
    assert plan_lookup(pending, prefixes, in_sample) is plan


# ---- gc


def test_gc_removes_what_is_expired_old_or_too_much(store):
    publish(store, "expired", LARGE, expires_unix=NOW - 1)
    publish(store, "old", LARGE + 1, created_unix=NOW - 1000)
    publish(store, "young", LARGE + 2, created_unix=NOW - 10)
    publish(store, "packed-too", 1)
    for info in store.storage.list("blobs"):
        age(store, info.path, 5000)
    dry = store.gc(older_than_s=500, now=NOW, dry_run=True)
    assert names_in(store, "old", "young") == ["old", "young"]
    done = again(store).gc(older_than_s=500, now=NOW)
    assert (done.blobs, done.freed_bytes, done.entries) == (dry.blobs, dry.freed_bytes, dry.entries)
    assert sorted(e.key for e in done.entries) == sorted([key("expired"), key("old")])
    assert (done.kept_entries, done.blobs) == (2, 2)
    assert names_in(store, "expired", "old", "young", "packed-too") == ["young", "packed-too"]
    assert len(store.storage.list("blobs")) == 1
    report = again(store).gc(max_size_bytes=1000, now=NOW)
    assert report.kept_bytes <= 1000
    assert names_in(store, "young", "packed-too") == ["packed-too"]


def test_gc_takes_rows_out_of_packs(store):
    results = [new(name, name, created_unix=NOW - name) for name in range(10)]
    store.publish_many(results)
    assert len(store.gc(older_than_s=4.5, now=NOW).entries) == 5
    assert names_in(store, *range(10)) == [0, 1, 2, 3, 4]
    assert len(store.storage.list("packs")) == 1
    again(store).gc(older_than_s=0, now=NOW + 1)
    assert store.storage.list("packs") == []


@given(
    st.lists(st.tuples(st.integers(0, 8 << 20), st.integers(1, 9), st.integers(0, 9)), max_size=30)
)
def test_merging_takes_each_pack_once_and_makes_none_too_large(given_packs):
    packs = [
        PackSize(f"packs/{at:03}", size, rows, min(live, rows))
        for at, (size, rows, live) in enumerate(given_packs)
    ]
    groups = plan_merges(packs)
    by_path = {pack.path: pack for pack in packs}
    taken = [path for group in groups for path in group]
    assert taken == sorted(set(taken))
    for group in groups:
        members = [by_path[path] for path in group]
        assert len(group) == 1 or sum(p.size_bytes for p in members) <= 16 << 20
        few = len(group) < 4
        assert not few or sum(p.live for p in members) * 2 <= sum(p.rows for p in members)


def test_gc_merges_small_packs_and_every_row_stays_what_it_was(store):
    for pack in range(6):
        store.publish_many([new((pack, n), [pack, n]) for n in range(10)])
    store.publish_many([new((0, 0), "second"), new("last", "of all")])  # the first one counts
    reader = again(store)
    reader.lookup([key("none")])  # has read the packs as they were
    assert store.gc(grace_s=3600.0).merged_packs == 0  # a reader may be between list and read
    assert store.gc(grace_s=-1.0, dry_run=True).merged_packs == 7
    assert len(store.storage.list("packs")) == 7
    report = again(store).gc(grace_s=-1.0)
    assert (report.merged_packs, len(report.entries), report.kept_entries) == (7, 0, 61)
    assert len(store.storage.list("packs")) == 1
    for each in (again(store), reader, store):
        found = each.lookup([key((pack, n)) for pack in range(6) for n in range(10)])
        values = [each.load(found[key((pack, n))]) for pack in range(6) for n in range(10)]
        assert values == [[pack, n] for pack in range(6) for n in range(10)]
    assert again(store).verify().entries == 61
    assert again(store).gc(grace_s=-1.0).merged_packs == 0


def test_a_pack_whose_rows_are_mostly_dead_is_written_again(store):
    store.publish_many([new(n, n) for n in range(3)])
    store.publish_many([new(n, n, created_unix=NOW + 1) for n in range(3)])
    store.publish_many([new(n, n) for n in (0, 1, 7)])
    assert again(store).gc(grace_s=-1.0).merged_packs == 3
    (pack,) = store.storage.list("packs")
    assert names_in(store, 0, 1, 2, 7) == [0, 1, 2, 7]
    assert len(rows_of(read_table(store.storage.read(pack.path)))) == 4


def test_damaged_rows_do_not_get_into_a_new_pack(store):
    store.publish_many([new(n, "v") for n in range(4)])
    (info,) = store.storage.list("packs")
    rows = rows_of(read_table(store.storage.read(info.path)))
    rows[0] = rows[0]._replace(payload=b'"w"')  # as a flipped bit that Parquet does not see
    (store.storage.local_root / info.path).write_bytes(write_rows(rows))
    assert again(store).remove([key(3)]) == 1
    found = again(store).lookup([key(n) for n in range(4)])
    assert sorted(found) == sorted(key(n) for n in (1, 2))


def test_a_merge_whose_source_is_removed_meanwhile_is_given_up(store, monkeypatch):
    for n in range(5):
        store.publish_many([new((n, 0), "old"), new((n, 1), "kept")])
    merger, create = again(store), store.storage.create

    def create_and_remove(path, data, **more):
        made = create(path, data, **more)
        if path.endswith(".candidate"):
            monkeypatch.undo()
            publish(again(store), (2, 0), "new", replace=True)
        return made

    monkeypatch.setattr(merger.storage, "create", create_and_remove)
    assert merger.gc(grace_s=-1.0).merged_packs == 0
    assert not [i for i in store.storage.list("packs") if i.path.endswith(".candidate")]
    found = again(store).lookup([key((2, 0)), key((2, 1))])
    assert [store.load(entry) for entry in found.values()] == ["kept", "new"]


def test_gc_spares_the_blob_of_a_writer_that_is_about_to_publish(store):
    entry = publish(store, 1, LARGE)
    store.remove([key(1)])
    assert store.gc(now=NOW).blobs == 0
    age(store, blob_path(entry.blob), 7200)
    # a second writer finds the old blob there and names it: it is young again
    original = store._publish_row
    store._publish_row = lambda *_: store.gc(now=NOW) and original(*_)
    publish(store, 2, LARGE)
    assert names_in(store, 2) == [2]
    assert same(store.load(store.lookup([key(2)])[key(2)]), LARGE)


def test_gc_sweeps_what_dead_writers_left(store):
    publish(store, 1, LARGE)
    left = store.storage.local_root / "blobs" / ".dead.tmp"
    left.write_bytes(b"half")
    store.gc(now=NOW)
    assert left.exists()
    os.utime(left, (NOW - 7200, NOW - 7200))
    store.gc(now=NOW)
    assert not left.exists()


# ---- verify and stats


def test_verify_names_what_is_damaged_missing_and_unused(store):
    good, bad, gone = (publish(store, name, LARGE + at) for at, name in enumerate("gbx"))
    publish(store, "unused", LARGE + 9)
    store.remove([key("unused")])
    file = store.storage.local_root / blob_path(bad.blob)
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    store.storage.delete([blob_path(gone.blob)])
    report = again(store).verify()
    assert (report.entries, report.blobs) == (3, 2)
    assert report.damaged == (blob_path(bad.blob),)
    assert report.missing == (key("x"),)
    assert report.unused_bytes > 100_000
    assert again(store).verify().damaged == ()
    assert good.blob


def test_stats_count_by_task(store):
    publish(store, 1, LARGE)
    publish(store, 2, LARGE)
    publish(store, 3, "x", task="load")
    store.publish_many([new(4, 1), new(5, 2)])
    found = store.stats()
    assert (found.entries, found.blobs, found.packs, found.quarantined) == (5, 1, 1, 0)
    assert found.tasks["clean"].entries == 4
    assert found.tasks["clean"].duration_s == 2.0
    assert found.tasks["load"].size_bytes == 3
    assert found.size_bytes == found.blob_bytes + 3 + 2


# ---- tiers


@pytest.fixture
def tiers(tmp_path):
    return ResultStore(str(tmp_path / "near")), ResultStore(str(tmp_path / "far"))


def test_what_the_far_store_has_is_kept_near(tiers):
    near, far = tiers
    publish(far, "small", 1)
    publish(far, "large", LARGE)
    tiered = TieredStore(near, far)
    found = tiered.lookup([key("small"), key("large"), key("none")])
    assert same([tiered.load(found[key(n)]) for n in ("small", "large")], [1, LARGE])
    assert names_in(near, "small", "large", "none") == ["small", "large"]
    far.remove([key("small"), key("large")])
    later = TieredStore(again(near), again(far))
    assert same(later.load(later.lookup([key("large")])[key("large")]), LARGE)


def test_what_is_published_goes_to_both(tiers):
    near, far = tiers
    tiered = TieredStore(near, far)
    publish(tiered, 1, "a")
    tiered.publish_many([new(2, "b"), new(3, "c")])
    assert names_in(near, 1, 2, 3) == names_in(far, 1, 2, 3) == [1, 2, 3]
    publish(tiered, 1, "new", replace=True)
    for store in tiers:
        assert again(store).load(again(store).lookup([key(1)])[key(1)]) == "new"
    assert tiered.remove([key(1), key(2)]) == 2
    assert names_in(far, 1, 2, 3) == [3]


def test_a_read_only_far_store_is_never_written_to(tiers):
    near, far = tiers
    publish(far, 1, "a")
    before = sorted(far.storage.list(""))
    tiered = TieredStore(near, far, read_only=True)
    publish(tiered, 2, "b")
    tiered.publish_many([new(3, "c"), new(4, "d")])
    tiered.lookup([key(1)])
    tiered.remove([key(1)])
    assert sorted(far.storage.list("")) == before
    assert names_in(near, 2, 3, 4) == [2, 3, 4]


def test_a_full_near_store_leaves_the_far_one_working(tiers, monkeypatch, caplog):
    near, far = tiers
    publish(far, "large", LARGE)
    publish(far, "small", 1)

    def full(*_, **__):
        raise StoreError("the storage is full")

    monkeypatch.setattr(near.storage, "create_named", full)
    monkeypatch.setattr(near.storage, "replace", full)
    monkeypatch.setattr(near.storage, "create", full)
    tiered = TieredStore(near, far)
    found = tiered.lookup([key("large"), key("small")])
    assert same([tiered.load(found[key(n)]) for n in ("large", "small")], [LARGE, 1])
    assert "not kept locally" in caplog.text


def test_a_damaged_near_copy_is_read_from_afar(tiers):
    near, far = tiers
    entry = publish(far, 1, LARGE)
    TieredStore(near, far).load(entry)
    file = near.storage.local_root / blob_path(entry.blob)
    file.write_bytes(file.read_bytes()[:-5])
    assert same(TieredStore(again(near), far).load(entry), LARGE)


# ---- streaming


def test_a_large_table_is_read_in_batches(store, monkeypatch):
    monkeypatch.setattr("daskflow.results.files.ROW_GROUP_BYTES", 100_000)
    entry = publish(store, 1, pd.DataFrame({"a": LARGE}))
    sizes = [len(batch) for batch in store.batches(entry, rows=10_000)]
    assert sum(sizes) == len(LARGE)
    assert max(sizes) <= 10_000
    small = publish(store, 2, pd.DataFrame({"a": [1, 2]}))
    assert [b.to_pydict() for b in store.batches(small)] == [{"a": [1, 2]}]
