"""A network that is cut, for a short and for a long time, between worker, scheduler and flow.

The traffic of one worker, or of the flow, goes through forwarders that can hold everything back.
"""

from __future__ import annotations

import os
import subprocess
import time
import uuid
from pathlib import Path

import pytest

from daskflow import NO_CACHE, flow, task
from daskflow.caching.store import ResultStore
from daskflow.runner.store import open_store
from tests.foreign import ForeignCluster, eventually
from tests.forwarder import Forwarder, free_port

SHORT_S = 1.0


@task(persist_result=True, cache_policy=NO_CACHE)
def body(folder):
    """The first execution ends when the gate opens; each leaves a file when it starts and ends."""
    started, name = Path(folder) / "started", f"{os.getpid()}-{uuid.uuid4().hex}"
    (started / name).touch()
    if len(list(started.iterdir())) == 1:
        eventually((Path(folder) / "gate").exists, within_s=60)
        name = "first"
    (Path(folder) / "ended" / name).touch()
    return name


@task
def step(n):
    return n


class Link:
    """All ways between one worker and the rest of the cluster."""

    def __init__(self, cluster: ForeignCluster) -> None:
        port = free_port()
        self.ways = [Forwarder(int(cluster.address.rpartition(":")[2])), Forwarder(port)]
        self.worker = cluster.add_worker(
            *("--listen-address", f"tcp://127.0.0.1:{port}"),
            *("--contact-address", self.ways[1].address),
            through=self.ways[0].address,
        )

    def cut(self) -> None:
        for way in self.ways:
            way.cut()

    def mend(self) -> None:
        for way in self.ways:
            way.mend()

    def time_out(self) -> None:
        """What the kernels do after the TCP timeout."""
        for way in self.ways:
            way.drop()

    def close(self) -> None:
        for way in self.ways:
            way.close()


class Net:
    """A cluster of three workers, each behind a network of its own that can be cut."""

    def __init__(self, folder: Path) -> None:
        self.cluster = ForeignCluster(folder, n_workers=0)
        self.address = self.cluster.address
        self.port = int(self.address.rpartition(":")[2])
        self.links = [Link(self.cluster) for _ in range(3)]

    def executing(self, here: Path) -> Link:
        """The link of the worker that executes the body."""
        eventually(lambda: count(here, "started"), within_s=30)
        pid = int(next((here / "started").iterdir()).name.partition("-")[0])
        return next(link for link in self.links if self.process(link).pid == pid)

    def process(self, link: Link) -> subprocess.Popen[bytes]:
        return self.cluster.workers[link.worker]

    def close(self) -> None:
        for link in self.links:
            link.close()
        self.cluster.close()


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    net = Net(tmp_path_factory.mktemp("net"))
    yield net
    net.close()


@pytest.fixture
def here(tmp_path):
    for name in ("started", "ended"):
        (tmp_path / name).mkdir()
    return tmp_path


def count(here, what):
    return len(list((here / what).iterdir()))


def commits_of(home):
    return len(list(ResultStore(str(home / "results")).entries()))


def commits(home):
    """Commits of the one run by the record, and the values in the result store."""
    with open_store(f"sqlite:///{home}/runs.db") as store:
        run = store.find_flow_run("@last")
        states = [each.state for each in store.transitions(run.flow_run_id, 0)]
    kept = ResultStore(str(home / "results"))
    done = states.count("Completed") + states.count("Cached")
    return done, [kept.load(entry) for entry in kept.entries()]


def test_a_short_cut_of_a_worker_costs_nothing(net, here, home, figure):
    @flow(task_runner=net.address)
    def endures():
        future = body.submit(str(here))
        link = net.executing(here)
        link.cut()
        (here / "gate").touch()
        eventually(lambda: count(here, "ended"))  # it ends while nobody can hear of it
        time.sleep(SHORT_S)
        assert not future.state.is_final()
        link.mend()
        mended = time.monotonic()
        return future.result(timeout=30), future._run.crashes, time.monotonic() - mended

    value, crashes, took = endures()
    figure(f"{count(here, 'started')} execution, told {took:.2f} s after the cut was mended")
    assert (value, crashes, count(here, "started")) == ("first", 0, 1)
    assert commits(home) == (1, ["first"])


@pytest.mark.parametrize("long", [False, True], ids=["short", "long"])
def test_a_flow_that_is_cut_off_from_its_scheduler_goes_on(net, here, home, figure, long):
    way = Forwarder(net.port)

    @flow(task_runner=way.address)
    def endures():
        future = body.submit(str(here))
        eventually(lambda: count(here, "started"), within_s=30)
        way.cut()
        (here / "gate").touch()
        eventually(lambda: commits_of(home) == 1)
        if long:
            way.drop()
        time.sleep(SHORT_S)
        assert not future.state.is_final()
        way.mend()
        mended = time.monotonic()
        return future.result(timeout=60), future._run.crashes, time.monotonic() - mended

    try:
        value, crashes, took = endures()
    finally:
        way.close()
    figure(f"{count(here, 'started')} execution, told {took:.2f} s after the cut was mended")
    assert (value, crashes, count(here, "started")) == ("first", 0, 1)
    assert commits(home) == (1, ["first"])


@pytest.mark.parametrize("late", [False, True], ids=["ends-during-the-cut", "ends-late"])
def test_a_worker_that_is_cut_off_is_given_up_and_one_result_is_committed(
    net, here, home, figure, late
):
    @flow(task_runner=net.address)
    def survives():
        future = body.submit(str(here))
        link = net.executing(here)
        link.cut()
        if not late:
            (here / "gate").touch()
            eventually(lambda: commits_of(home) == 1)  # it can write, but not tell
        link.time_out()
        cut = time.monotonic()
        value = future.result(timeout=60)
        took = time.monotonic() - cut
        if late:
            (here / "gate").touch()
            eventually(lambda: count(here, "ended") == 2)
        link.mend()
        net.process(link).wait(30)  # it ends: nobody knows it any more
        assert step.submit(1).result(timeout=30) == 1
        return value, future.result(), took

    value, again, took = survives()
    done, stored = commits(home)
    figure(f"{count(here, 'started')} executions, {done} commit, done {took:.1f} s after the loss")
    assert count(here, "started") == (2 if late else 1)
    assert (value == "first") is not late
    assert (again, done, stored) == (value, 1, [value])
