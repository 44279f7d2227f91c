"""Reruns in new processes, and what entries and rows tell of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from daskflow import flow, task
from daskflow.caching.plans import StoreAddress, open_store
from daskflow.config import get_settings
from daskflow.runner.store import open_store as open_record


def rows():
    with open_record(get_settings().store.url) as store:
        run = store.find_flow_run("@last")
        return run, list(store.task_runs(run.flow_run_id))


def test_a_rerun_in_a_new_process_loads_no_dask(tmp_path, home):
    script = tmp_path / "script.py"
    script.write_text(
        "import json, sys\n"
        "from daskflow import flow, task\n"
        "def helper(x):\n"
        "    return x + 1  # a comment\n"
        "@task(persist_result=True)\n"
        "def adds(x):\n"
        "    print('ran', flush=True)\n"
        "    return helper(x)\n"
        "@flow(log_prints=False)\n"
        "def f():\n"
        "    return adds.submit(adds.submit(1)).result()\n"
        "found = f()\n"
        "print(json.dumps([found, 'distributed' in sys.modules]))\n"
    )

    def run():
        done = subprocess.run(
            [sys.executable, str(script)],
            env={**os.environ, "DASKFLOW_RUNNER__WORKERS": "1", "DASKFLOW_HOME": str(home)},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        *ran, last = done.stdout.split("\n")[:-1]
        return len([line for line in ran if "ran" in line]), json.loads(last)

    assert run() == (2, [3, True])
    script.write_text(script.read_text().replace("a comment", "another comment"))
    assert run() == (0, [3, False])
    assert rows()[0].task_runner == "processes, not started"
    script.write_text(script.read_text().replace("x + 1", "x + 2"))
    assert run() == (2, [5, True])


def test_entries_tell_what_they_are_made_of():
    @task(persist_result=True)
    def adds(x, by):
        return x + by

    @flow(task_runner="sync")
    def runs():
        return adds.submit(1, by=2).result()

    runs()
    (_, [row]) = rows()
    status, key = row.cache.split()
    assert status == "miss"
    entry = open_store(StoreAddress(get_settings().results.storage), "test").lookup([key])[key]
    assert entry.task == "adds"
    assert {"task", "input x", "input by"} < set(entry.parts)
    assert any(part.startswith("code ") for part in entry.parts)
