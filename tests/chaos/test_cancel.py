"""A flow that is cancelled with work running and queued: what is queued never starts."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from daskflow import flow, runtime, task
from daskflow.errors import TaskCrashed
from daskflow.runner.store import open_store
from tests.foreign import eventually


class Boom(Exception):
    """What ends the flow function."""


def test_queued_runs_never_start_after_a_cancellation(cluster, tmp_path, home, figure):
    gate = tmp_path / "gate"

    @task
    def hold(number, folder):
        (Path(folder) / f"started-{number}").touch()
        eventually((Path(folder) / "gate").exists, within_s=60)
        return number

    def counts():
        with open_store(f"sqlite:///{home}/runs.db") as store:
            return store.counts(store.find_flow_run("@last").flow_run_id)

    def open_gate():
        try:
            eventually(lambda: counts().get("Cancelled", 0) >= 100, within_s=30)
        finally:
            gate.touch()

    opener = threading.Thread(target=open_gate)

    @flow(task_runner=cluster)
    def cancelled():
        for number in range(102):
            hold.submit(number, str(tmp_path))
        eventually(lambda: len(list(tmp_path.glob("started-*"))) == 2, within_s=30)
        opener.start()
        raise Boom

    with pytest.raises(Boom):
        cancelled()
    opener.join(30)

    started = len(list(tmp_path.glob("started-*")))
    figure(f"{started - 2} of 100 queued runs started; {counts()}")
    assert started == 2
    assert counts() == {"Completed": 2, "Cancelled": 100}


@pytest.mark.parametrize("where", ["cluster", "threads"])
def test_a_body_may_ask_whether_it_is_still_wanted(where, request, tmp_path):
    runner = request.getfixturevalue("cluster") if where == "cluster" else where

    @task
    def asks(folder):
        (Path(folder) / "started").touch()
        eventually(runtime.task_run.cancelled, within_s=30)
        (Path(folder) / "ended").touch()

    @flow(task_runner=runner)
    def cancelled():
        asks.submit(str(tmp_path))
        eventually((tmp_path / "started").exists, within_s=30)
        raise Boom

    with pytest.raises(Boom):
        cancelled()
    assert (tmp_path / "ended").exists()
    assert not runtime.task_run.cancelled()


class Unpicklable(Exception):
    def __init__(self):
        super().__init__("holds a lock")
        self.lock = threading.Lock()


def _endless(n):
    return _endless(n + 1) + 1


def _raise(error):
    raise error


BODIES = {
    "exit": (lambda: sys.exit(3), "Crashed", "SystemExit: 3"),
    "interrupt": (lambda: _raise(KeyboardInterrupt()), "Crashed", "KeyboardInterrupt"),
    "recursion": (lambda: _endless(0), "Failed", "RecursionError"),
    "unpicklable exception": (lambda: _raise(Unpicklable()), "Failed", "holds a lock"),
    "unpicklable result": (threading.Lock, "Failed", "pickle"),
}


def test_no_exception_and_no_result_of_a_task_ends_its_worker(cluster, figure):
    def pids():
        return {nanny.pid for nanny in list(cluster.workers.values())}

    @flow(task_runner=cluster)
    def lives():
        before, ends = pids(), {}
        for name, (body, _, _) in BODIES.items():
            future = task(body, name=name).submit()
            future.wait(timeout=20)
            error = future.result(raise_on_failure=False)
            ends[name] = future.state.name, str(error), type(error), future._run.crashes
        return before, ends, pids()

    before, ends, after = lives()

    figure(f"{ {name: end[0] for name, end in ends.items()} }, pids {before} → {after}")
    assert after == before
    for name, (_, state, text) in BODIES.items():
        said = f"{ends[name][2].__name__}: {ends[name][1]}"
        assert (ends[name][0], ends[name][3]) == (state, 0), name
        assert text in said, name
        assert (ends[name][2] is TaskCrashed) == (state == "Crashed")
