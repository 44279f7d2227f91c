"""Bodies that hang: async, in a thread, in a process of their own; each is TimedOut on time."""

from __future__ import annotations

import asyncio
import ctypes
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from daskflow import flow, get_run_logger, task
from daskflow.errors import TaskCrashed, TaskTimedOut
from tests.foreign import eventually

LIMIT_S = 1.0
LONG_S = 600


def alive(pids):
    """Those of the processes that a body has noted that are there, zombies left out."""
    found = []
    for pid in map(int, pids.read_text().split()):
        with suppress(psutil.NoSuchProcess):
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
    return found


def test_hanging_bodies_are_timed_out_on_time_and_hard_ones_are_gone(cluster, tmp_path, figure):
    pids, gate = tmp_path / "pids", tmp_path / "gate"

    @task(timeout_seconds=LIMIT_S)
    async def hangs_async(gate):
        await asyncio.sleep(LONG_S)

    @task(timeout_seconds=LIMIT_S)
    def hangs_soft(gate):
        eventually(Path(gate).exists, within_s=60)

    @task(timeout_seconds=LIMIT_S, timeout_mode="hard", log_prints=True)
    def hangs_hard(gate):
        child = subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({LONG_S})"])
        pids.write_text(f"{os.getpid()} {child.pid}")
        print("about to block")
        ctypes.CDLL(None).sleep(LONG_S)  # no Python exception gets in here

    @flow(task_runner=cluster)
    def hanging():
        before = {nanny.pid for nanny in list(cluster.workers.values())}
        took = {}
        try:
            for each in (hangs_async, hangs_hard, hangs_soft):
                future = each.submit(str(gate))
                future.wait(timeout=30)
                (error,) = [future.result(raise_on_failure=False)]
                assert (future.state.name, type(error)) == ("TimedOut", TaskTimedOut)
                took[each.name] = future._run.run_s
        finally:
            gate.touch()
        return took, before == {nanny.pid for nanny in list(cluster.workers.values())}

    took, same = hanging()

    eventually(lambda: not alive(pids), within_s=5)  # killed, and gone when the kernel has done it
    left = alive(pids)
    shown = {name: round(seconds, 2) for name, seconds in took.items()}
    figure(f"limit {LIMIT_S:g} s, timed out after {shown} s; {len(left)} processes of hard left")
    assert same
    assert left == []
    # the hard one's time is told with that of starting its process
    assert LIMIT_S <= took["hangs_async"] < LIMIT_S + 0.5
    assert LIMIT_S <= took["hangs_soft"] < LIMIT_S + 0.5
    assert LIMIT_S <= took["hangs_hard"] < LIMIT_S + 5


@pytest.mark.parametrize("runner", ["cluster", "threads"])
def test_a_hard_body_in_time_is_like_any_other(runner, request, caplog):
    where = request.getfixturevalue("cluster") if runner == "cluster" else runner

    @task(timeout_seconds=60, timeout_mode="hard", log_prints=True)
    def adds(x, y):
        print(f"adding {y}")
        get_run_logger().info("pid %d", os.getpid())
        return x + y

    @task(timeout_seconds=60, timeout_mode="hard", retries=1)
    def fails():
        raise ValueError("on purpose")

    @task(timeout_seconds=60, timeout_mode="hard")
    def dies():
        os._exit(7)

    @flow(task_runner=where)
    def in_time():
        total = adds.submit(adds.submit(1, 2), 3)
        failed, died = fails.submit(), dies.submit()
        return total.result(), *(f.result(raise_on_failure=False) for f in (failed, died))

    state = in_time(return_state=True)
    total, failed, died = state.result(raise_on_failure=False)
    assert total == 6
    assert (type(failed), str(failed)) == (ValueError, "on purpose")
    assert type(died) is TaskCrashed
    assert "ended with code 7" in str(died)
    assert "adding 3" in caplog.messages
    logged = {message for message in caplog.messages if message.startswith("pid ")}
    assert f"pid {os.getpid()}" not in logged
    assert len(logged) == 2
