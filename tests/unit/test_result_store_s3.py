"""The result store on a real S3 server: the same promises, and as few requests as promised."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from daskflow.caching.store import ResultStore
from daskflow.caching.store_tiers import TieredStore
from tests.unit.result_stores import NOW, key, new, publish
from tests.unit.sameness import same

LARGE = np.arange(50_000.0)


@pytest.fixture
def url(s3_server, monkeypatch):
    s3_server.use(monkeypatch)
    return f"s3://{s3_server.new_bucket()}/team/cache"


@pytest.fixture
def requests(s3_server):
    """Return what was asked of the server since the last call, by verb."""

    def since():
        counts: dict[str, int] = {}
        for line in s3_server.requests():
            counts[line.split()[0]] = counts.get(line.split()[0], 0) + 1
        return counts

    since()
    return since


def warm(url):
    """Return a store of a run that has read the format file and the list of packs."""
    store = ResultStore(url)
    store.lookup([key("nobody")])
    return store


def test_a_small_hit_is_one_request(url, requests):
    publish(ResultStore(url), 1, {"loss": 0.5})
    store = warm(url)
    requests()
    entry = store.lookup([key(1)])[key(1)]
    assert store.load(entry) == {"loss": 0.5}
    assert requests() == {"GET": 1}


def test_a_remembered_miss_is_no_request(url, requests):
    store = warm(url)
    store.lookup([key(1)])
    requests()
    assert store.lookup([key(1), key("nobody")]) == {}
    assert requests() == {}


def test_a_small_result_is_published_in_one_request(url, requests):
    store = ResultStore(url)
    publish(store, 0, 0)
    requests()
    publish(store, 1, 1)
    assert requests() == {"PUT": 1}


def test_many_keys_are_found_by_listing_not_by_asking(url, requests):
    writer = ResultStore(url)
    for name in range(20):
        publish(writer, name, name)
    store = warm(url)
    requests()
    found = store.lookup(key(name) for name in range(1000))
    assert {store.load(entry) for entry in found.values()} == set(range(20))
    counted = requests()
    # one list of a prefix to learn how full the index is, one of everything, a get for each hit
    assert counted == {"LIST": 2, "GET": 20}


def test_a_thousand_tiny_results_are_one_object(url, requests):
    writer = ResultStore(url)
    publish(writer, "x", 0)
    requests()
    writer.publish_many([new(name, name) for name in range(1000)])
    assert requests() == {"PUT": 1}
    store = ResultStore(url)
    found = store.lookup(key(name) for name in range(1000))
    assert [store.load(found[key(name)]) for name in range(1000)] == list(range(1000))
    assert requests() == {"GET": 2, "LIST": 1}  # the format file and the pack


def test_large_results_blobs_and_races_work_as_on_a_folder(url):
    store, other = ResultStore(url), ResultStore(url)
    entry = publish(store, 1, LARGE)
    assert publish(other, 1, LARGE, created_unix=NOW + 9) == entry
    assert same(other.load(other.lookup([key(1)])[key(1)]), LARGE)
    publish(other, 1, "refreshed", replace=True)
    assert ResultStore(url).load(ResultStore(url).lookup([key(1)])[key(1)]) == "refreshed"
    report = store.gc(grace_s=0.0, now=NOW + 1e9)
    assert (report.blobs, len(report.entries), report.kept_entries) == (1, 0, 1)
    assert store.storage.list("blobs") == []


def test_a_damaged_object_is_moved_to_quarantine(url):
    store = ResultStore(url)
    publish(store, 1, "a")
    path = f"index/{key(1)[:2]}/{key(1)}.parquet"
    store.storage.replace(path, store.storage.read(path)[:-40])
    assert ResultStore(url).lookup([key(1)]) == {}
    assert [i.path.split("/")[0] for i in store.storage.list("")] == ["_format.json", "quarantine"]


def test_a_local_tier_answers_what_it_has_seen_without_a_request(url, tmp_path, requests):
    publish(ResultStore(url), "small", 1)
    publish(ResultStore(url), "large", LARGE)
    keys = [key("small"), key("large")]

    def run():
        store = TieredStore(ResultStore(str(tmp_path / "near")), ResultStore(url))
        found = store.lookup(keys)
        return [store.load(found[k]) for k in keys]

    first = run()
    assert same(first, [1, LARGE])
    requests()
    assert same(run(), first)
    assert requests() == {}


def test_another_process_reads_and_writes_the_same_store(url):
    publish(ResultStore(url), 1, [1, 2])
    program = (
        "import sys\n"
        "from daskflow.caching.store import ResultStore\n"
        "from tests.unit.result_stores import key, publish\n"
        "store = ResultStore(sys.argv[1])\n"
        "print(store.load(store.lookup([key(1)])[key(1)]))\n"
        "publish(store, 2, 'from there')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, url],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
    )
    assert done.stdout == "[1, 2]\n"
    store = ResultStore(url)
    assert store.load(store.lookup([key(2)])[key(2)]) == "from there"
