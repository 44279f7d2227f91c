"""`daskflow run` as a shell sees it: exit codes, what is printed where, nothing left over."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import psutil
import pytest

COMMAND = [sys.executable, "-m", "daskflow.runner.cli.main"]
NOBODY = "tcp://127.0.0.1:1"
# the same command, which gives up a scheduler after a second instead of ten
IMPATIENT = """
from daskflow.runner.cli.main import cli
from daskflow.runner.cluster.session import open_session
open_session.__defaults__ = (1.0,)
cli(prog_name="daskflow")
"""
SCRIPT = """
import os
import threading
from pathlib import Path
from daskflow import flow, task

@task
def square(x):
    if x == bad():
        raise ValueError(f"cannot square {x}")
    return x * x

def bad():
    return int(os.environ.get("BAD", "-1"))

@task
def add(xs):
    return sum(xs)

@task
def linger(folder):
    Path(folder, f"pid-{os.getpid()}").touch()
    while not Path(folder, "leave").exists():
        threading.Event().wait(0.05)

@flow
def squares(n: int = 3):
    total = add.submit(square.map(range(n))).result()
    print("the sum is", total)
    return total

@flow
def careless(n: int = 3):
    square.map(range(n))

@flow
def stuck(folder: str):
    linger.submit(folder).result()
"""


@pytest.fixture
def script(tmp_path: Path) -> str:
    path = tmp_path / "script_cli.py"
    path.write_text(SCRIPT)
    return str(path)


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=90,
        env={**os.environ, "DASKFLOW_RUNNER__WORKERS": "1", **environment},
    )


@pytest.mark.parametrize("task_runner", ["processes", "threads", "sync"])
def test_flow_completes_and_its_record_agrees(script, task_runner):
    ran = run("run", f"{script}:squares", "-p", "n=5", "--json", "--task-runner", task_runner)
    assert ran.returncode == 0, ran.stderr
    ending = json.loads(ran.stdout)
    assert (ending["state"], ending["counts"]) == ("Completed", {"Completed": 6})
    assert "the sum is 30" in ran.stderr
    assert ": 6 completed · " in ran.stderr.splitlines()[-1]
    page = json.loads(run("runs", "show", "@last", "--json").stdout)
    assert page["flow_run"]["flow_run_id"] == ending["id"]
    assert [(s["task"], s["total"]) for s in page["stages"]] == [("square", 5), ("add", 1)]
    assert task_runner in page["flow_run"]["task_runner"]


def test_name_and_prints_of_the_flow(script):
    ran = run("run", f"{script}:squares", "--name", "nightly", "--task-runner", "threads")
    assert (ran.returncode, ran.stdout) == (0, "the sum is 5\n")
    listed = [json.loads(line) for line in run("runs", "ls", "--json").stdout.splitlines()]
    assert [(one["name"], one["flow_name"], one["state"]) for one in listed] == [
        ("nightly", "squares", "Completed")
    ]


def test_failed_task_is_told_with_its_reason_and_the_command_that_helps(script):
    ran = run("run", f"{script}:squares", "--name", "nightly", "--task-runner", "threads", BAD="1")
    assert ran.returncode == 1
    assert "ValueError: cannot square 1" in ran.stderr
    assert ran.stderr.splitlines()[-2] == "look closer: daskflow runs show nightly"
    assert "1 failed" in ran.stderr.splitlines()[-1]


def test_failures_left_behind_fail_the_flow(script):
    ran = run("run", f"{script}:careless", "--json", "--task-runner", "threads", BAD="1")
    assert ran.returncode == 1, ran.stderr
    assert 'raise ValueError(f"cannot square {x}")' in ran.stderr  # the task's own lines
    assert "daskflow/runner/" not in ran.stderr
    ending = json.loads(ran.stdout)
    assert ending["state"] == "Failed"
    assert ending["counts"] == {"Completed": 2, "Failed": 1}


@pytest.mark.parametrize(
    ("target", "options", "code", "said"),
    [
        pytest.param("", [], 2, "3 flows: choose", id="which-flow"),
        pytest.param(":nothing", [], 3, "no flow 'nothing'", id="no-such-flow"),
        pytest.param(":squares", ["-p", "n=many"], 2, "n", id="parameter-of-another-type"),
        pytest.param(":squares", ["-p", "m=1"], 2, "m", id="unknown-parameter"),
        pytest.param(
            ":squares", ["--task-runner", "proceses"], 2, "'processes'", id="unknown-runner"
        ),
    ],
)
def test_what_cannot_start_says_why_and_records_nothing(script, target, options, code, said):
    ran = run("run", f"{script}{target}", *options)
    assert (ran.returncode, ran.stdout) == (code, ""), ran.stderr
    assert said in ran.stderr
    assert "Traceback" not in ran.stderr
    assert run("runs", "ls").stdout == ""


def test_unreachable_cluster_exits_with_6(script):
    ran = subprocess.run(
        [sys.executable, "-c", IMPATIENT, "run", f"{script}:squares", "--task-runner", NOBODY],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert ran.returncode == 6
    assert f"ClusterError: The Dask scheduler at {NOBODY}" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("patient", [True, False], ids=["drained", "stopped-at-once"])
def test_interrupted_flow_exits_with_130_and_leaves_no_process(
    script, tmp_path, eventually, number, patient
):
    told = (tmp_path / "told").open("w+")
    process = subprocess.Popen(
        [*COMMAND, "run", f"{script}:stuck", "-p", f"folder={tmp_path}"],
        stderr=told,
        env={**os.environ, "DASKFLOW_RUNNER__WORKERS": "1"},
    )
    with told:
        try:
            eventually(lambda: list(tmp_path.glob("pid-*")), within_s=30)
            family = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(number)
            eventually(lambda: "Ctrl-C again" in read(told), within_s=10)
            if patient:
                (tmp_path / "leave").touch()
            else:
                process.send_signal(number)
            process.wait(30)
        finally:
            process.kill()
            process.wait(10)
        said = read(told)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert ("1 completed" if patient else "1 cancelled") in said.splitlines()[-1]
    eventually(lambda: not any(p.is_running() for p in family), within_s=10)
    (listed,) = run("runs", "ls", "--json").stdout.splitlines()
    assert json.loads(listed)["state"] == "Cancelled"


def read(file: IO[str]) -> str:
    return Path(file.name).read_text()


def test_script_that_calls_its_flow_runs_it_once(tmp_path):
    path = tmp_path / "script_top.py"
    path.write_text(
        "from daskflow import flow\n@flow\ndef f(x: int = 1):\n    print('x is', x)\nf(2)\n"
    )
    ran = run("run", str(path), "-p", "x=3", "--task-runner", "sync")
    assert (ran.returncode, ran.stdout) == (0, "x is 3\n"), ran.stderr
