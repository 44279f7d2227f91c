"""Worker processes are started anew for threads that nobody can stop, and only for these."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from daskflow import flow, get_client, task
from daskflow.errors import FlowCancelled, TaskTimedOut
from daskflow.runner.cancelling import cancel_flow_run
from daskflow.runner.store import open_store
from tests.foreign import ForeignCluster, eventually


@task(timeout_seconds=0.3)
def hangs(folder, number):
    """Goes on until its gate opens, whoever waits for it."""
    (Path(folder) / f"hangs-{number}").write_text(str(os.getpid()))
    eventually((Path(folder) / "gate").exists, within_s=60)


@task(crash_retries=0)
def pid_here(number):
    return os.getpid()


@task
def waits(folder, name):
    """One line for each execution; ends when its gate opens."""
    with open(Path(folder) / name, "a") as file:
        file.write(f"{os.getpid()}\n")
    eventually((Path(folder) / f"{name}-gate").exists, within_s=60)
    return name


def lines(path):
    return path.read_text().splitlines() if path.exists() else []


def events(home, name):
    with open_store(f"sqlite:///{home}/runs.db") as store:
        return store.events(store.find_flow_run("@last").flow_run_id, name)


def gone(pid):
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    return False


def test_a_process_with_a_body_that_was_given_up_is_started_anew(cluster, tmp_path, home, figure):
    @flow(task_runner=cluster)
    def hanging():
        future = hangs.submit(str(tmp_path), 0)
        error = future.result(raise_on_failure=False)
        old = (tmp_path / "hangs-0").read_text()
        eventually(lambda: gone(old), within_s=20)
        client = get_client()
        eventually(lambda: len(client.nthreads()) == 2, within_s=30)
        pids = set(client.run(os.getpid).values())
        return error, int(old), pids

    error, old, pids = hanging()

    busy, recycled = (events(home, f"daskflow.worker.{what}") for what in ("busy", "recycled"))
    figure(f"pid {old} → {pids}; {busy[0].payload}; {recycled[0].resource} recycled")
    assert type(error) is TaskTimedOut
    assert old not in pids
    assert [each.payload for each in busy] == [{"executing": ["hangs-0"], "ends": True}]
    assert [each.resource for each in recycled] == [busy[0].resource]
    assert events(home, "daskflow.worker.lost") == []


def test_a_worker_without_a_nanny_is_left_alone_and_that_is_told(lonely, tmp_path, home, caplog):
    @flow(task_runner=lonely.address)
    def hanging():
        future = hangs.submit(str(tmp_path), 0)
        future.wait()
        future.result(raise_on_failure=False)
        eventually(lambda: "no nanny" in caplog.text, within_s=20)
        (tmp_path / "gate").touch()
        return pid_here.submit(0).result()

    assert str(hanging()) == (tmp_path / "hangs-0").read_text()
    assert "hangs-0 was given up and goes on: a slot of tcp://" in caplog.text
    assert events(home, "daskflow.worker.recycled") == []


@pytest.fixture
def shared(tmp_path):
    """A cluster that is not ours, of one worker with a nanny and two threads."""
    (tmp_path / "cluster").mkdir()
    cluster = ForeignCluster(tmp_path / "cluster", n_workers=0)
    try:
        cluster.add_worker("--nthreads", "2", nanny=True)
        yield cluster
    finally:
        cluster.close()


def test_a_cancelled_body_ends_with_its_process_and_its_neighbours_are_charged_nothing(
    shared, tmp_path, figure
):
    folder, ends = str(tmp_path), {}

    @flow(task_runner=shared.address, flow_run_name="unwanted", cancel_grace_seconds=600)
    def unwanted():
        waits.submit(folder, "cancelled").result()

    @flow(task_runner=shared.address, flow_run_name="neighbour")
    def neighbour():
        future = waits.submit(folder, "kept")
        future.wait()
        return future.result(), future._run.crashes

    def run(which: Callable[[], object]):
        ends[which.name] = which(return_state=True)

    threads = [threading.Thread(target=run, args=(each,)) for each in (unwanted, neighbour)]
    for thread in threads:
        thread.start()
    try:
        eventually(lambda: lines(tmp_path / "cancelled") and lines(tmp_path / "kept"), within_s=60)
        said = cancel_flow_run("unwanted", grace_seconds=0.3, timeout=30)
        eventually(lambda: len(lines(tmp_path / "kept")) == 2, within_s=30)
    finally:
        for name in ("cancelled", "kept"):
            (tmp_path / f"{name}-gate").touch()
        for thread in threads:
            thread.join(30)

    first, second = lines(tmp_path / "kept")
    figure(f"pid {first} → {second}; {said.flow_run.state}, {ends['neighbour'].result()}")
    assert lines(tmp_path / "cancelled") == [first]  # both were in one process, and it went
    assert gone(first)
    assert second != first
    assert ends["neighbour"].result() == ("kept", 0)
    assert said.flow_run.state == "Cancelled"
    with pytest.raises(FlowCancelled, match=r"cancelled by .*@.* \(pid \d+\)"):
        ends["unwanted"].result()
