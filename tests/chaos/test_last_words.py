"""Workers that die with a cause: the cause is told, counts are exact, nobody else is charged."""

from __future__ import annotations

import ctypes
import os
import signal
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner
from distributed import Client

from daskflow import DaskTaskRunner, flow, get_client, task
from daskflow.errors import TaskCrashed
from daskflow.runner.cli.main import cli
from daskflow.runner.store import open_store
from tests.foreign import eventually

LIMIT = "381.47 MiB"  # 400 MB


def executed(folder, name):
    """Note one execution where a killed worker cannot lose it."""
    with open(Path(folder) / name, "a") as file:
        file.write(f"{os.getpid()}\n")


def executions(folder, name):
    return len((Path(folder) / name).read_text().split())


@pytest.fixture(params=["owned", "foreign"])
def limited(request):
    """A task runner whose workers have nannies and a memory limit."""
    if request.param == "foreign":
        return request.getfixturevalue("nannied_cluster").address
    return DaskTaskRunner(cluster_kwargs={"n_workers": 2, "memory_limit": "400MB"})


def test_a_memory_bomb_is_told_with_limit_and_peak(limited, tmp_path, figure):
    @task(crash_retries=1, log_prints=True)
    def bomb(folder):
        import time

        executed(folder, "bomb")
        held = []
        while len(held) < 100:  # 20 MB each: more than the limit allows, less than the machine has
            held.append(bytearray(b"x") * 20_000_000)
            print(f"filled {len(held)}")
            time.sleep(0.03)

    @flow(task_runner=limited)
    def bombed():
        with pytest.raises(TaskCrashed) as crash:
            bomb.submit(str(tmp_path)).result(timeout=60)
        return str(crash.value)

    said = bombed()

    figure(f"{executions(tmp_path, 'bomb')} executions; {said.splitlines()[0]}")
    assert executions(tmp_path, "bomb") == 2
    assert "worker lost 2 times while executing it" in said
    assert f"MiB at its peak, the limit is {LIMIT}" in said
    assert "it logged: filled 1" in said


def test_poison_is_executed_as_often_as_allowed_and_its_cause_is_told(limited, tmp_path, figure):
    @task
    def innocent(number):
        return number

    def poison(name, folder):
        executed(folder, name)
        print(f"about to {name}")
        if name == "exit":
            os._exit(7)
        if name == "segfault":
            ctypes.string_at(0)
        os.kill(os.getpid(), signal.SIGKILL)

    budgets = {"exit": 0, "segfault": 1, "kill": 2}

    @flow(task_runner=limited)
    def poisoned():
        victims = {
            name: task(poison, name=name, crash_retries=budget, log_prints=True).submit(
                name, str(tmp_path)
            )
            for name, budget in budgets.items()
        }
        rest = innocent.map(range(50))
        assert rest.result(timeout=60) == list(range(50))
        said = {}
        for name, victim in victims.items():
            with pytest.raises(TaskCrashed) as crash:
                victim.result(timeout=60)
            said[name] = str(crash.value)
        return said, sum(future._run.crashes for future in rest)

    said, charged = poisoned()

    counts = {name: executions(tmp_path, name) for name in budgets}
    figure(f"executions {counts}, {charged} of 50 innocents charged; {said['segfault']}")
    assert counts == {name: budget + 1 for name, budget in budgets.items()}
    assert charged == 0
    assert "ended with exit code 7" in said["exit"]
    assert "was killed by SIGSEGV" in said["segfault"]
    assert "was killed by SIGKILL" in said["kill"]
    for name, text in said.items():
        assert "peak memory" in text
        assert f"it logged: about to {name}" in text


def test_a_nanny_that_was_starting_its_worker_when_the_flow_began_tells_the_cause(
    nannied_cluster, tmp_path, figure
):
    nannies = [psutil.Process(process.pid) for process in nannied_cluster.workers.values()]

    @task(crash_retries=0)
    def poison():
        os._exit(9)

    @flow(task_runner=nannied_cluster.address)
    def poisoned():
        assert get_client().nthreads() == {}
        victim = poison.submit()
        for nanny in nannies:
            nanny.resume()
        with pytest.raises(TaskCrashed) as crash:
            victim.result(timeout=60)
        return str(crash.value)

    with Client(nannied_cluster.address, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=30)
        try:
            for nanny in nannies:
                nanny.suspend()
            for pid in client.run(os.getpid).values():
                os.kill(pid, signal.SIGKILL)
            eventually(lambda: client.nthreads() == {}, within_s=20)
            said = poisoned()
        finally:
            for nanny in nannies:
                nanny.resume()
    figure(said)
    assert "ended with exit code 9" in said


def test_what_a_dead_worker_left_behind_is_shown_by_the_command_line(scripted, home):
    body = scripted(["die", "ok"])

    @flow
    def one_loss():
        return task(body, name="victim").submit("x").result()

    assert one_loss() == 2

    with open_store(f"sqlite:///{home}/runs.db") as store:
        run = store.find_flow_run("@last")
        (lost,) = [e for e in store.events(run.flow_run_id) if e.event == "daskflow.worker.lost"]
        waits = [t for t in store.transitions(run.flow_run_id, 0) if t.state == "AwaitingRetry"]
    assert lost.resource.startswith("tcp://127.0.0.1:")
    assert any(lost.resource in (wait.message or "") for wait in waits)
    assert lost.payload["executing"] == ["victim-0"]
    assert lost.payload["exit_code"] == -signal.SIGKILL
    assert lost.payload["peak_memory"] > 20_000_000
    shown = CliRunner().invoke(cli, ["runs", "show", "@last"]).output
    assert "was killed by SIGKILL; peak memory" in shown
    assert "victim-0" in shown
