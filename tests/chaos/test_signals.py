"""Ctrl-C and SIGTERM, once and twice: the flow ends within its grace and leaves nothing behind.

`tests/cluster/test_language_scripts.py` has Ctrl-C once, and to the whole group of a terminal.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from daskflow.runner.store import open_store
from tests.foreign import ROOT, eventually

SCRIPT = """
import sys
from daskflow import flow, task

@task
def wait(path, number):
    open(f"{path}.{number}", "w").close()
    with open(path) as pipe:  # until somebody opens it for writing
        return pipe.read()

@flow(cancel_grace_seconds=float(sys.argv[2]))
def main():
    return [f.result() for f in [wait.submit(sys.argv[1], number) for number in range(20)]]

main()
"""


def ports(pids):
    """Ports that these processes listen on."""
    found = set()
    for connection in psutil.net_connections("inet"):
        if connection.pid in pids and connection.status == psutil.CONN_LISTEN:
            found.add(connection.laddr.port)
    return found


def listening():
    return {c.laddr.port for c in psutil.net_connections("inet") if c.status == psutil.CONN_LISTEN}


@pytest.mark.parametrize(
    ("signum", "times", "grace"),
    [
        pytest.param(signal.SIGINT, 2, 600, id="SIGINT-twice"),
        pytest.param(signal.SIGTERM, 1, 0.5, id="SIGTERM-once"),
    ],
)
def test_a_signal_ends_the_flow_and_all_that_it_started(
    signum, times, grace, tmp_path, home, monkeypatch, figure
):
    pipe, temporary = str(tmp_path / "pipe"), tmp_path / "tmp"
    temporary.mkdir()
    os.mkfifo(pipe)
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = {"TMPDIR": str(temporary), "DASKFLOW_RUNNER__WORKERS": "2"}
    process = subprocess.Popen(
        [sys.executable, "script.py", pipe, str(grace)],
        cwd=tmp_path,
        env={**os.environ, **environment, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        eventually(lambda: len(list(tmp_path.glob("pipe.*"))) == 2, within_s=60)
        family = psutil.Process(process.pid).children(recursive=True)
        held = ports({process.pid, *(child.pid for child in family)})
        assert held
        assert list(temporary.glob("daskflow-*"))
        began = time.monotonic()
        process.send_signal(signum)
        if times == 2:
            assert process.stderr is not None
            eventually(lambda: "Ctrl-C again" in process.stderr.readline(), within_s=20)
            began = time.monotonic()
            process.send_signal(signum)
        _, said = process.communicate(timeout=30)
        took = time.monotonic() - began
        _, alive = psutil.wait_procs(family, timeout=5)
    finally:
        process.kill()
        process.wait(10)

    left = [path.name for path in temporary.glob("daskflow-*")]
    still = held & listening()
    figure(
        f"ended {took:.1f} s after the last signal (grace {grace:g} s); {len(alive)} processes, "
        f"{len(still)} ports, {len(left)} temporary folders left"
    )
    assert process.returncode in (-signal.SIGINT, 130), said
    assert (alive, still, left) == ([], set(), [])
    assert took < (grace if times == 1 else 0) + 5
    with open_store(f"sqlite:///{Path(home)}/runs.db") as store:
        row = store.find_flow_run("@last")
        assert (row.state, row.message) == ("Cancelled", "interrupted")
        assert store.counts(row.flow_run_id) == {"Cancelled": 20}
