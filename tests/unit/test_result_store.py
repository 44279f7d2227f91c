"""The result store on a folder and in memory: publish, find, load, replace, expire, remove."""

from __future__ import annotations

import logging
import pickle
import stat
import uuid

import cloudpickle
import numpy as np
import pandas as pd
import pytest

from daskflow.caching.secret import SECRET_VARIABLE
from daskflow.caching.store import ResultStore
from daskflow.caching.store_layout import blob_path, index_path
from daskflow.errors import PickleRefused, ResultGone, StoreError, StoreVersionError, UsageError
from tests.unit.result_stores import NOW, key, new, publish
from tests.unit.sameness import same

LARGE = np.arange(50_000.0)


@pytest.fixture(params=["file", "memory"])
def url(request, tmp_path):
    if request.param == "memory":
        return f"memory://{uuid.uuid4().hex}/cache"
    return f"file://{tmp_path}/cache"


@pytest.fixture
def store(url):
    return ResultStore(url)


def again(store):
    """Return another run's view of the same store."""
    return ResultStore(store.storage.url)


def value_of(store, name):
    entry = again(store).lookup([key(name)]).get(key(name))
    return None if entry is None else again(store).load(entry)


def test_a_key_that_nobody_published_is_a_miss(store):
    assert store.lookup([key(1), key(2)]) == {}
    assert list(store.entries()) == []


@pytest.mark.parametrize(
    "value",
    [
        pytest.param({"loss": 0.25, "at": (1, 2)}, id="small"),
        pytest.param(None, id="none"),
        pytest.param(LARGE, id="large-array"),
        pytest.param(pd.DataFrame({"a": LARGE}), id="large-frame"),
        pytest.param(pd.DataFrame({"a": [1]}), id="small-frame"),
        pytest.param(["x" * 100] * 1000, id="large-json"),
        pytest.param({"model": object, "data": LARGE}, id="large-tree"),
    ],
)
def test_a_result_is_found_and_loaded_by_another_run(store, value):
    entry = publish(store, 1, value, expires_unix=4e9)
    (found,) = again(store).lookup([key(1)]).values()
    assert found == entry
    assert (found.task, found.duration_s, found.created_unix) == ("clean", 0.5, NOW)
    assert found.parts == new(1, value).parts
    assert found.content_digest == new(1, value).content_digest
    assert same(again(store).load(found), value)


def test_a_small_result_rides_in_its_row_and_a_large_one_in_a_blob(store):
    small, large = publish(store, 1, [1]), publish(store, 2, LARGE)
    assert (small.blob, small.payload) == (None, b"[1]")
    assert large.payload is None
    assert store.storage.info(blob_path(large.blob)).size_bytes == large.size_bytes


def test_an_entry_travels_and_is_loaded_elsewhere(store):
    for name, value in (("small", {"a": 1}), ("large", LARGE)):
        entry = publish(store, name, value)
        sent = pickle.loads(pickle.dumps((store, entry)))
        assert same(sent[0].load(sent[1]), value)
        assert same(sent[0].load(entry.without_payload()), value)


def test_changing_a_hit_changes_no_later_hit(store):
    publish(store, 1, pd.DataFrame({"a": [1.0, 2.0]}))
    entry = store.lookup([key(1)])[key(1)]
    first = store.load(entry)
    first.iloc[0, 0] = 9.0
    assert store.load(entry)["a"].tolist() == [1.0, 2.0]


def test_equal_blobs_are_kept_once(store):
    first, second = publish(store, 1, LARGE), publish(store, 2, LARGE)
    assert first.blob == second.blob
    assert len(store.storage.list("blobs")) == 1


def test_the_second_writer_of_a_key_adopts_the_record_of_the_first(store, caplog):
    first = publish(store, 1, "a", created_unix=NOW)
    with caplog.at_level(logging.WARNING):
        assert publish(again(store), 1, "a", created_unix=NOW + 5) == first
        assert caplog.records == []
        assert publish(again(store), 1, "b") == first
    assert "not deterministic" in caplog.text
    assert value_of(store, 1) == "a"


def test_a_refreshed_result_takes_the_place_of_the_first(store):
    publish(store, 1, "a")
    store.publish_many([new(2, "a"), new(3, "a")])
    for name in (1, 2):
        publish(store, name, "b", replace=True)
        assert value_of(store, name) == "b"
    assert value_of(store, 3) == "a"


def test_an_expired_entry_is_a_miss_and_is_replaced(store):
    publish(store, 1, "old", expires_unix=NOW)
    assert value_of(store, 1) is None
    publish(store, 1, "new")
    assert value_of(store, 1) == "new"


def test_misses_are_remembered_until_the_run_forgets_them(store):
    assert store.lookup([key(1)]) == {}
    publish(again(store), 1, "a")
    assert store.lookup([key(1)]) == {}
    store.forget()
    assert key(1) in store.lookup([key(1)])


def test_a_run_finds_what_it_published_itself_after_a_miss(store):
    assert store.lookup([key(1), key(2), key(3)]) == {}
    publish(store, 1, "a")
    store.publish_many([new(2, "b"), new(3, "c")])
    assert len(store.lookup([key(1), key(2), key(3)])) == 3


def test_a_removed_entry_is_a_miss(store):
    publish(store, 1, "a")
    store.publish_many([new(2, "b"), new(3, "c")])
    assert store.remove([key(1), key(2), key(99)]) == 2
    assert [value_of(store, name) for name in (1, 2, 3)] == [None, None, "c"]


def test_an_entry_whose_blob_is_gone_is_gone(store):
    entry = publish(store, 1, LARGE)
    store.storage.delete([blob_path(entry.blob)])
    with pytest.raises(ResultGone, match="is gone"):
        store.load(entry)
    assert store.lookup([key(1)]) == {}
    store.publish_many([new(1, LARGE, replace=True)])
    assert same(value_of(store, 1), LARGE)


# ---- packs


def test_many_tiny_results_share_one_file(store):
    results = [new(i, i) for i in range(300)]
    entries = store.publish_many([*results, new("large", LARGE)])
    assert len(store.storage.list("packs")) == 1
    assert len(store.storage.list("index")) == 1
    found = again(store).lookup(r.key for r in results)
    assert [found[r.key] for r in results] == entries[:-1]
    assert [store.load(found[r.key]) for r in results] == list(range(300))
    assert same(value_of(store, "large"), LARGE)


def test_one_result_of_a_batch_gets_a_row_of_its_own(store):
    (entry,) = store.publish_many([new(1, 1)])
    assert entry.pack is None
    assert store.publish_many([]) == []


def test_of_two_packs_the_one_written_first_wins(store, monkeypatch):
    for at, value in ((2.0, "second"), (1.0, "first")):
        monkeypatch.setattr("time.time", lambda at=at: at)
        again(store).publish_many([new(1, value), new(2, value)])
    assert value_of(store, 1) == "first"


def test_a_packed_result_can_be_loaded_without_its_payload(store):
    first, _ = store.publish_many([new(1, "a"), new(2, "b")])
    assert again(store).load(first.without_payload()) == "a"


# ---- damage


def flip(storage, path, at, bit):
    data = bytearray(storage.read(path))
    data[at % len(data)] ^= 1 << bit
    storage.replace(path, bytes(data))


@pytest.mark.parametrize("kind", ["row", "pack", "blob"])
def test_a_flipped_bit_is_a_miss_with_a_warning_and_a_file_in_quarantine(store, kind, caplog):
    entry = publish(store, 1, LARGE if kind == "blob" else "a")
    if kind == "pack":
        store.remove([key(1)])
        (entry, _) = store.publish_many([new(1, "a"), new(2, "b")])
    path = {"row": index_path(key(1)), "pack": entry.pack, "blob": blob_path(entry.blob or "0" * 8)}
    flip(store.storage, path[kind], at=-300, bit=3)
    later = again(store)
    with caplog.at_level(logging.WARNING):
        found = later.lookup([key(1)])
        if kind == "blob":
            with pytest.raises(ResultGone, match="damaged"):
                later.load(found[key(1)])
            found = later.lookup([key(1)])
    assert found == {}
    assert "quarantine" in caplog.text
    (moved,) = store.storage.list("quarantine")
    assert moved.path.startswith(f"quarantine/{path[kind].replace('/', '-')}")


def test_an_entry_of_another_format_version_is_a_plain_miss(store, monkeypatch, caplog):
    monkeypatch.setattr("daskflow.caching.index.FORMAT", 1)
    publish(store, 1, "a")
    monkeypatch.undo()
    assert value_of(store, 1) is None
    assert caplog.records == []
    publish(again(store), 1, "b")
    assert value_of(store, 1) == "b"


def test_a_row_under_another_key_is_no_hit(store):
    publish(store, 1, "a")
    store.storage.create(index_path(key(2)), store.storage.read(index_path(key(1))))
    assert again(store).lookup([key(2)]) == {}


def test_a_blob_that_lost_power_cut_short_is_written_again_by_who_makes_it_again(tmp_path):
    store = ResultStore(str(tmp_path))
    entry = publish(store, 1, LARGE)
    path = tmp_path / blob_path(entry.blob)
    path.write_bytes(path.read_bytes()[: entry.size_bytes // 2])
    assert publish(again(store), 2, LARGE, content_digest=entry.content_digest).blob == entry.blob
    assert same(value_of(store, 1), LARGE)


def test_only_what_no_checksum_covers_is_synced(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr("os.fsync", synced.append)
    store = ResultStore(str(tmp_path))
    publish(store, 1, LARGE)
    store.publish_many([new(i, i) for i in range(2, 9)])
    publish(store, 1, LARGE, replace=True)
    assert len(synced) == 1  # the format file


def test_equal_bytes_of_other_contents_are_other_blobs(store):
    """A quick checksum alone can be forged; with it goes the digest of what was returned."""
    one, other = (publish(store, n, LARGE, content_digest=key(("content", n))) for n in (1, 2))
    assert one.blob != other.blob


def test_in_a_whole_pack_a_secret_still_tells_who_wrote_a_row(url):
    ours = ResultStore(url, secret=b"s3cret")
    theirs = ResultStore(f"{url}-other", secret=b"another")
    forged = [theirs.prepare(new(n, n)) for n in (1, 2)]
    publish(ours, 3, "mine")
    ours.packs.publish(forged, NOW)
    assert list(ResultStore(url, secret=b"s3cret").lookup([key(n) for n in (1, 2, 3)])) == [key(3)]


def test_parts_of_a_key_are_read_when_they_are_asked_for(store):
    entry = publish(store, 1, "a")
    found = again(store).lookup([key(1)])[key(1)]
    assert found.parts == entry.parts == {"arg:x": key(1), "code": key("code")}
    assert (len(found.parts), found.parts["code"]) == (2, key("code"))
    assert pickle.loads(pickle.dumps(found)) == found


# ---- the format file


def test_the_format_is_written_with_the_first_result(store):
    store.lookup([key(1)])
    assert store.storage.read("_format.json") is None
    publish(store, 1, "a")
    assert b'"format": 2' in store.storage.read("_format.json")


def test_a_store_of_a_newer_format_is_refused_with_what_to_do(store):
    store.storage.create("_format.json", b'{"format": 3, "hash": "sha256"}')
    with pytest.raises(StoreVersionError, match="upgrade daskflow or name another storage"):
        store.lookup([key(1)])


def test_a_store_of_another_hash_is_refused(url):
    publish(ResultStore(url, hash_algorithm="blake3"), 1, "a")
    said = "made with hash 'blake3', not 'sha256'; set results.hash_algorithm = 'blake3'"
    with pytest.raises(StoreError, match=said):
        ResultStore(url).lookup([key(1)])


def test_a_folder_with_a_foreign_format_file_is_refused(store):
    store.storage.create("_format.json", b"[]")
    with pytest.raises(StoreError, match="not one of daskflow"):
        publish(store, 1, "a")


@pytest.mark.parametrize("bad", ["../../etc/passwd", "ABCDEF012345", "", "12", "a" * 129, 5])
def test_a_key_that_is_no_digest_never_becomes_a_path(store, bad):
    with pytest.raises(UsageError, match="lower-case hex"):
        store.lookup([bad])
    with pytest.raises(UsageError, match="lower-case hex"):
        store.publish_many([new(1, 1)._replace(key=bad)])


def test_local_folders_are_for_this_user_only(tmp_path):
    publish(ResultStore(str(tmp_path / "a" / "cache")), 1, LARGE)
    folders = [tmp_path / "a", *(p for p in (tmp_path / "a").rglob("*") if p.is_dir())]
    assert {stat.S_IMODE(p.stat().st_mode) for p in folders} == {0o700}


# ---- secrets and pickle


class Evil:
    """Unpickling it leaves a mark."""

    def __reduce__(self):
        return (setattr, (Marked, "mark", True))


class Marked:
    mark = False


@pytest.fixture
def unmarked():
    Marked.mark = False
    yield Marked
    Marked.mark = False


def test_with_a_secret_an_entry_that_others_wrote_is_a_miss_and_never_unpickled(
    url, unmarked, caplog
):
    publish(ResultStore(url), 1, Evil())
    publish(ResultStore(url), 2, "plain")
    ours = ResultStore(url, secret=b"s3cret")
    assert ours.lookup([key(1), key(2)]) == {}
    assert "not sealed with this store's secret" in caplog.text
    assert not unmarked.mark
    publish(ours, 1, "mine")
    assert ours.load(ours.lookup([key(1)])[key(1)]) == "mine"


def test_an_entry_made_by_hand_is_not_loaded(url, unmarked):
    ours = ResultStore(url, secret=b"s3cret")
    entry = publish(ResultStore(f"{url}-other"), 1, Evil())
    with pytest.raises(ResultGone, match="no seal of this store"):
        ours.load(entry)
    assert not unmarked.mark


def test_a_store_with_a_secret_cannot_be_used_without_it(url):
    publish(ResultStore(url, secret=b"s3cret"), 1, "a")
    with pytest.raises(StoreError, match="no secret is set"):
        ResultStore(url).lookup([key(1)])
    with pytest.raises(StoreError, match="is another one"):
        ResultStore(url, secret=b"other").lookup([key(1)])


def test_a_secret_never_travels(url, monkeypatch):
    store = ResultStore(url, secret=b"s3cret-of-mine")
    publish(store, 1, "a")
    for dumps in (pickle.dumps, cloudpickle.dumps):
        sent = dumps(store)
        assert b"s3cret" not in sent
        with pytest.raises(UsageError, match=f"{SECRET_VARIABLE} is not set"):
            pickle.loads(sent)
    assert "s3cret" not in repr(store) + repr(store.sealer)
    monkeypatch.setenv(SECRET_VARIABLE, "s3cret-of-mine")
    assert pickle.loads(sent).lookup([key(1)])
    assert b"s3cret" not in (store.storage.read("_format.json") or b"")


def test_without_pickle_nothing_is_written_or_read_by_it(url, unmarked):
    strict = ResultStore(url, allow_pickle=False)
    with pytest.raises(PickleRefused):
        publish(strict, 1, Evil())
    entry = publish(ResultStore(url), 1, Evil())
    assert strict.lookup([key(1)]) == {}
    with pytest.raises(PickleRefused):
        strict.load(entry)
    assert not unmarked.mark
