"""Sessions in real scripts: no ``__main__`` guard, a quiet terminal, Ctrl-C, a sudden death."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.foreign import eventually

OPEN = """
import os, sys
from daskflow.runner.cluster.providers import resolve_task_runner
from daskflow.runner.cluster.session import open_session
session = open_session(resolve_task_runner("processes"))
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Start Python on a script, in a session of its own as a terminal would; end it after."""
    monkeypatch.setenv("DASKFLOW_RUNNER__WORKERS", "1")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    started: list[subprocess.Popen[str]] = []

    def start(script: str, how: str = "file") -> subprocess.Popen[str]:
        (tmp_path / "script.py").write_text(script)
        arguments = {"file": ["script.py"], "stdin": ["-"], "-c": ["-c", script]}[how]
        process = subprocess.Popen(
            [sys.executable, *arguments],
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
def test_a_script_needs_no_guard_and_the_terminal_stays_quiet(start: Start, how: str) -> None:
    script = OPEN + (
        "print('the script runs')\n"
        "class Point:\n"
        "    def __init__(self, x): self.x = x\n"
        "def double(point): return Point(point.x * 2)\n"
        "print(session.client.submit(double, Point(21)).result().x)\n"
        "session.close()\n"
    )
    out, err = start(script, how).communicate(timeout=60)
    assert out == "the script runs\n42\n"
    assert err == ""


def test_a_killed_worker_and_its_heir_are_no_news_on_the_terminal(start: Start) -> None:
    script = OPEN + (
        "print('the script runs')\n"
        "def die(): os.kill(os.getpid(), 9)\n"
        "print(type(session.client.submit(die).exception()).__name__)\n"
        "print(session.client.submit(lambda: 'heir').result())\n"
        "session.close()\n"
    )
    out, err = start(script).communicate(timeout=60)
    assert out == "the script runs\nKilledWorker\nheir\n"
    assert err == ""


@pytest.mark.parametrize(
    "ending", ["", "raise SystemExit(0)", "session.client.submit(__import__('time').sleep, 99)"]
)
def test_a_script_that_forgets_to_close_leaves_nothing(
    start: Start, tmp_path: Path, ending: str
) -> None:
    process = start(OPEN + "print(*session.client.run(os.getpid).values())\n" + ending)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert not psutil.pid_exists(int(out))
    assert os.listdir(tmp_path / "tmp") == []


def test_ctrl_c_is_for_the_flow_process_to_decide(start: Start) -> None:
    # the flow process drains: it notes the Ctrl-C and still wants the result
    script = OPEN + (
        "import signal, time\n"
        "signal.signal(signal.SIGINT, lambda *_: print('noted', flush=True))\n"
        "def slow():\n"
        "    print('running', flush=True)\n"
        "    time.sleep(1)\n"
        "    return os.getpid()\n"
        "before = session.client.submit(os.getpid).result()\n"
        "print(session.client.submit(slow).result() == before)\n"
        "session.close()\n"
    )
    process = start(script)
    assert process.stdout
    assert process.stdout.readline() == "running\n"
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert out == "noted\nTrue\n"
    assert err == ""


def test_ctrl_c_while_workers_start_does_not_break_them(start: Start) -> None:
    script = (
        "import signal\n"
        "signal.signal(signal.SIGINT, lambda *_: None)\n"
        "print('ready', flush=True)\n" + OPEN + "print(session.client.submit(abs, -1).result())\n"
        "session.close()\n"
    )
    process = start(script)
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    family = psutil.Process(process.pid)
    eventually(lambda: len(family.children()) >= 2, within_s=30)  # resource tracker and worker
    for child in family.children():
        child.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert out == "1\n"
    assert err == ""


def test_a_killed_flow_process_leaves_no_worker_and_its_folder_to_the_next(
    start: Start, tmp_path: Path
) -> None:
    process = start(OPEN + "print(*session.client.run(os.getpid).values(), flush=True)\ninput()")
    assert process.stdout
    worker = psutil.Process(int(process.stdout.readline()))
    process.kill()
    eventually(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)
    assert len(os.listdir(tmp_path / "tmp")) == 1
    script = OPEN + "print(len(os.listdir(os.environ['TMPDIR'])))\nsession.close()\n"
    out, _ = start(script).communicate(timeout=60)
    assert out == "1\n"  # its own only
    assert os.listdir(tmp_path / "tmp") == []


def test_a_second_session_spares_the_folder_of_a_living_one(start: Start, tmp_path: Path) -> None:
    script = OPEN + (
        "second = open_session(resolve_task_runner('threads'))\n"
        "print(len(os.listdir(os.environ['TMPDIR'])), os.path.isdir(session.flight_folder))\n"
        "second.close(), session.close()\n"
    )
    out, _ = start(script).communicate(timeout=60)
    assert out == "2 True\n"
    assert os.listdir(tmp_path / "tmp") == []


def test_processes_of_the_user_still_import_main(start: Start) -> None:
    script = (
        "import multiprocessing\n"
        "def greet(queue): queue.put('from main')\n"
        "if __name__ == '__main__':\n"
        + "".join(f"    {line}\n" for line in OPEN.splitlines())
        + "    context = multiprocessing.get_context('spawn')\n"
        "    queue = context.Queue()\n"
        "    process = context.Process(target=greet, args=(queue,))\n"
        "    process.start()\n"
        "    print(queue.get(timeout=30))\n"
        "    process.join()\n"
        "    session.close()\n"
    )
    out, err = start(script).communicate(timeout=60)
    assert out == "from main\n"
    assert err == ""
