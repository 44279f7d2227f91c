"""`daskflow runs cancel`: a flow of another process ends, whatever it is just doing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import psutil
import pytest

from daskflow.errors import NotFoundError, UsageError
from daskflow.runner.cancelling import cancel_flow_run
from daskflow.runner.store import open_store
from tests.foreign import ROOT, eventually

SCRIPT = """
import asyncio, sys, threading, time
from pathlib import Path
from daskflow import flow, runtime, task

_, runner, style, folder = sys.argv
folder = Path(folder)

@task
def polite(number):
    (folder / f"started-{number}").touch()
    while not runtime.task_run.cancelled():
        time.sleep(0.01)
    (folder / f"told-{number}").touch()

@task
def stubborn(number):
    (folder / f"started-{number}").touch()
    with open(folder / "pipe") as pipe:  # until somebody opens it for writing
        return pipe.read()

@task(retries=3)
def blocks():
    (folder / "started-0").touch()
    (folder / "started-1").touch()
    time.sleep(600)

@flow(task_runner=runner, flow_run_name="long", cancel_grace_seconds=600, retries=3)
def plain():
    if style == "inline":
        blocks()
    for number in range(20):
        stubborn.submit(number)
    time.sleep(600)

@flow(task_runner=runner, flow_run_name="long", retries=3)
async def coroutine():
    for number in range(20):
        polite.submit(number)
    await asyncio.sleep(600)

@flow(task_runner=runner, flow_run_name="long", retries=3)
def waits():
    return [polite.submit(number) for number in range(20)]

if style == "async":
    asyncio.run(coroutine())
elif style == "in a thread":
    thread = threading.Thread(target=waits)
    thread.start()
    thread.join()
else:
    plain()
"""


def listening():
    return {
        (c.pid, c.laddr.port)
        for c in psutil.net_connections("inet")
        if c.status == psutil.CONN_LISTEN
    }


@pytest.mark.parametrize(
    ("runner", "style", "grace"),
    [
        pytest.param("processes", "plain", "0.5", id="processes-that-ignore-it"),
        pytest.param("threads", "async", None, id="threads-of-an-async-flow"),
        pytest.param("threads", "in a thread", None, id="a-flow-outside-the-main-thread"),
        pytest.param("sync", "inline", None, id="sync-in-a-blocking-call"),
    ],
)
def test_a_flow_ends_that_another_process_cancels(
    runner, style, grace, tmp_path, home, monkeypatch, figure
):
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "script.py").write_text(SCRIPT)
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setenv("DASKFLOW_RUNNER__WORKERS", "2")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    process = subprocess.Popen(
        [sys.executable, "script.py", runner, style, str(tmp_path)],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        eventually(lambda: len(list(tmp_path.glob("started-*"))) >= 2, within_s=60)
        family = psutil.Process(process.pid).children(recursive=True)
        pids = {process.pid, *(child.pid for child in family)}
        held = {each for each in listening() if each[0] in pids}
        with open_store(f"sqlite:///{home}/runs.db") as store:
            eventually(lambda: store.flow_runs(), within_s=20)
        began = time.monotonic()
        asks = [sys.executable, "-m", "daskflow.runner.cli.main", "runs", "cancel", "long"]
        asks += ["--json", *(["--grace", grace] if grace else [])]
        asked = subprocess.run(asks, capture_output=True, text=True, timeout=60, check=False)
        took = time.monotonic() - began
        _, said = process.communicate(timeout=30)
        _, alive = psutil.wait_procs(family, timeout=5)
    finally:
        process.kill()
        process.wait(10)
        process.stderr.close()

    started, told = (len(list(tmp_path.glob(f"{what}-*"))) for what in ("started", "told"))
    left, still = list(temporary.glob("daskflow-*")), held & listening()
    figure(
        f"ended {took:.1f} s after the command; {started} started, {told} knew of it; "
        f"{len(alive)} processes, {len(still)} ports, {len(left)} temporary folders left"
    )
    answer = json.loads(asked.stdout)
    assert (asked.returncode, answer["state"]) == (0, "Cancelled"), asked.stderr
    assert answer["message"] == f"cancelled by {answer['asked_by']}"
    assert "FlowCancelled: cancelled by" in said
    assert started == 2
    assert told == (2 if style in ("async", "in a thread") else 0)
    assert (alive, left, still) == ([], [], set())
    assert took < 12
    with open_store(f"sqlite:///{home}/runs.db") as store:
        run = store.find_flow_run("long")
        states = [each.state for each in store.transitions(run.flow_run_id, None)]
        counts = store.counts(run.flow_run_id)
    assert (run.state, run.attempt) == ("Cancelled", 1)
    assert states[-3:] == ["Running", "Cancelling", "Cancelled"]
    assert counts == {
        "plain": {"Cancelled": 20},
        "inline": {"Cancelled": 1},
    }.get(style, {"Completed": 2, "Cancelled": 18})
    with pytest.raises(UsageError, match=r"'long' is Cancelled \(cancelled by .*nothing to cancel"):
        cancel_flow_run("long")
    with pytest.raises(NotFoundError, match="nearest: long"):
        cancel_flow_run("lomg")


def test_a_flow_run_whose_process_is_gone_is_crashed_and_cannot_be_cancelled(tmp_path):
    script = "import os, time\nfrom daskflow import flow\n"
    script += "@flow(task_runner='sync', flow_run_name='killed')\ndef dies():\n"
    script += "    time.sleep(0.3)\n    os.kill(os.getpid(), 9)\ndies()\n"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, timeout=60, check=False)
    with pytest.raises(UsageError, match=r"'killed' is Crashed \(its process .* is gone\)"):
        cancel_flow_run("killed")
