"""A flow run of another host: it is taken once its lease has lapsed, and not before.

Nobody here can tell whether a process there lives.  Whoever resumes watches its heartbeat on a
monotonic clock of his own; the wall clocks of the two hosts are an hour apart.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pytest

from daskflow.runner.store import open_store
from tests.chaos.etl_script import ETL
from tests.foreign import eventually

pytestmark = pytest.mark.chaos
LEASE_S = 1.5  # instead of 20 s, with a heartbeat each 0.1 s instead of 5 s

# the command line on a host of this name, whose wall clock goes so many seconds ahead
ON_A_HOST = f"""
import socket, sys, time
from daskflow.runner.store import leases
host, ahead_s, *command = sys.argv[1:]
wall = time.time
time.time = lambda: wall() + float(ahead_s)
socket.gethostname = lambda: host
leases.RunLeases.__init__.__kwdefaults__["lease_s"] = {LEASE_S}
leases.Keeper.__init__.__defaults__ = (0.1,)
from daskflow.runner.cli.main import cli
cli(command, prog_name="daskflow")
"""


def on_a_host(folder, host, ahead_s, *command):
    return subprocess.Popen(
        [sys.executable, "-c", ON_A_HOST, host, str(ahead_s), *command],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def recorded(home):
    """All that the record says of the flow run."""
    with open_store(f"sqlite:///{home}/runs.db") as store:
        run = store.find_flow_run("@last")
        rows = store.task_runs(run.flow_run_id), store.transitions(run.flow_run_id, None)
        return run, *rows, store.logs(run.flow_run_id), store.events(run.flow_run_id)


def test_a_run_of_another_host_is_resumed_once_its_lease_has_lapsed(tmp_path, home, figure):
    (tmp_path / "etl.py").write_text(ETL)
    sync = "--task-runner", "sync"
    resume = "runs", "resume", "@last", *sync, "--json"
    others = []
    first = on_a_host(tmp_path, "there.example", 3600, "run", "etl.py", *sync)
    try:
        eventually((tmp_path / "slow").exists, within_s=30)
        others.append(refused := on_a_host(tmp_path, "here.example", 0, *resume))
        _, complaints = refused.communicate(timeout=60)
        assert refused.returncode == 2, complaints
        assert f"process {first.pid} on 'there.example', which goes on" in complaints

        first.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        others.append(second := on_a_host(tmp_path, "here.example", 0, *resume))
        taken = eventually_taken(home, "here.example")
        (tmp_path / "go").touch()
        told, complaints = second.communicate(timeout=60)
        assert second.returncode == 0, complaints
        assert json.loads(told)["reused"] == {"clean": 8}
        before = recorded(home)
    finally:
        (tmp_path / "go").touch()
        first.send_signal(signal.SIGCONT)
        _, complaints = first.communicate(timeout=60)
        for process in others:
            process.kill()  # it has ended, unless something above has failed
            process.wait()

    figure(f"taken {taken - began:.1f} s after it was stopped (lease of {LEASE_S} s)")
    assert first.returncode == 5, complaints
    assert "another process has taken flow run" in complaints
    assert recorded(home) == before
    run, *_ = before
    assert (run.state, run.attempt, run.host) == ("Completed", 2, "here.example")
    assert len(list(tmp_path.glob("clean*"))) == 8
    assert taken - began >= LEASE_S


def eventually_taken(home, host):
    """When the flow run became one of `host`, by the monotonic clock."""
    eventually(lambda: recorded(home)[0].host == host, within_s=30)
    return time.monotonic()
