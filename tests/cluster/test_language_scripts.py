"""Flows in real scripts: no ``__main__`` guard, from stdin and -c, and what Ctrl-C leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from daskflow.config import get_settings
from daskflow.runner.store import open_store
from tests.foreign import eventually

Start = Callable[..., "subprocess.Popen[str]"]

SCRIPT = """
import dataclasses, json, os, sys
from daskflow import flow, get_run_logger, task

OFFSET = 10

@dataclasses.dataclass
class Point:
    x: int

class Odd(Exception):
    pass

def helper(x):
    return x + OFFSET

@task
def move(point, by=1):
    get_run_logger().info("moving %d", point.x)
    return Point(helper(point.x) + by)

@task
def fail():
    raise Odd("mine")

@flow
def main():
    moved = move.map([Point(0), Point(1)])
    bad = fail.submit()
    try:
        bad.result()
    except Odd as error:
        caught = str(error)
    pids = {task(os.getpid).submit().result()}
    return [point.x for point in moved.result()], caught, os.getpid() in pids

print(json.dumps(main()))
"""


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Start Python on a script in a session of its own, as a terminal would; end it after."""
    monkeypatch.setenv("DASKFLOW_RUNNER__WORKERS", "2")
    started: list[subprocess.Popen[str]] = []

    def start(script: str, how: str = "file", *arguments: str) -> subprocess.Popen[str]:
        (tmp_path / "script.py").write_text(script)
        program = {"file": ["script.py"], "stdin": ["-"], "-c": ["-c", script]}[how]
        process = subprocess.Popen(
            [sys.executable, *program, *arguments],
            cwd=tmp_path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        if how == "stdin" and process.stdin:
            process.stdin.write(script)
            process.stdin.close()
            process.stdin = None
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("how", ["file", "stdin", "-c"])
def test_a_script_without_a_guard_runs_functions_and_classes_of_main(start, how):
    out, err = start(SCRIPT, how).communicate(timeout=60)
    assert out.splitlines() == [json.dumps([[11, 12], "mine", False])], err
    assert "Traceback" not in err
    lines = [line.partition(" | ")[2] for line in err.splitlines() if "moving" in line]
    assert sorted(lines) == ["INFO    | move-0 - moving 0", "INFO    | move-1 - moving 1"]


INTERRUPTED = """
import sys
from daskflow import flow, task

@task
def wait(path, number):
    open(f"{path}.{number}", "w").close()
    with open(path) as pipe:  # until somebody opens it for writing
        return pipe.read()

@flow(cancel_grace_seconds=float(sys.argv[2]))
def main():
    futures = [wait.submit(sys.argv[1], number) for number in range(50)]
    print("submitted", flush=True)
    return [future.result() for future in futures]

main()
"""


@pytest.mark.parametrize(
    ("grace", "signals"),
    [pytest.param("0.3", 1, id="grace-is-over"), pytest.param("600", 2, id="twice")],
)
def test_ctrl_c_ends_the_flow_and_every_process(start, tmp_path, grace, signals):
    pipe = str(tmp_path / "pipe")
    os.mkfifo(pipe)
    process = start(INTERRUPTED, "file", pipe, grace)
    assert process.stdout is not None
    assert process.stdout.readline() == "submitted\n"
    eventually(lambda: len(list(tmp_path.glob("pipe.*"))) == 2, within_s=30)
    family = psutil.Process(process.pid).children(recursive=True)

    for count in range(signals):
        if count:
            eventually(lambda: "Ctrl-C again" in _read_line(process), within_s=20)
        process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)

    assert process.returncode in (-signal.SIGINT, 130), err
    assert "KeyboardInterrupt" in err
    _, alive = psutil.wait_procs(family, timeout=5)
    assert alive == []
    with open_store(get_settings().store.url) as store:
        row = store.find_flow_run("@last")
    assert (row.state, row.message) == ("Cancelled", "interrupted")
    assert counts() == {"Cancelled": 50}


def test_what_ends_within_the_grace_is_kept(start, tmp_path):
    pipe = str(tmp_path / "pipe")
    os.mkfifo(pipe)
    process = start(INTERRUPTED, "file", pipe, "60")
    assert process.stdout is not None
    assert process.stdout.readline() == "submitted\n"
    eventually(lambda: len(list(tmp_path.glob("pipe.*"))) == 2, within_s=30)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: it reaches no worker
    eventually(lambda: counts().get("Cancelled") == 48, within_s=20)
    with open(pipe, "w"):
        pass  # both of them read the end of the pipe
    process.communicate(timeout=20)
    assert counts() == {"Completed": 2, "Cancelled": 48}


def counts() -> dict[str, int]:
    with open_store(get_settings().store.url) as store:
        row = store.find_flow_run("@last")
        return store.counts(row.flow_run_id)


def _read_line(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    return process.stderr.readline()
