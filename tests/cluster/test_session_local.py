"""Sessions on clusters of our own: worker processes, threads, classes that the user names."""

from __future__ import annotations

import asyncio
import copy
import multiprocessing.spawn
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import dask
import distributed
import psutil
import pytest
from distributed import KilledWorker

from daskflow.errors import ClusterError, UsageError
from daskflow.runner.cluster import local, spawning
from daskflow.runner.cluster.providers import DaskTaskRunner, LocalTaskRunner, SyncTaskRunner
from daskflow.runner.cluster.session import Session, open_session
from tests.foreign import eventually
from tests.leaks import Footprint

NOTHING = Footprint(frozenset(), frozenset(), frozenset())


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    """Two worker processes for the module; a test that kills one waits for its heir."""
    session = open_session(LocalTaskRunner("processes", workers=2))
    eventually(lambda: len(session.nthreads()) == 2, within_s=30)
    yield session
    session.close()


def pids(session: Session) -> set[int]:
    return set(session.client.run(os.getpid, on_error="ignore").values())


def listening() -> set[str]:
    """Return the hosts that this process and its children listen on."""
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return {
        socket.laddr.ip
        for process in family
        for socket in process.net_connections()
        if socket.status == psutil.CONN_LISTEN
    }


# ---- worker processes


def test_processes_describes_itself(session: Session) -> None:
    assert session.owned
    assert not session.in_process
    assert session.loss_budget
    assert session.description == "processes, 2 workers × 1 thread"
    assert list(session.nthreads().values()) == [1, 1]
    assert os.getpid() not in pids(session)


def test_everything_listens_on_loopback_only(session: Session) -> None:
    assert session.nthreads()
    assert listening() == {"127.0.0.1"}


def test_the_users_own_dask_is_untouched(session: Session) -> None:
    with pytest.raises(ValueError, match="No clients found"):
        distributed.default_client()
    assert dask.config.get("scheduler", None) is None
    assert dask.config.get("distributed.scheduler.allowed-failures") == 3


def test_configuration_and_environment_are_as_before() -> None:
    config, environ = copy.deepcopy(dask.config.config), dict(os.environ)
    session = open_session(LocalTaskRunner("processes", workers=1))
    session.close()
    assert dask.config.config == config
    changed = {name for name in os.environ if os.environ[name] != environ.get(name)}
    assert changed <= {"__DASK_PARENT_PID"}  # distributed's own


def test_a_killed_worker_errs_its_task_at_once_and_is_replaced(
    session: Session, scripted: Callable[..., Any]
) -> None:
    before, body = pids(session), scripted(["die"])
    error = session.client.submit(body, pure=False).exception(timeout=20)
    assert isinstance(error, KilledWorker)
    assert body.attempts() == 1
    eventually(lambda: len(session.nthreads()) == 2, within_s=30)
    assert len(pids(session) - before) == 1
    assert listening() == {"127.0.0.1"}


def test_a_worker_killed_while_its_nanny_still_waits_for_it_is_replaced(
    monkeypatch: pytest.MonkeyPatch, scripted: Callable[..., Any]
) -> None:
    monkeypatch.setattr(local._OwnedWorkerProcess, "_init_msg_interval", 1.0)
    session = open_session(LocalTaskRunner("processes", workers=1))
    try:
        error = session.client.submit(scripted(["die"]), pure=False).exception(timeout=20)
        assert isinstance(error, KilledWorker)
        assert session.client.submit(abs, -1).result(timeout=30) == 1
    finally:
        session.close()


def test_a_worker_that_is_killed_at_every_start_is_started_again() -> None:
    others = {child.pid for child in psutil.Process().children()}  # of the shared session
    session = open_session(LocalTaskRunner("processes", workers=1))
    killed: set[int] = set()

    def kill_the_next_one() -> bool:
        for child in psutil.Process().children():
            with suppress(psutil.Error):
                if child.pid in killed | others or "spawn_main" not in " ".join(child.cmdline()):
                    continue
                child.kill()
                killed.add(child.pid)
        return len(killed) >= 6

    try:
        eventually(kill_the_next_one, within_s=30)
        assert session.client.submit(abs, -1).result(timeout=30) == 1
    finally:
        session.close()


def test_workers_survive_a_sigint_also_the_heir_of_a_killed_one(session: Session) -> None:
    victim = min(pids(session))
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: len(pids(session) - {victim}) == 2, within_s=30)
    workers = pids(session)
    for pid in workers:
        os.kill(pid, signal.SIGINT)
        assert os.getsid(pid) == pid  # a Ctrl-C in the terminal does not even reach it
    assert pids(session) == workers
    assert session.client.submit(abs, -2, pure=False).result(timeout=20) == 2


def test_what_a_task_starts_gets_a_normal_sigint(session: Session) -> None:
    def die_of_sigint() -> int:
        import subprocess
        import sys

        code = "import os, signal; os.kill(os.getpid(), signal.SIGINT); print('survived')"
        return subprocess.run([sys.executable, "-c", code], stderr=subprocess.DEVNULL).returncode

    result = session.client.submit(die_of_sigint, pure=False).result(timeout=30)
    assert result == -signal.SIGINT


def test_modules_on_the_path_of_the_flow_are_importable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only_here.py").write_text("VALUE = 42\n")
    monkeypatch.syspath_prepend(tmp_path)

    def value() -> object:
        import importlib

        return importlib.import_module("only_here").VALUE

    session = open_session(LocalTaskRunner("processes", workers=1))
    try:
        assert session.client.submit(value).result(timeout=30) == 42
    finally:
        session.close()


def test_opens_in_a_thread_while_the_main_thread_runs_an_event_loop() -> None:
    async def main() -> int:
        session = await asyncio.to_thread(open_session, LocalTaskRunner("processes", workers=1))
        result = await asyncio.to_thread(session.client.submit(abs, -1).result, 30)
        await asyncio.to_thread(session.close)
        return int(result)

    assert asyncio.run(main()) == 1


def test_close_leaves_nothing_and_may_be_called_by_many() -> None:
    before, threads = Footprint.now(), set(threading.enumerate())
    session = open_session(LocalTaskRunner("processes", workers=2))
    flights = Path(session.flight_folder or "")
    assert flights.stat().st_mode & 0o777 == 0o700
    assert flights.parent.stat().st_mode & 0o777 == 0o700
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: session.close(), range(4)))
    session.close()
    assert not Footprint.now().beyond(before, NOTHING)
    assert not flights.parent.exists()
    new = {thread.name for thread in set(threading.enumerate()) - threads if thread.is_alive()}
    assert not [name for name in new if name.startswith(("daskflow", "IO loop"))]


def test_close_does_not_wait_for_a_task_that_hangs(tmp_path: Path) -> None:
    def hang(mark: str) -> None:
        import pathlib
        import time

        pathlib.Path(mark).touch()
        time.sleep(600)

    session = open_session(LocalTaskRunner("processes", workers=1))
    mark = tmp_path / "started"
    future = session.client.submit(hang, str(mark))
    eventually(mark.exists, within_s=20)
    worker = pids(session).pop()
    closing = threading.Thread(target=session.close)
    closing.start()
    closing.join(8)
    assert not closing.is_alive()
    assert not psutil.pid_exists(worker)
    assert future.status != "finished"


def test_workers_that_cannot_start_are_a_cluster_error_and_leave_nothing() -> None:
    before = Footprint.now()
    with pytest.raises(ClusterError, match="did not start"):
        open_session(
            LocalTaskRunner("processes", 1, worker_options={"preload": ["no_such_preload"]})
        )
    assert not Footprint.now().beyond(before, NOTHING)


def test_an_option_that_workers_do_not_have_is_a_clear_error() -> None:
    with pytest.raises((ClusterError, UsageError), match="memory_limt"):
        open_session(LocalTaskRunner("processes", 1, worker_options={"memory_limt": "1GB"}))


# ---- the main module


def test_only_our_own_processes_are_prepared_without_main() -> None:
    prepare = multiprocessing.spawn.get_preparation_data
    with ThreadPoolExecutor(1) as users_thread, spawning._main_left_out():
        ours = multiprocessing.spawn.get_preparation_data("ours")
        users = users_thread.submit(multiprocessing.spawn.get_preparation_data, "user's").result()
    left_out = {"init_main_from_name", "init_main_from_path"}
    assert left_out.isdisjoint(ours)
    assert not left_out.isdisjoint(users)
    assert ours["sys_path"] == users["sys_path"]
    assert multiprocessing.spawn.get_preparation_data is prepare


# ---- threads


def test_threads_run_in_this_process_and_open_no_port() -> None:
    before = Footprint.now()
    session = open_session(LocalTaskRunner("threads", threads_per_worker=3))
    try:
        assert session.owned
        assert session.in_process
        assert session.flight_folder is None
        assert session.description == "threads, 1 worker × 3 threads"
        assert list(session.nthreads().values()) == [3]
        assert session.client.submit(os.getpid).result(timeout=20) == os.getpid()
        assert Footprint.now().ports == before.ports
    finally:
        session.close()
    assert not Footprint.now().beyond(before, NOTHING)


def test_sync_needs_no_session() -> None:
    with pytest.raises(UsageError, match="no session"):
        open_session(SyncTaskRunner())


# ---- classes


def test_a_named_class_is_started_and_ended() -> None:
    before = Footprint.now()
    runner = DaskTaskRunner(
        cluster_class="distributed.LocalCluster",
        cluster_kwargs={"n_workers": 1, "processes": False},
    )
    session = open_session(runner)
    try:
        assert session.owned
        assert not session.in_process  # nobody could know when arguments were pickled
        assert session.loss_budget
        assert listening() <= {"127.0.0.1"}
        assert session.client.submit(abs, -1).result(timeout=20) == 1
    finally:
        session.close()
    assert not Footprint.now().beyond(before, NOTHING)


def test_an_adaptive_cluster_starts_without_workers_and_grows(tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    session = open_session(
        DaskTaskRunner(
            adapt_kwargs={"minimum": 0, "maximum": 1, "interval": "50ms"},
            performance_report_path=str(report),
        )
    )
    try:
        assert session.nthreads() == {}
        assert "adaptive" in session.description
        assert session.client.submit(abs, -1).result(timeout=30) == 1
    finally:
        session.close()
    assert "<html" in report.read_text()


@pytest.mark.parametrize(
    ("runner", "said"),
    [
        pytest.param(DaskTaskRunner(cluster_class=dict), "no Dask cluster", id="no-cluster"),
        pytest.param(
            DaskTaskRunner(cluster_class="distributed.LocalCluster", cluster_kwargs={"nope": 1}),
            "nope",
            id="unknown-argument",
        ),
        pytest.param(
            DaskTaskRunner(client_kwargs={"nope": 1}, cluster_kwargs={"processes": False}),
            "nope",
            id="unknown-client-argument",
        ),
    ],
)
def test_arguments_that_a_class_does_not_take(runner: DaskTaskRunner, said: str) -> None:
    before = Footprint.now()
    with pytest.raises((UsageError, ClusterError), match=said):
        open_session(runner)
    assert not Footprint.now().beyond(before, NOTHING)
