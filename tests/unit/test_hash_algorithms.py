"""Hash algorithms: digests that never meet, the choice of one, what is said without a package."""

from __future__ import annotations

import logging
import sys
from typing import get_args

import numpy as np
import pytest

from daskflow.caching import hash_buffers
from daskflow.caching.hash_objects import new_writer
from daskflow.caching.hashing import content_digest
from daskflow.caching.store import ResultStore
from daskflow.caching.store_format import FORMAT_FILE, StoreFormat, algorithm_of_store
from daskflow.config_plain import HashAlgorithm
from daskflow.errors import StoreError, UsageError
from daskflow.results.storage import Storage
from daskflow.results.storage_options import StorageOptions
from daskflow.runner import hash_choice
from daskflow.runner.hash_choice import chosen_algorithm, is_here, refuse_missing

BOTH = ("sha256", "blake3")
VALUES = [1, True, 1.0, "1", b"1", 0.0, -0.0, None, [1], "a" * 65, b"a" * 65, 1 << 999]


@pytest.fixture
def no_blake3(monkeypatch):
    """This process cannot import blake3."""
    monkeypatch.setitem(sys.modules, "blake3", None)
    monkeypatch.delitem(hash_buffers._ready, "blake3", raising=False)


def choose(url, setting, run="f"):
    return chosen_algorithm(run, str(url), StorageOptions(), 30.0, setting)


def make(url, algorithm):
    Storage(str(url)).create(FORMAT_FILE, StoreFormat(2, algorithm, None).to_bytes())


def test_the_setting_takes_what_there_is():
    assert get_args(HashAlgorithm) == tuple(hash_buffers.ALGORITHMS)


def test_an_unknown_algorithm_is_named():
    with pytest.raises(UsageError, match="no hash algorithm 'md4'; have sha256, blake3"):
        content_digest([1], algorithm="md4")


def test_digests_of_two_algorithms_never_meet():
    found = {content_digest(value, algorithm=each) for value in VALUES for each in BOTH}
    assert len(found) == 2 * len(VALUES)


@pytest.mark.parametrize("value", VALUES)
def test_the_short_way_of_atoms_ends_where_the_long_one_does(value):
    writer = new_writer("blake3")
    writer.put(value)
    assert content_digest(value, algorithm="blake3") == writer.digest(b"daskflow content 1\0").hex()


def test_the_digest_of_a_large_buffer_does_not_depend_on_threads():
    large = np.arange(1_000_000)
    one, two = (content_digest(large, algorithm="blake3", threads=count) for count in (1, 2))
    assert one == two != content_digest(large)


def test_a_new_store_gets_what_the_settings_say(tmp_path, caplog):
    assert algorithm_of_store(Storage(str(tmp_path))) is None
    assert [choose(tmp_path, each) for each in BOTH] == list(BOTH)
    assert caplog.records == []


def test_a_store_decides_for_itself_and_a_setting_that_differs_is_told_once(tmp_path, caplog):
    make(tmp_path, "blake3")
    assert algorithm_of_store(Storage(str(tmp_path))) == "blake3"
    with caplog.at_level(logging.WARNING):
        assert [choose(tmp_path, "sha256", run) for run in "abb"] == ["blake3"] * 3
        assert choose(tmp_path, "blake3") == "blake3"
    [told] = caplog.records
    assert "was made with hash blake3, and results.hash_algorithm is sha256" in told.getMessage()


def test_one_answer_holds_for_a_flow_run(tmp_path):
    assert choose(tmp_path, "sha256") == "sha256"
    make(tmp_path, "blake3")
    assert choose(tmp_path, "sha256") == "sha256"
    assert choose(tmp_path, "sha256", "another") == "blake3"


def test_a_storage_that_cannot_be_asked_is_told_by_who_opens_it():
    assert choose("nope://x", "blake3") == "blake3"


@pytest.mark.parametrize(("setting", "asked"), [("sha256", False), ("blake3", True)])
def test_storage_far_away_is_asked_only_with_another_setting_than_the_usual(
    setting, asked, monkeypatch
):
    urls = []

    def found(run, url, *how):
        urls.append(url)

    with monkeypatch.context() as patched:
        patched.setattr(hash_choice, "_found", found)
        assert choose("s3://bucket/results", setting) == setting
    assert urls == ["s3://bucket/results"] * asked


def test_a_store_whose_hash_is_not_here_is_left_to_the_check_of_its_format(tmp_path, no_blake3):
    make(tmp_path, "blake3")
    assert choose(tmp_path, "sha256") == "sha256"
    with pytest.raises(StoreError, match=r"'blake3' \(it needs daskflow\[blake3\]\)"):
        ResultStore(str(tmp_path)).lookup(["ab" * 32])


def test_a_hash_that_this_daskflow_does_not_know_says_to_upgrade(tmp_path):
    make(tmp_path, "k12")
    assert choose(tmp_path, "sha256") == "sha256"
    with pytest.raises(StoreError, match="'k12', not 'sha256'; upgrade daskflow, or name another"):
        ResultStore(str(tmp_path)).lookup(["ab" * 32])


def test_a_setting_without_its_package_says_what_to_install(no_blake3):
    assert [is_here(name) for name in ("sha256", "blake3", "md4")] == [True, False, False]
    refuse_missing("sha256")
    with pytest.raises(UsageError, match=r"`pip install 'daskflow\[blake3\]'`, here and on every"):
        refuse_missing("blake3")


@pytest.fixture(autouse=True)
def _nothing_told(monkeypatch):
    monkeypatch.setattr(hash_choice, "_told", set())
    hash_choice._found.cache_clear()
