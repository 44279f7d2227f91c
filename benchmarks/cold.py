"""W7: processes that start cold, timed from outside.

Each contender is a new Python process.  What it costs beyond its control is what a user waits for
on top of Python itself, or of plain Dask, before a first result.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.cpu import CpuSeconds
from benchmarks.engines import settings
from benchmarks.harness import Case, WrongValue
from benchmarks.measurement import Timing

__all__ = ["TITLES", "cold_cases", "process_contender"]

_DIRECT = """
from daskflow import flow, task

@task
def inc(i):
    return i + 1

@flow
def direct():
    return inc(inc(40))

print(direct())
"""

_ONE_SUBMIT = """
from daskflow import flow, task

@task
def inc(i):
    return i + 1

@flow
def one_submit():
    return inc.submit(41).result()

print(one_submit())
"""

# The guard is Dask's need; the dashboard, on by default, is part of what a user waits for.
_RAW_SUBMIT = """
from distributed import Client, LocalCluster

def inc(i):
    return i + 1

if __name__ == "__main__":
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster) as client,
    ):
        print(client.submit(inc, 41).result())
"""

# Not the console script, which need not be on the PATH.
_COMMAND = [sys.executable, "-m", "daskflow.runner.cli.main"]

TITLES: Mapping[str, str] = {
    "W7.import": "import daskflow, against bare Python",
    "W7.help": "daskflow --help, against bare Python",
    "W7.direct": "a flow of direct calls, against bare Python",
    "W7.runs": "daskflow runs ls, against bare Python",
    "W7.submit": "a flow with one .submit on processes, against a LocalCluster",
}


def cold_cases(scratch: Path, *, controls_only: bool = False) -> list[Case]:
    """Return the cases of W7; scripts and run stores go below ``scratch``."""
    bare, raw = _python("pass"), _script(scratch, "raw_submit", _RAW_SUBMIT)
    contenders = {
        "W7.import": ("bare Python", bare, _python("import daskflow"), ""),
        "W7.help": ("bare Python", bare, [*_COMMAND, "--help"], None),
        "W7.direct": ("bare Python", bare, _script(scratch, "direct", _DIRECT), "42"),
        "W7.runs": ("bare Python", bare, [*_COMMAND, "runs", "ls"], None),
        "W7.submit": ("dask", raw, _script(scratch, "one_submit", _ONE_SUBMIT), "42"),
    }
    environment = {**os.environ, **settings(scratch / "home"), "DASKFLOW_RUNNER__WORKERS": "2"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package is compiled once

    def case(name: str) -> Case:
        control_name, control, subject, prints = contenders[name]
        control_prints = "42" if control is raw else ""
        runs = {control_name: process_contender(control, environment, scratch, control_prints)}
        if not controls_only:
            runs["daskflow"] = process_contender(subject, environment, scratch, prints)
        runs = {name: _compiled(run) for name, run in runs.items()}
        return Case(name, TITLES[name], 1, 1, runs)

    return [case(name) for name in contenders]


def _compiled(run: Callable[[], Timing]) -> Callable[[], Timing]:
    """Run once untimed before the first time, so that the modules of a checkout are compiled."""
    fresh = True

    def again() -> Timing:
        nonlocal fresh
        if fresh:
            run()
        fresh = False
        return run()

    return again


def _python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def _script(scratch: Path, name: str, code: str) -> list[str]:
    path = scratch / f"{name}.py"
    path.write_text(code, encoding="utf-8")
    return [sys.executable, str(path)]


def process_contender(
    command: Sequence[str], environment: Mapping[str, str], folder: Path, prints: str | None
) -> Callable[[], Timing]:
    """Return what runs a command and times it; `WrongValue` when it fails or prints otherwise.

    ``prints`` is what its stdout must be, None for anything.
    """
    return lambda: _timed(command, environment, folder, prints)


def _timed(
    command: Sequence[str], environment: Mapping[str, str], folder: Path, prints: str | None
) -> Timing:
    """Run a command to its end; CPU is that of the process and of all children it waited for."""
    cpu_before = _children_s()
    began = time.perf_counter()
    done = subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, check=False
    )
    wall_s = time.perf_counter() - began
    cpu_s = _children_s() - cpu_before
    if done.returncode or (prints is not None and done.stdout.strip() != prints):
        raise WrongValue(
            f"{command[-1]!r} ended with {done.returncode} and printed {done.stdout.strip()!r}, "
            f"expected 0 and {prints!r}:\n{done.stderr[-2000:]}"
        )
    return Timing(wall_s, CpuSeconds(driver=0.0, loop=0.0, workers=0.0, rest=cpu_s))


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
