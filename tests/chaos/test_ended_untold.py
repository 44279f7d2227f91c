"""Runs that had ended when their worker was killed, and of which nothing was told yet."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from daskflow import DaskTaskRunner, flow, task
from daskflow.errors import TaskCrashed


def test_what_may_run_once_and_had_ended_untold_is_not_executed_again(tmp_path, figure):
    @task(crash_retries=0)
    def once(number, folder):
        with open(Path(folder) / "executed", "a") as file:
            file.write(f"{number}\n")
        if number < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    @flow(task_runner=DaskTaskRunner(cluster_kwargs={"n_workers": 1}))
    def killed():
        once.map(range(100), str(tmp_path)).wait()  # so that it is known to be quick
        futures = once.map([*range(100, 110), -1], str(tmp_path))
        futures.wait()
        return {
            number: (each.state.name, type(each.result(raise_on_failure=False)))
            for number, each in zip([*range(100, 110), -1], futures, strict=True)
        }

    ends = killed()
    executed = [int(line) for line in (tmp_path / "executed").read_text().split()]
    untold = {number for number, end in ends.items() if end == ("Crashed", TaskCrashed)} - {-1}
    figure(f"{len(untold & set(executed))} of 10 had ended untold; {len(executed)} executions")
    assert ends.pop(-1) == ("Crashed", TaskCrashed)
    assert all(end in (("Completed", int), ("Crashed", TaskCrashed)) for end in ends.values())
    assert len(executed) == len(set(executed))
    assert untold & set(executed)  # else this has tested nothing
