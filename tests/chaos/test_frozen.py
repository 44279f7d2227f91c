"""A worker that is frozen for longer than its time to live, and woken later."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from daskflow import flow, task
from daskflow.runner.store import open_store
from tests.foreign import ForeignCluster, eventually

TTL_S = 5.0  # of a worker; Dask takes no less than ten heartbeats


@pytest.fixture
def impatient(tmp_path, monkeypatch):
    """Two workers without nannies: nobody kills the one that is frozen."""
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL", f"{TTL_S:g}s")
    folder = tmp_path / "cluster"
    folder.mkdir()
    cluster = ForeignCluster(folder)
    yield cluster
    cluster.close()


@task
def body(folder, gate, done):
    mine = Path(folder) / str(os.getpid())
    mine.touch()
    if len(list(Path(folder).iterdir())) == 1:  # the first execution: it will be frozen
        eventually(Path(gate).exists, within_s=60)
        Path(done).touch()
        return "late"
    return "right"


@task
def other():
    return 1


def test_a_frozen_worker_is_given_up_and_its_late_result_is_dropped(
    impatient, tmp_path, home, figure
):
    started, gate, done = tmp_path / "started", tmp_path / "gate", tmp_path / "done"
    started.mkdir()

    @flow(task_runner=impatient.address)
    def thaws():
        future = body.submit(str(started), str(gate), str(done))
        eventually(lambda: any(started.iterdir()), within_s=30)
        pid = int(next(started.iterdir()).name)
        os.kill(pid, signal.SIGSTOP)
        frozen = time.monotonic()
        try:
            assert future.result(timeout=60) == "right"
            took = time.monotonic() - frozen
        finally:
            gate.touch()
            os.kill(pid, signal.SIGCONT)
        eventually(done.exists, within_s=20)  # the zombie has ended its run
        zombie = next(w for w in impatient.workers.values() if w.pid == pid)
        zombie.wait(20)  # and its worker, which nobody knows any more
        assert other.submit().result() == 1
        return future.result(), future._run.crashes, took

    result, crashes, took = thaws()

    with open_store(f"sqlite:///{home}/runs.db") as store:
        run = store.find_flow_run("@last")
        ends = [each.state for each in store.transitions(run.flow_run_id, 0)]
    figure(
        f"given up after {took:.1f} s (ttl {TTL_S:g} s), the zombie ended its run, "
        f"{ends.count('Completed')} commit, {crashes} loss charged"
    )
    assert result == "right"
    assert (ends.count("Completed"), crashes) == (1, 1)
    assert took < 2 * TTL_S + 2
