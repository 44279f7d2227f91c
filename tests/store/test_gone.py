"""Flow runs whose process is gone are marked Crashed by whoever looks next."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import closing

import pytest

from daskflow.errors import NotFoundError
from daskflow.runner.store import open_store, open_writer, this_process
from tests.store import made

FLOW = """
import os
from daskflow import flow, get_run_logger, task

@task
def done():
    return 1

@flow(task_runner="sync")
def killed():
    done.submit()
    get_run_logger().info("half-way")
    from daskflow.runner.store import open_writer
    from daskflow.config import get_settings
    open_writer(get_settings().store.url).flush()
    print("ready", flush=True)
    input()

killed()
"""


def url_in(tmp_path):
    return f"sqlite:///{tmp_path}/runs.db"


def written(url, **columns):
    """A flow run on record, of this process unless `columns` say otherwise."""
    mine = this_process()._asdict() | {"ended_at": None}
    with closing(open_writer(url)) as writer:
        writer.flow_run(made.flow_run(**(mine | columns)))
        assert writer.flush(10)


def test_a_run_whose_process_was_killed_reads_as_crashed(tmp_path):
    url = url_in(tmp_path)
    environment = {**os.environ, "DASKFLOW_STORE__URL": url, "PYTHONPATH": os.getcwd()}
    with subprocess.Popen(
        [sys.executable, "-c", FLOW],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=tmp_path,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        with open_store(url) as store:
            assert store.find_flow_run("@last").state == "Running"
        process.send_signal(signal.SIGKILL)
        process.wait()
    with open_store(url) as store:
        run = store.find_flow_run("@last")
        last = store.transitions(run.flow_run_id, None)[-1]
        heard = store.logs(run.flow_run_id)[-1]
        assert store.counts(run.flow_run_id) == {"Completed": 1}
    told = f"its process (pid {process.pid} on {this_process().host}) is gone"
    assert (run.state, run.message) == ("Crashed", told)
    assert (last.state, last.message) == ("Crashed", told)
    assert heard.message == "half-way"
    assert run.ended_at == last.at == heard.at  # when the record last heard of it


@pytest.mark.parametrize(
    ("columns", "state"),
    [
        pytest.param({"state": "Running"}, "Running", id="it-lives"),
        pytest.param({"state": "Running", "host": "elsewhere"}, "Running", id="another-host"),
        pytest.param({"state": "Running", "boot_id": "earlier"}, "Crashed", id="before-a-reboot"),
        pytest.param({"state": "Pending", "process_started_at": 1.0}, "Crashed", id="pid-reused"),
        pytest.param({"state": "Failed", "process_started_at": 1.0}, "Failed", id="it-had-ended"),
    ],
)
def test_only_runs_under_way_of_processes_that_are_gone_are_marked(tmp_path, columns, state):
    written(url_in(tmp_path), **columns)
    for _ in range(2):  # the second look finds nothing to do
        with open_store(url_in(tmp_path)) as store:
            assert store.find_flow_run("@last").state == state
            marked = [each for each in store.stored_transitions(made.RUN) if each.number is None]
            assert len(marked) == (state == "Crashed")


def test_a_store_that_does_not_exist_is_not_made_by_looking(tmp_path):
    with open_store(url_in(tmp_path)) as store, pytest.raises(NotFoundError):
        store.find_flow_run("@last")
    assert not list(tmp_path.iterdir())
