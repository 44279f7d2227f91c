"""A scheduler that is killed: the flow goes on with the next one; nothing committed runs again."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import ClassVar

import pytest

from daskflow import DaskTaskRunner, flow, task
from daskflow.config import reset_settings
from daskflow.errors import ClusterError, TaskCrashed
from tests.foreign import ForeignCluster, eventually


def note(folder, name):
    """Note one execution where a killed worker cannot lose it."""
    with open(Path(folder) / name, "a") as file:
        file.write(f"{os.getpid()}\n")


def executions(folder, pattern):
    return {path.name: len(path.read_text().split()) for path in Path(folder).glob(pattern)}


@task(persist_result=True)
def committed(number, folder):
    note(folder, f"committed-{number}")
    return number


@task
def held(number, folder):
    note(folder, f"held-{number}")
    eventually((Path(folder) / "gate").exists, within_s=60)
    return number


@task(crash_retries=0)
def once(folder):
    note(folder, "once")
    eventually((Path(folder) / "gate").exists, within_s=60)


def running(folder, *names):
    """Whether runs of these names have started."""
    return all((Path(folder) / name).exists() for name in names)


@pytest.fixture
def mortal(tmp_path):
    folder = tmp_path / "cluster"
    folder.mkdir()
    cluster = ForeignCluster(folder)
    yield cluster
    cluster.close()


def test_a_flow_goes_on_when_its_scheduler_comes_back(mortal, tmp_path, figure):
    folder = str(tmp_path)

    @flow(task_runner=mortal.address)
    def survives():
        done = committed.map(range(20), folder)
        assert done.result() == list(range(20))
        alone = once.submit(folder)
        waiting = held.map(range(8), folder)
        eventually(lambda: running(folder, "once", "held-0"), within_s=30)

        mortal.kill_scheduler()
        mortal.restart_scheduler()
        (tmp_path / "gate").touch()
        back = time.monotonic()
        for _ in range(2):
            mortal.add_worker()
        assert waiting.result(timeout=60) == list(range(8))
        took = time.monotonic() - back
        assert committed.submit(20, folder).result() == 20
        alone.wait()
        return done.result(), type(alone.result(raise_on_failure=False)), took

    values, error, took = survives()

    again = {name: n for name, n in executions(folder, "committed-*").items() if n > 1}
    held_again = sum(n - 1 for n in executions(folder, "held-*").values())
    figure(
        f"{len(again)} of 21 committed runs executed again, {held_again} of 8 in flight, done "
        f"{took:.1f} s after the scheduler was back (starting two workers included)"
    )
    assert again == {}
    assert values == list(range(20))
    assert held_again <= 2
    assert error is TaskCrashed
    assert executions(folder, "once") == {"once": 1}


def test_a_scheduler_that_does_not_come_back_ends_the_flow(mortal, tmp_path, monkeypatch, figure):
    folder = str(tmp_path)
    monkeypatch.setenv("DASKFLOW_RUNNER__SCHEDULER_TIMEOUT_SECONDS", "2")
    reset_settings()

    @flow(task_runner=mortal.address)
    def ends():
        waiting = held.map(range(8), folder)
        eventually(lambda: running(folder, "held-0"), within_s=30)
        mortal.kill_scheduler()
        began = time.monotonic()
        waiting.wait()
        took = time.monotonic() - began
        (tmp_path / "gate").touch()
        return took, [type(each) for each in waiting.result(raise_on_failure=False)]

    took, errors = ends()
    figure(f"everything crashed {took:.1f} s after the scheduler was killed; 2 s are allowed")
    assert set(errors) == {ClusterError}
    assert 2 <= took < 6


class Owned(ForeignCluster):
    """A cluster that daskflow starts and ends."""

    started: ClassVar[list[Owned]] = []

    def __init__(self, parent):
        folder = Path(parent) / f"cluster-{len(self.started)}"
        folder.mkdir()
        self.started.append(self)
        super().__init__(folder)

    @property
    def scheduler_address(self):
        return self.address


def test_a_cluster_of_its_own_is_started_again(tmp_path, figure):
    folder = str(tmp_path)
    Owned.started.clear()

    @flow(task_runner=DaskTaskRunner(cluster_class=Owned, cluster_kwargs={"parent": folder}))
    def survives():
        done = committed.map(range(20), folder)
        assert done.result() == list(range(20))
        waiting = held.map(range(8), folder)
        eventually(lambda: running(folder, "held-0"), within_s=30)
        Owned.started[0].kill_scheduler()
        began = time.monotonic()
        (tmp_path / "gate").touch()
        assert waiting.result(timeout=60) == list(range(8))
        return time.monotonic() - began

    took = survives()
    again = {name: n for name, n in executions(folder, "committed-*").items() if n > 1}
    figure(f"{len(again)} of 20 committed runs executed again, all done after {took:.1f} s")
    assert again == {}
    assert len(Owned.started) == 2
