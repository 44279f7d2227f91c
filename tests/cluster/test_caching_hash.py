"""The hash algorithm of results: chosen for new stores, kept by existing ones, one anywhere."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import pytest

from daskflow import flow, task
from daskflow.caching import hash_buffers
from daskflow.caching.hashing import content_digest
from daskflow.caching.store import ResultStore
from daskflow.config import get_settings, reset_settings
from daskflow.errors import ClusterError, UsageError
from daskflow.runner.store import open_store as open_record
from tests.cluster.told import Told
from tests.foreign import ForeignCluster


@pytest.fixture
def told(tmp_path):
    return Told(tmp_path / "told")


@pytest.fixture
def algorithm(monkeypatch):
    """Set `results.hash_algorithm`."""

    def choose(name: str) -> None:
        monkeypatch.setenv("DASKFLOW_RESULTS__HASH_ALGORITHM", name)
        reset_settings()

    return choose


def made_with(url: str) -> str:
    return json.loads((Path(url) / "_format.json").read_text())["hash"]


def entries(url: str) -> dict[str, object]:
    store = ResultStore(url, hash_algorithm=made_with(url))
    return {entry.task: entry for entry in store.entries()}


def warnings_of(caplog, text: str = "was made with hash") -> list[str]:
    return [each.getMessage() for each in caplog.records if text in each.getMessage()]


def cached(name="@last") -> set[str]:
    with open_record(get_settings().store.url) as store:
        flow_run = store.find_flow_run(name)
        return {row.state for row in store.task_runs(flow_run.flow_run_id)}


def test_a_rerun_with_blake3_executes_nothing(where, told, algorithm):
    @task(persist_result=True)
    def double(x):
        told(f"double-{x}")
        return 2 * x

    @task(persist_result=True)
    def load(x):
        told(f"load-{x}")
        return [x] * double(x)  # a task that is called in a task

    @task(persist_result=True)
    def total(parts, large):
        told("total")
        return sum(map(sum, parts)) + len(large)

    @flow(task_runner=where)
    def sums():
        return total.submit([load.submit(1), load.submit(2)], bytes(200_000)).result()

    algorithm("blake3")
    bodies = ["double-1", "double-2", "load-1", "load-2", "total"]
    assert (sums(), told.take()) == (200_010, bodies)
    assert (sums(), told.take()) == (200_010, [])
    assert cached() == {"Cached"}
    url = get_settings().results.storage
    assert made_with(url) == "blake3"
    found = entries(url)
    assert set(found) == {"double", "load", "total"}
    blake3 = content_digest(200_010, algorithm="blake3")
    assert found["total"].content_digest == blake3 != content_digest(200_010)
    large = content_digest(bytes(200_000), algorithm="blake3")
    assert found["total"].parts["input large"] == large


@pytest.mark.parametrize("where", ["processes", "sync"], indirect=True)
def test_a_store_keeps_the_hash_that_it_was_made_with(where, told, algorithm, caplog):
    @task(persist_result=True)
    def double(x):
        told(f"double-{x}")
        return 2 * x

    @flow(task_runner=where)
    def twice(x):
        return double.submit(double.submit(x)).result()

    caplog.set_level(logging.WARNING)
    for made, setting in (("blake3", "sha256"), ("sha256", "blake3")):
        url = f"{get_settings().results.storage}-{made}"
        there = twice.with_options(result_storage=url)
        algorithm(made)
        assert (there(1), told.take()) == (4, ["double-1", "double-2"])
        assert warnings_of(caplog) == []
        algorithm(setting)
        assert (there(1), told.take()) == (4, [])
        assert (there(2), told.take()) == (8, ["double-4"])
        assert made_with(url) == made
        assert warnings_of(caplog) == [
            f"the result store {url!r} was made with hash {made}, and results.hash_algorithm is "
            f"{setting}: {made} is used there; set results.hash_algorithm = {made!r}, or name "
            "another storage for new results"
        ]
        caplog.clear()


def test_results_of_a_store_with_another_hash_are_inputs_all_the_same(
    where, told, algorithm, tmp_path
):
    other = str(tmp_path / "other")
    ResultStore(other).publish(
        "ab" * 32, 1, content_digest="cd" * 32, task="t", parts={}, created_unix=0.0
    )

    @task(persist_result=True)
    def load(x):
        told("load")
        return [x] * 50_000

    @task(persist_result=True, result_storage=other)
    def total(numbers, more):
        told("total")
        return sum(numbers) + len(more)

    @flow(task_runner=where)
    def sums():
        numbers = load.submit(3)
        return total.submit(numbers, [numbers]).result()

    algorithm("blake3")
    assert (sums(), told.take()) == (150_001, ["load", "total"])
    assert (sums(), told.take()) == (150_001, [])
    found = entries(other)["total"]
    assert found.parts["input numbers"] == content_digest([3] * 50_000)
    assert found.content_digest == content_digest(150_001)


@pytest.fixture
def no_blake3(monkeypatch):
    """This process cannot import blake3."""
    monkeypatch.setitem(sys.modules, "blake3", None)
    monkeypatch.delitem(hash_buffers._ready, "blake3", raising=False)


def test_what_to_install_is_told_before_anything_runs(told, algorithm, no_blake3):
    @task(persist_result=True)
    def double(x):
        told("ran")
        return 2 * x

    @flow(task_runner="sync")
    def twice():
        return double.submit(1).result()

    algorithm("blake3")
    with pytest.raises(UsageError, match=r"run `pip install 'daskflow\[blake3\]'`, here and on"):
        twice()
    assert told.take() == []


def test_a_store_whose_hash_is_not_installed_fails_no_run(told, request, algorithm, caplog):
    @task(cache_expiration=60)
    def double(x):
        told("ran")
        return 2 * x

    @flow(task_runner="sync")
    def twice():
        return double.submit(1).result()

    algorithm("blake3")
    assert (twice(), told.take()) == (2, ["ran"])
    algorithm("sha256")
    request.getfixturevalue("no_blake3")
    caplog.set_level(logging.WARNING)
    assert (twice(), told.take()) == (2, ["ran"])
    said = (
        "set results.hash_algorithm = 'blake3' (it needs daskflow[blake3]), or name another storage"
    )
    assert said in caplog.text


def test_workers_without_blake3_are_told_of_before_the_first_task(
    tmp_path, told, algorithm, caplog
):
    @task(cache_expiration=60)
    def may(x):
        told("may")
        return 2 * x

    @task(persist_result=True)
    def must(x):
        told("must")
        return 2 * x

    (tmp_path / "without.py").write_text("import sys\nsys.modules['blake3'] = None\n")
    algorithm("blake3")
    cluster = ForeignCluster(tmp_path, n_workers=0)
    try:
        cluster.add_worker("--preload", str(tmp_path / "without.py"))

        @flow(task_runner=cluster.address)
        def runs(what):
            return [what.submit(x).result() for x in (1, 2)]

        with caplog.at_level(logging.WARNING, "daskflow.flow_runs"):
            assert runs(may) == [2, 4]
        [warning] = warnings_of(caplog, "lacks blake3")
        assert "what runs there is not cached, such as task may; run `pip install" in warning
        assert told.take() == ["may", "may"]
        with pytest.raises(ClusterError, match=r"worker tcp://\S+ lacks blake3, with which"):
            runs(must)
        assert told.take() == []
    finally:
        cluster.close()
