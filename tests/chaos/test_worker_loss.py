"""Real worker processes that are killed: what is charged, what runs again, what is recorded."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import psutil

from daskflow import flow, task
from daskflow.runner.store import open_store
from tests.foreign import eventually


@task
def innocent(number):
    """Completes uncharged; twice executed if its outcome was lost with the worker it ran on."""
    return number


def test_a_killed_worker_costs_one_retry_and_is_recorded(scripted, home):
    dies_once = scripted(["die", "ok"])
    poisoned = task(dies_once, name="dies-once")

    @flow
    def two_kinds():
        victim = poisoned.submit("x")
        rest = innocent.map(range(40))
        return victim.result(), rest.result()

    assert two_kinds() == (2, list(range(40)))

    assert dies_once.attempts("x") == 2
    with open_store(f"sqlite:///{home}/runs.db") as store:
        run = store.find_flow_run("@last")
        rows = {row.number: row for row in store.task_runs(run.flow_run_id)}
        assert run.state == "Completed"
        assert (rows[0].crashes, rows[0].attempt, rows[0].state) == (1, 2, "Completed")
        assert all(row.crashes == 0 for number, row in rows.items() if number)
        history = [(t.state, t.message or "") for t in store.transitions(run.flow_run_id, 0)]
        assert any(state == "AwaitingRetry" and "worker lost" in text for state, text in history)
        assert history[-1][0] == "Completed"
        events = [event.event for event in store.events(run.flow_run_id)]
        assert "daskflow.worker.lost" in events


def test_retries_are_not_spent_by_lost_workers_nor_crash_retries_by_exceptions(scripted):
    body = scripted(["raise", "die", "raise", "ok"])
    mixed = task(body, name="mixed", retries=2, crash_retries=1)

    @flow
    def both_budgets():
        return mixed.submit("x").result()

    assert both_budgets() == 4


def test_large_results_that_die_with_their_worker_are_made_again_and_charge_nobody():
    @task
    def make(value):
        return np.full(200_000, value)

    @task
    def add(left, right):
        return left + right

    @task
    def worker_pid(array):
        return os.getpid()

    @task
    def total(array):
        return float(array.sum())

    @flow
    def chain_of_large_values():
        made = make.map(range(6))
        sums = add.map(made[::2], made[1::2])
        sums.wait()
        for pid in {future._run.pid for future in sums}:
            os.kill(pid, signal.SIGKILL)
        totals = total.map(sums).result()
        return (
            totals,
            sums[0].result().sum(),
            made[5].result().sum(),
            [future._run.failures for future in [*made, *sums]],
        )

    totals, first_sum, last_made, failures = chain_of_large_values()

    assert totals == [200_000.0, 1_000_000.0, 1_800_000.0]
    assert (first_sum, last_made) == (200_000, 1_000_000)
    assert set(failures) == {0}


def test_a_worker_process_that_dies_on_a_foreign_cluster_is_survived(external_cluster, tmp_path):
    gate = tmp_path / "gate"

    def body(number, folder, gate):
        import os
        import pathlib
        import time

        attempts = pathlib.Path(folder) / str(number)
        attempts.mkdir(exist_ok=True)
        (attempts / str(os.getpid())).touch()
        deadline = time.monotonic() + 60
        while not pathlib.Path(gate).exists():  # holds the slot until the test has killed a worker
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return number

    held = task(body, name="held")

    @flow(task_runner=external_cluster.address)
    def on_a_foreign_cluster():
        futures = held.map(range(6), str(tmp_path), str(gate))
        started = tmp_path / "0"
        eventually(lambda: started.exists() and any(started.iterdir()), within_s=30)
        executing = {int(pid.name) for pid in started.iterdir()}
        # it has told that it runs: there is no nanny that could tell what a dead worker executed
        eventually(lambda: futures[0]._run.started_at is not None, within_s=30)
        victim = next(
            name for name, worker in external_cluster.workers.items() if worker.pid in executing
        )
        external_cluster.kill_worker(victim)
        gate.touch()
        return futures.result(), [future._run.crashes for future in futures]

    results, crashes = on_a_foreign_cluster()

    assert results == list(range(6))
    assert crashes == [1, 0, 0, 0, 0, 0]
    assert len(list((tmp_path / "0").iterdir())) == 2


def test_a_flow_process_that_is_killed_leaves_no_worker(tmp_path):
    import subprocess
    import sys

    import psutil

    script = tmp_path / "held.py"
    script.write_text(
        "import pathlib, os\n"
        "from daskflow import flow, task\n"
        "@task\n"
        "def hold(folder):\n"
        "    pathlib.Path(folder, f'worker-{os.getpid()}').touch()\n"
        "    import threading; threading.Event().wait(60)\n"
        "@flow\n"
        "def held(folder: str):\n"
        "    hold.submit(folder).result()\n"
        f"held({str(tmp_path)!r})\n"
    )
    process = subprocess.Popen([sys.executable, str(script)])
    try:
        eventually(lambda: list(tmp_path.glob("worker-*")), within_s=30)
        children = psutil.Process(process.pid).children(recursive=True)
        assert children
    finally:
        process.kill()
        process.wait(10)
    _, alive = psutil.wait_procs(children, timeout=15)
    assert not alive


def test_a_task_gets_the_result_of_its_own_run_though_the_worker_that_holds_it_dies(tmp_path):
    @task
    def holds(pids):
        with open(pids, "a") as file:
            file.write(f"{os.getpid()}\n")
        return np.full(100_000, 7)

    @task
    def asks(pids):
        holder = os.getpid()
        while holder == os.getpid():  # its slot is free while it waits, so it may be here
            future = holds.submit(pids)
            future.wait()
            holder = int(Path(pids).read_text().split()[-1])
        os.kill(holder, signal.SIGKILL)
        eventually(lambda: not psutil.pid_exists(holder))
        before = len(Path(pids).read_text().split())
        return int(future.result(timeout=60).sum()), before

    @flow
    def nests():
        return asks.submit(str(tmp_path / "pids")).result(timeout=90)

    total, before = nests()
    assert total == 700_000
    assert len((tmp_path / "pids").read_text().split()) == before + 1
