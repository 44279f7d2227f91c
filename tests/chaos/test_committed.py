"""Results that are committed are not made again, whatever becomes of the worker that made them."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import psutil

from daskflow import flow, task
from tests.foreign import eventually


def test_no_user_code_runs_again_for_committed_results_of_a_dead_worker(tmp_path, figure):
    folder = str(tmp_path)

    @task(persist_result=True)
    def make(number, folder):
        with open(Path(folder) / f"make-{number}", "a") as file:
            file.write("x")
        return np.full(50_000, number)  # too large to ride with its outcome

    @task
    def total(array, folder):
        with open(Path(folder) / "total", "a") as file:
            file.write("x")
        return float(array.sum())

    @flow
    def survives():
        made = make.map(range(10), folder)
        made.wait()
        pids = {future._run.pid for future in made}
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: not any(map(psutil.pid_exists, pids)))
        return len(pids), total.map(made, folder).result(), made[3].result().sum()

    killed, totals, third = survives()

    executions = sum(len(path.read_text()) for path in tmp_path.glob("make-*"))
    figure(f"{killed} workers killed, {executions - 10} re-executions of 10 committed runs")
    assert executions == 10
    assert totals == [50_000.0 * number for number in range(10)]
    assert third == 150_000
    assert (tmp_path / "total").read_text() == "x" * 10
