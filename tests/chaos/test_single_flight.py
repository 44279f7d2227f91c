"""Flow processes that want the same cached result at once: one makes it, the others wait."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from daskflow.runner.store import open_store

FLOWS = """
import json, os, sys, time
from pathlib import Path
from daskflow import INPUTS, flow, task
from daskflow.config import get_settings

@task(cache_policy=INPUTS)
def slow(n):
    with (folder / "executed").open("a") as file:
        file.write(f"{n}\\n")
    deadline = time.monotonic() + 20
    while not (folder / "go").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(takes)
    return n * 10

@flow(task_runner="threads")
def wants(count):
    futures = slow.map(range(count))
    print("submitted", flush=True)
    futures.wait()
    assert futures.result() == [n * 10 for n in range(count)]
    return sorted(future.state.name for future in futures)

@task(cache_policy=INPUTS)
def quick():
    with (folder / "executed").open("a") as file:
        file.write("0\\n")
    return 0

@task(cache_policy=INPUTS)
def later(n):
    with (folder / "executed").open("a") as file:
        file.write("later\\n")
    time.sleep(takes)
    return n + 1

@flow(task_runner="threads")
def chain(count):
    # short enough for the next one to ride along: its key is known only when it executes
    futures = [first := quick.submit(), second := later.submit(first), later.submit(second)]
    print("submitted", flush=True)
    assert futures[-1].result() == 2
    return sorted(future.state.name for future in futures)

import dask.distributed, pyarrow.parquet  # so that flows begin at once
for line in sys.stdin:
    place, run_store, count, takes, name = json.loads(line)
    folder = Path(place)
    os.environ["DASKFLOW_STORE__URL"] = f"sqlite:///{place}/{run_store}"
    os.environ["DASKFLOW_RESULTS__STORAGE"] = f"{place}/results"
    get_settings.cache_clear()
    print(*globals()[name](count), flush=True)
"""


class FlowProcess:
    """A process that runs the flow whenever it is told to."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", FLOWS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.getcwd()},
        )

    def begins(
        self,
        folder: Path,
        run_store: str = "runs.db",
        count: int = 1,
        takes_s: float = 0.0,
        flow: str = "wants",
    ) -> None:
        told = [str(folder), run_store, count, takes_s, flow]
        self.process.stdin.write(json.dumps(told) + "\n")
        self.process.stdin.flush()

    def submitted(self) -> None:
        assert self.process.stdout.readline() == "submitted\n"

    def ended(self) -> list[str]:
        return self.process.stdout.readline().split()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def processes():
    """Two of them for all tests of this module; dead ones are replaced."""
    found = [FlowProcess(), FlowProcess()]
    yield found
    for each in found:
        each.end()


@pytest.fixture
def pair(processes):
    for place, each in enumerate(processes):
        if each.process.poll() is not None:
            each.end()
            processes[place] = FlowProcess()
    return processes


def executed(folder: Path) -> list[str]:
    path = folder / "executed"
    return sorted(path.read_text().split()) if path.exists() else []


def waits(folder: Path) -> list[str]:
    with open_store(f"sqlite:///{folder}/runs.db") as store:
        runs = store.flow_runs()
        lines = [line.message for run in runs for line in store.logs(run.flow_run_id)]
    return [line for line in lines if "waits for another flow run" in line]


def executing_claims(folder: Path) -> list[int]:
    with closing(sqlite3.connect(folder / "runs.db")) as connection:
        return [row[0] for row in connection.execute("SELECT executing FROM claim")]


def one_after_the_other(pair, folder, eventually):
    """The second process submits the same run once the first one executes it."""
    one, other = pair
    one.begins(folder)
    one.submitted()
    eventually(lambda: executed(folder), within_s=10)
    other.begins(folder)
    other.submitted()
    return one, other


def test_one_process_executes_and_the_other_takes_its_result(pair, tmp_path, eventually):
    one, other = one_after_the_other(pair, tmp_path, eventually)
    eventually(lambda: waits(tmp_path), within_s=10)
    (tmp_path / "go").touch()
    assert (one.ended(), other.ended()) == (["Completed"], ["Cached"])
    assert executed(tmp_path) == ["0"]


def test_without_a_common_run_store_each_process_executes(pair, tmp_path, eventually):
    for number, each in enumerate(pair):
        each.begins(tmp_path, f"{number}.db")
    eventually(lambda: executed(tmp_path) == ["0", "0"], within_s=10)
    (tmp_path / "go").touch()
    for each in pair:
        each.submitted()
        assert each.ended() == ["Completed"]


def test_two_processes_share_the_work_of_the_same_map(pair, tmp_path):
    (tmp_path / "go").touch()
    for each in pair:
        each.begins(tmp_path, count=20, takes_s=0.1)
    for each in pair:
        each.submitted()
    states = [*pair[0].ended(), *pair[1].ended()]
    assert len(executed(tmp_path)) == states.count("Completed") == 20
    assert states.count("Cached") == 20


def test_a_chain_is_made_once_though_its_later_keys_are_not_known_before(pair, tmp_path):
    (tmp_path / "go").touch()
    for each in pair:
        each.begins(tmp_path, takes_s=0.4, flow="chain")
    for each in pair:
        each.submitted()
    states = [*pair[0].ended(), *pair[1].ended()]
    assert executed(tmp_path) == ["0", "later", "later"]
    assert states.count("Cached") == 3


def test_a_claim_of_a_process_that_was_killed_is_free_at_once(pair, tmp_path, eventually):
    one, other = one_after_the_other(pair, tmp_path, eventually)
    # one that is not known to execute would be free after a few seconds anyway
    eventually(lambda: executing_claims(tmp_path) == [1], within_s=10)
    one.process.send_signal(signal.SIGKILL)
    one.process.wait()
    eventually(lambda: executed(tmp_path) == ["0", "0"], within_s=15)  # a lease lasts 20 s
    (tmp_path / "go").touch()
    assert other.ended() == ["Completed"]
