"""A storage that hangs, is slow, is gone or full: right values, no failed run, and an end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from daskflow import INPUTS, flow, task
from daskflow.caching.store import ResultStore
from daskflow.config import reset_settings
from daskflow.errors import StoreError
from daskflow.results.breaker import forget_failures
from tests.unit.result_stores import key, publish

pytestmark = pytest.mark.chaos
ROOT = Path(__file__).resolve().parents[2]
LONG_S = 60.0  # what nothing here may take, however busy the machine is


@pytest.fixture
def url(s3_of_its_own):
    return f"s3://{s3_of_its_own.new_bucket()}/results"


@pytest.fixture
def runs(url, told, monkeypatch):
    """A flow of cached runs on that storage."""
    monkeypatch.setenv("DASKFLOW_RESULTS__STORAGE", url)
    reset_settings()

    @task(cache_policy=INPUTS)
    def small(x):
        told(f"small{x}")
        return {"x": x}

    @task(cache_policy=INPUTS)
    def large(x):
        told("large")
        return np.full(50_000, x["x"])

    @flow(task_runner="threads")
    def runs():
        found = small.map(range(3)).result()
        return found, int(large.submit(found[2]).result().sum())

    return runs


EXPECTED = ([{"x": 0}, {"x": 1}, {"x": 2}], 100_000)
ALL = ["large", "small0", "small1", "small2"]


@pytest.mark.parametrize("fault", ["hangs", "gone", "slower-than-the-limit"])
def test_a_flow_goes_on_without_a_storage_that_gives_no_answer(
    s3_of_its_own, runs, told, caplog, limit, fault
):
    assert runs() == EXPECTED
    assert told.take() == ALL
    if fault == "hangs":
        s3_of_its_own.stop()
    elif fault == "gone":
        s3_of_its_own.close()
    else:
        s3_of_its_own.answer_after(30.0)
    limit(1.0)
    began = time.monotonic()
    with caplog.at_level("WARNING", logger="daskflow"):
        assert runs() == EXPECTED
    assert told.take() == ALL
    assert time.monotonic() - began < LONG_S
    warned = [r.getMessage() for r in caplog.records if r.name.startswith("daskflow")]
    assert len(warned) == len(set(warned)) <= 2, warned  # the flow's look-ups, and its workers
    assert "everything is executed" in warned[0]
    s3_of_its_own.requests()
    assert runs() == EXPECTED  # left alone: nothing is asked, and nothing waited for
    assert s3_of_its_own.requests() == []
    if fault == "hangs":
        told.take()
        limit(30.0)
        s3_of_its_own.go_on()
        forget_failures()
        assert runs() == EXPECTED
        assert told.take() == []


def test_a_slow_storage_is_waited_for(s3_of_its_own, runs, told):
    assert runs() == EXPECTED
    told.take()
    s3_of_its_own.answer_after(0.05)
    assert runs() == EXPECTED
    assert told.take() == []


def test_requests_of_a_store_end_within_its_limit_and_then_cost_nothing(s3_of_its_own, url):
    store = ResultStore(url)
    publish(store, 1, "a")
    entry = publish(store, 2, np.arange(20_000))
    s3_of_its_own.stop()
    began = time.monotonic()
    with pytest.raises(StoreError, match=r"cannot read .*no answer in time"):
        ResultStore(url, timeout_s=0.5).lookup([key(1)])
    assert time.monotonic() - began < LONG_S
    calls = (
        lambda: store.load(entry),
        lambda: publish(store, 3, "c"),
        lambda: store.gc(),
        lambda: store.remove([key(1)]),
        lambda: ResultStore(url).stats(),
    )
    for call in calls:
        with pytest.raises(StoreError, match=r"gave no answer .* left alone for \d+ s more"):
            call()
    s3_of_its_own.go_on()
    forget_failures()
    again = ResultStore(url)
    assert again.load(again.lookup([key(1)])[key(1)]) == "a"
    assert key(3) not in again.lookup([key(3)])


# ---- full disks


def run_on_full_disk(folder, command):
    done = subprocess.run(
        [*command, sys.executable, "-m", "tests.chaos.full_disk", str(folder)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "DASKFLOW_HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_disk_that_is_really_full_costs_the_cache_only(tmp_path):
    """On a tmpfs of 1 MB in a mount namespace of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = f'mount -t tmpfs -o size=1m tmpfs {disk} && exec "$@"'
    namespace = ["unshare", "-Urm", "sh", "-c", mounted, "sh"]
    try:
        tried = subprocess.run([*namespace, "true"], capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("no unshare on this machine")
    if tried.returncode:
        pytest.skip(f"no mount namespace for this user: {tried.stderr.decode().strip()}")
    said = run_on_full_disk(disk, namespace)
    check_full_disk(said)
    assert "the storage is full" in said["error"]


def test_a_disk_that_takes_nothing_more_costs_the_cache_only(tmp_path):
    """Writes fail with ENOSPC over real files, on any machine."""
    said = run_on_full_disk(tmp_path, ["env", "DASKFLOW_TEST_FULL_AFTER=1000000"])
    check_full_disk(said)
    assert "the storage is full" in said["error"]


def check_full_disk(said):
    assert said["values"] == [True] * 8
    assert said["again"] == [True] * 8
    assert 1 <= said["executed_again"] < 8  # what fitted is found
    assert said["left"] == []
    assert said["damaged"] == 0
    assert said["warnings"] == 1
    assert said["freed"] > 0
    assert said["after_gc"]
