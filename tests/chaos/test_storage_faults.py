"""Flows whose result storage is full, unreachable or fails now and then: Failed, with the path."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from daskflow import DaskTaskRunner, flow, task
from daskflow.errors import StoreError
from daskflow.results.breaker import forget_failures
from tests.chaos import faulty_files

pytestmark = pytest.mark.chaos
ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount"]


def namespaces_are_refused() -> bool:
    if shutil.which("unshare") is None:
        return True
    tried = subprocess.run([*NAMESPACE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], check=False)
    return tried.returncode != 0


@task(persist_result=True)
def blob(size):
    return os.urandom(size)


def test_a_disk_that_is_really_full_fails_runs_and_serves_again(tmp_path, home):
    if namespaces_are_refused():
        pytest.skip("this machine gives no user namespace, so no small disk to fill")
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(
        [*NAMESPACE, sys.executable, "-m", "tests.chaos.full_disk_flow", str(disk)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    [first, second, third] = said["full"]
    assert (first, third) == (["Completed", 10_000], ["Completed", 10_001])
    assert second[0] == "Failed"
    assert f"cannot write '{disk}/results/blobs'" in second[1]
    assert "the storage is full; free some space" in second[1]
    assert said["left"] == []
    sizes = {10_000: "Cached", 3_000_000: "Completed", 10_001: "Cached"}
    assert said["later"] == [[state, size] for size, state in sizes.items()]


def test_storage_without_space_fails_runs_and_serves_again(tmp_path):
    root = tmp_path / "disk" / "results"
    root.parent.mkdir()
    space = faulty_files.space(root)
    space.write_text("1000000")
    runner = DaskTaskRunner(cluster_kwargs={"n_workers": 1})

    @flow(task_runner=runner, result_storage=f"faulty://{root}")
    def fills():
        small, large = blob.submit(10_000), blob.submit(3_000_000)
        with pytest.raises(StoreError) as caught:
            large.result()
        assert large.state.is_failed()
        assert len(small.result()) == 10_000
        space.write_text("9000000")
        again = blob.submit(3_000_000)
        assert len(again.result()) == 3_000_000
        assert again.state.is_completed()
        return str(caught.value)

    text = fills()
    assert f"cannot write 'faulty://{root}/blobs'" in text
    assert "No space left on device" in text
    assert "the storage is full; free some space" in text


@pytest.mark.parametrize("every", range(1, 9))
def test_when_every_nth_call_fails_completed_is_never_wrong(tmp_path, every):
    executed = []

    @task(persist_result=True)
    def square(x):
        executed.append(x)
        return x * x

    @flow(task_runner="threads", result_storage=f"faulty://{tmp_path}/results")
    def squares():
        futures = square.map(range(6))
        futures.wait()
        return {
            x: future.result(raise_on_failure=False) if future.state.is_completed() else None
            for x, future in enumerate(futures)
            if future.state.is_completed()
            or isinstance(future.result(raise_on_failure=False), StoreError)
        }

    faulty_files.fail_every(every)
    try:
        first = squares()
    finally:
        faulty_files.fail_every(0)
    forget_failures()  # a storage that failed three times in a row is left alone for a while
    assert list(first) == list(range(6))  # each is Completed, or has failed with a StoreError
    completed = {x for x, value in first.items() if value is not None}
    assert all(first[x] == x * x for x in completed)
    if every == 1:
        assert completed == set()
    executed.clear()
    assert squares() == {x: x * x for x in range(6)}
    assert set(executed) == set(range(6)) - completed  # what was Completed is in the store


def test_an_unreachable_server_fails_runs_within_seconds(s3_server, monkeypatch):
    s3_server.use(monkeypatch)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")

    @flow(task_runner="threads", result_storage="s3://bucket-of-mine/results")
    def stores():
        future = blob.submit(10)
        future.wait()
        return future.state.name, str(future.result(raise_on_failure=False))

    began = time.monotonic()
    state, text = stores()
    assert time.monotonic() - began < 30
    assert state == "Failed"
    assert "'s3://bucket-of-mine/results/" in text
    assert "check that it exists and can be reached" in text
