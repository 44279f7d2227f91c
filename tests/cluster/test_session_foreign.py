"""Sessions on clusters that are not ours: used, checked, and left as they were found."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import dask
import pytest
from distributed import Client, KilledWorker, LocalCluster

from daskflow.errors import ClusterError
from daskflow.runner.cluster import foreign, plugin
from daskflow.runner.cluster.plugin import LOSS_ANNOTATION, LossBudget
from daskflow.runner.cluster.protocol import WITH_NANNY
from daskflow.runner.cluster.providers import DaskTaskRunner, resolve_task_runner
from daskflow.runner.cluster.session import Session, open_session
from tests.foreign import ForeignCluster, eventually


@pytest.fixture(scope="module")
def nannied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForeignCluster]:
    """One worker under a nanny, so that tests may kill it again and again."""
    cluster = ForeignCluster(tmp_path_factory.mktemp("nannied"), n_workers=0)
    try:
        cluster.add_worker(nanny=True)
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
def bystander(nannied: ForeignCluster) -> Iterator[Client]:
    """Somebody else who uses the same scheduler."""
    with Client(nannied.address, set_as_default=False) as client:
        client.wait_for_workers(1, timeout=30)
        yield client


@pytest.fixture
def session(nannied: ForeignCluster) -> Iterator[Session]:
    session = open_session(resolve_task_runner(nannied.address))
    yield session
    session.close()


def state(client: Client) -> dict[str, Any]:
    """Return what a session could leave behind on a scheduler."""

    def look(dask_scheduler: Any) -> dict[str, Any]:
        topics = dask_scheduler._broker._topics
        return {
            "plugins": sorted(dask_scheduler.plugins),
            "worker plugins": sorted(dask_scheduler.worker_plugins),
            "nanny plugins": sorted(dask_scheduler.nanny_plugins),
            "tasks": sorted(dask_scheduler.tasks),
            "clients": sorted(set(dask_scheduler.clients) - {"fire-and-forget"}),
            "topics": sorted(name for name in topics if name.startswith("daskflow")),
            "subscribers": sorted({who for topic in topics.values() for who in topic.subscribers}),
            "allowed failures": dask_scheduler.allowed_failures,
            "wrapped": "_track_retire_worker" in vars(dask_scheduler),
        }

    found: dict[str, Any] = client.run_on_scheduler(look)
    return found


def test_an_address_is_used_but_not_owned(session: Session, nannied: ForeignCluster) -> None:
    session.wait_for_worker(30)
    assert not session.owned
    assert not session.in_process
    assert session.flight_folder == WITH_NANNY
    assert session.loss_budget
    assert nannied.address in session.description
    assert session.client.submit(abs, -1).result(timeout=20) == 1


def test_the_cluster_is_left_as_it_was_found(nannied: ForeignCluster, bystander: Client) -> None:
    before = state(bystander)
    session = open_session(resolve_task_runner(nannied.address))
    session.client.subscribe_topic("all", lambda event: None)
    session.client.subscribe_topic(session.topic, lambda event: None)
    session.client.log_event(session.topic, "news")
    kept = session.client.submit(abs, -1)
    assert kept.result(timeout=20) == 1
    during = state(bystander)
    assert during["topics"] == [session.topic]
    assert len(during["plugins"]) == len(before["plugins"]) + 1
    session.close()
    session.close()
    eventually(lambda: state(bystander) == before)


def test_a_killed_flow_process_leaves_nothing(nannied: ForeignCluster, bystander: Client) -> None:
    before = state(bystander)
    code = (
        "import os, sys\n"
        "from daskflow.runner.cluster.providers import resolve_task_runner\n"
        "from daskflow.runner.cluster.session import open_session\n"
        "session = open_session(resolve_task_runner(sys.argv[1]))\n"
        "session.client.subscribe_topic(session.topic, print)\n"
        "session.client.submit(abs, -1).result()\n"
        "print('open', flush=True)\n"
        "os.kill(os.getpid(), 9)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, nannied.address], capture_output=True, text=True, timeout=60
    )
    assert run.stdout.strip() == "open", run.stderr
    eventually(lambda: state(bystander) == before)


@pytest.mark.parametrize("losses", [0, 1])
def test_the_loss_budget_is_exact(
    session: Session, scripted: Callable[..., Any], losses: int
) -> None:
    body = scripted(["die"] * 5)
    with dask.annotate(**{LOSS_ANNOTATION: losses}):
        future = session.client.submit(body, pure=False)
    assert isinstance(future.exception(timeout=60), KilledWorker)
    assert body.attempts() == losses + 1


def test_tasks_of_others_keep_their_own_budget(
    session: Session, bystander: Client, scripted: Callable[..., Any]
) -> None:
    assert session.loss_budget
    body = scripted(["die", "ok"])
    assert bystander.submit(body, pure=False).result(timeout=60) == 2


def test_sessions_that_share_a_scheduler_leave_each_other_alone(
    nannied: ForeignCluster, session: Session, scripted: Callable[..., Any]
) -> None:
    open_session(resolve_task_runner(nannied.address)).close()
    body = scripted(["die", "ok"])
    with dask.annotate(**{LOSS_ANNOTATION: 0}):
        future = session.client.submit(body, pure=False)
    assert isinstance(future.exception(timeout=60), KilledWorker)


def test_the_plugin_needs_no_daskflow_on_the_scheduler() -> None:
    with foreign._travels_by_value():
        blob = cloudpickle.dumps((LossBudget("client", "topic"), plugin.forget_client))
    code = (
        "import pickle, sys\n"
        "sys.modules['daskflow'] = None\n"
        "class Scheduler:\n"
        "    allowed_failures, tasks = 3, {'k': type('Task', (), {})()}\n"
        "budget, forget = pickle.load(sys.stdin.buffer)\n"
        "budget.update_graph(Scheduler, annotations={'daskflow_lost': {'k': 1, 'gone': 0}})\n"
        "print(Scheduler.tasks['k'].suspicious)"
    )
    run = subprocess.run([sys.executable, "-c", code], input=blob, capture_output=True, timeout=60)
    assert run.stdout.strip() == b"2", run.stderr.decode()
    assert plugin.__name__ not in cloudpickle.list_registry_pickle_by_value()


def test_a_scheduler_that_takes_no_plugins_is_used_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = "['register_scheduler_plugin', 'run_function']"
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__BLOCKED_HANDLERS", refused)
    strict = ForeignCluster(tmp_path, n_workers=1)
    try:
        session = open_session(resolve_task_runner(strict.address))
        assert not session.loss_budget
        session.wait_for_worker(30)
        assert session.client.submit(abs, -1).result(timeout=20) == 1
        session.close()
    finally:
        strict.close()


def test_a_client_is_asked_for_its_cluster_only(bystander: Client) -> None:
    events: list[object] = []
    bystander.subscribe_topic("mine", events.append)
    session = open_session(resolve_task_runner(bystander))
    assert session.client is not bystander
    assert session.client.submit(abs, -1).result(timeout=20) == 1
    session.close()
    assert bystander.status == "running"
    bystander.log_event("mine", "still here")
    eventually(lambda: events)


def test_a_cluster_object_is_used_and_stays_open() -> None:
    with LocalCluster(
        n_workers=1, processes=False, dashboard_address="127.0.0.1:0", protocol="inproc"
    ) as cluster:
        session = open_session(resolve_task_runner(cluster))
        assert session.in_process
        assert not session.owned
        assert session.client.submit(os.getpid).result(timeout=20) == os.getpid()
        session.close()
        assert cluster.status.name == "running"
        with Client(cluster, set_as_default=False) as client:
            assert client.submit(abs, -1).result(timeout=20) == 1


def test_an_unreachable_scheduler_is_named_with_advice() -> None:
    runner = DaskTaskRunner(address="tcp://127.0.0.1:9", client_kwargs={"timeout": 0.3})
    with pytest.raises(ClusterError, match=r"tcp://127\.0\.0\.1:9 .*check that it runs"):
        open_session(runner)


def test_waiting_for_workers_ends(tmp_path: Path) -> None:
    empty = ForeignCluster(tmp_path, n_workers=0)
    try:
        session = open_session(resolve_task_runner(empty.address))
        assert session.nthreads() == {}
        with pytest.raises(ClusterError, match=r"No worker has joined tcp://.* within 0\.2 s"):
            session.wait_for_worker(0.2)
        session.close()
    finally:
        empty.close()


# ---- versions


def versions(python: str = "3.11.7.final.0", **packages: str | None) -> dict[str, Any]:
    own = {"dask": "1", "distributed": "1", "daskflow": "1"}
    return {"host": {"python": python}, "packages": own | packages}


class Answers:
    """A client whose cluster has the given versions."""

    scheduler = None

    def __init__(self, scheduler: dict[str, Any], **workers: Any) -> None:
        self.found = {"client": versions(), "scheduler": scheduler, "workers": workers}

    _get_versions = None

    def sync(self, *_: object, **__: object) -> dict[str, Any]:
        return self.found


@pytest.mark.parametrize(
    ("scheduler", "worker", "said"),
    [
        pytest.param(versions(dask="2"), versions(), "the scheduler has dask 2", id="scheduler"),
        pytest.param(
            versions(),
            versions(distributed="2"),
            "worker one has distributed 2, this process has 1",
            id="worker",
        ),
        pytest.param(
            versions(), versions("3.12.1.final.0"), "worker one runs Python 3.12.1", id="python"
        ),
        pytest.param(
            versions(), versions(daskflow=None), "worker one lacks daskflow", id="no-daskflow"
        ),
    ],
)
def test_other_versions_are_named(
    scheduler: dict[str, Any], worker: dict[str, Any], said: str
) -> None:
    with pytest.raises(ClusterError, match=said):
        foreign.check_versions(Answers(scheduler, one=worker))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("scheduler", "worker"),
    [
        pytest.param(versions(), versions(), id="same"),
        pytest.param(versions(daskflow=None), versions(), id="scheduler-without-daskflow"),
        pytest.param(versions("3.11.2.final.0"), versions("3.11.9.final.0"), id="python-patch"),
        pytest.param(versions(), None, id="worker-that-just-left"),
    ],
)
def test_versions_that_fit_are_accepted(scheduler: dict[str, Any], worker: Any) -> None:
    foreign.check_versions(Answers(scheduler, one=worker))  # type: ignore[arg-type]
