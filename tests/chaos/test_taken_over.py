"""A flow process that is stopped, loses its run to another one, and goes on: it stops itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import closing

import pytest

from daskflow.runner.store import RunLeases, open_store, open_writer

FLOW = """
import json, sys, time
from daskflow import flow, task
from daskflow.config import get_settings
from daskflow.runner.store import open_writer

@task
def step(n):
    return n

@flow(task_runner=sys.argv[1], retries=3)
def long():
    step.submit(0).result()
    open_writer(get_settings().store.url).flush()
    print("ready", flush=True)
    input()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        step.submit(1).result()
        time.sleep(0.01)

state = long(return_state=True)
print(json.dumps([state.name, state.message]))
"""


@pytest.mark.parametrize("runner", ["sync", "threads"])
def test_the_old_process_crashes_and_leaves_the_record_to_the_new_one(tmp_path, runner):
    url = f"sqlite:///{tmp_path}/runs.db"
    environment = {**os.environ, "DASKFLOW_STORE__URL": url, "PYTHONPATH": os.getcwd()}
    with subprocess.Popen(
        [sys.executable, "-c", FLOW, runner],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=tmp_path,
    ) as old:
        assert old.stdout.readline() == "ready\n"
        with open_store(url) as store:
            run = store.find_flow_run("@last")
        old.send_signal(signal.SIGSTOP)
        with RunLeases(url, lease_s=0.3) as leases:
            lease = leases.take(run.flow_run_id, patience_s=10.0)
        with closing(open_writer(url, lease)) as writer:
            writer.flow_run(run._replace(message="mine"))
            assert writer.flush()
            with open_store(url) as store:
                before = store.counts(run.flow_run_id)
            old.send_signal(signal.SIGCONT)
            said, log = old.communicate("go on\n", timeout=30)
            with open_store(url) as store:
                after = store.find_flow_run("@last"), store.counts(run.flow_run_id)
    state, message = json.loads(said)
    assert state == "Crashed", log
    assert "another process has taken flow run" in message
    assert (after[0].message, after[1]) == ("mine", before)
    assert log.count("left out of the run record") == 1
