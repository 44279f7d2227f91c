"""Where runs go that must not run twice or were lost before, on clusters that are not ours."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from distributed import Client

from daskflow import flow, task
from daskflow.config import reset_settings
from daskflow.errors import TaskCrashed
from daskflow.runner.cluster import foreign
from daskflow.runner.cluster.placing import host_of
from tests.foreign import ForeignCluster, eventually


@pytest.fixture(scope="module")
def two_hosts(tmp_path_factory):
    """Workers without nannies, on two addresses of this machine."""
    cluster = ForeignCluster(tmp_path_factory.mktemp("two-hosts"), n_workers=0)
    try:
        for host in ("127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.2"):
            cluster.add_worker("--host", host)
        with Client(cluster.address, set_as_default=False) as client:
            client.wait_for_workers(4, timeout=60)
        yield cluster
    finally:
        cluster.close()


def executed(folder, name):
    from distributed import get_worker

    with open(Path(folder) / name, "a") as file:
        file.write(f"{get_worker().address}\n")


def places(folder, name):
    return (Path(folder) / name).read_text().split()


def test_a_run_that_was_lost_goes_to_another_host(two_hosts, tmp_path, figure):
    @task(crash_retries=1)
    def dies_once(folder):
        executed(folder, "dies-once")
        if len(places(folder, "dies-once")) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return 1

    @task(workers=["foreign-3"])
    def hold(folder):
        executed(folder, "hold")
        eventually((Path(folder) / "gate").exists, within_s=60)

    @flow(task_runner=two_hosts.address)
    def lost():
        hold.submit(str(tmp_path))
        eventually((tmp_path / "hold").exists, within_s=30)
        future = dies_once.submit(str(tmp_path))
        run = future._run
        # it is sent again while its own host has idle workers, and the other one none
        eventually(lambda: run.crashes == 1 and (run.parcel or run.state == "Completed"), 30)
        (tmp_path / "gate").touch()
        return future.result(timeout=60)

    assert lost() == 1
    hosts = [host_of(place) for place in places(tmp_path, "dies-once")]
    figure(f"executed on {hosts}")
    assert len(hosts) == 2
    assert hosts[0] != hosts[1]


def test_what_may_run_once_runs_once_though_its_worker_is_retired_without_plugins(
    two_hosts, tmp_path, monkeypatch, figure
):
    monkeypatch.setattr(foreign, "register_loss_budget", lambda client, topic: False)
    monkeypatch.setenv("DASKFLOW_RUNNER__NO_WORKERS_TIMEOUT_SECONDS", "10")  # if all are killed
    reset_settings()
    folder, gate = str(tmp_path), tmp_path / "gate"

    @task(crash_retries=0)
    def once(folder):
        executed(folder, "once")
        eventually((Path(folder) / "gate").exists, within_s=60)

    @task(crash_retries=0)
    def poison(folder):
        executed(folder, "poison")
        os.kill(os.getpid(), signal.SIGKILL)

    @flow(task_runner=two_hosts.address)
    def refused():
        future = once.submit(folder)
        eventually((tmp_path / "once").exists, within_s=30)
        ends = []
        try:
            with Client(two_hosts.address, set_as_default=False) as client:
                client.retire_workers(places(folder, "once"))
            for each in (future, poison.submit(folder)):
                each.wait(timeout=30)
                ends.append((each.state.name, type(each.result(raise_on_failure=False))))
        finally:
            gate.touch()
        return ends

    ends = refused()
    counts = {name: len(places(folder, name)) for name in ("once", "poison")}
    figure(f"executions without plugins: {counts}, {ends}")
    assert counts == {"once": 1, "poison": 1}
    assert ends == [("Crashed", TaskCrashed)] * 2


def test_without_nannies_poison_is_found_by_elimination(tmp_path, figure):
    folder = tmp_path / "cluster"
    folder.mkdir()
    cluster = ForeignCluster(folder, n_workers=0)

    @task
    def innocent(number):
        return number

    @task(crash_retries=1)
    def poison(folder):
        executed(folder, "poison")
        os.kill(os.getpid(), signal.SIGKILL)

    @flow(task_runner=cluster.address)
    def poisoned():
        with Client(cluster.address, set_as_default=False) as client:
            client.wait_for_workers(4, timeout=60)
        victim = poison.submit(str(tmp_path))
        rest = innocent.map(range(50))
        victim.wait(timeout=60)
        assert rest.result(timeout=60) == list(range(50))
        return victim.state.name, sum(future._run.crashes for future in rest)

    try:
        for _ in range(4):
            cluster.add_worker()
        state, charged = poisoned()
    finally:
        cluster.close()

    count = len(places(tmp_path, "poison"))
    figure(f"poison executed {count} times for crash_retries=1; {charged} of 50 innocents charged")
    assert state == "Crashed"
    assert count in (2, 3)
    assert charged <= 2  # one that stood behind it twice is charged once
