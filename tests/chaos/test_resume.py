"""A flow process that dies at a named point: its flow run goes on, and commits nothing twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from daskflow.caching.store import ResultStore
from daskflow.errors import UsageError
from daskflow.runner.crash_points import CRASH_AT, POINTS, parse_crash_at
from daskflow.runner.store import open_store
from tests.chaos.etl_script import ETL
from tests.chaos.resuming import COUNT
from tests.foreign import ForeignCluster, eventually

pytestmark = pytest.mark.chaos
ROOT = Path(__file__).resolve().parents[2]
CLI = [sys.executable, "-m", "daskflow.runner.cli.main"]

# each point once at its first time, most also in the middle; on threads where parcels are
STORIES = [
    *("flow-started", "submitted:8", "result-committed", "result-committed:8", "outcome-taken:8"),
    *("outcome-told:5", "record-writing", "record-written", "flow-returned", "flow-settled"),
    "flow-ended",
    *("parcel-sending@threads", "parcel-sent@threads", "result-committed:3@threads"),
    *("outcome-taken:2@threads", "outcome-told@threads"),
]
KEPT = Counter(
    {
        **{f"double-{n}": 1 for n in (*range(COUNT), 100, 101)},
        "draw-7": 3,
        "total": 2,
    }
)


@pytest.fixture(scope="module")
def stories(tmp_path_factory):
    """What came of each point; the processes are children of one that has imported everything."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos.resuming", str(tmp_path_factory.mktemp("r")), *STORIES],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("DASKFLOW_")}
        | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    return dict(zip(STORIES, told, strict=True))


def test_every_point_has_a_story():
    assert {story.partition("@")[0].partition(":")[0] for story in STORIES} == set(POINTS)


def bodies(ran):
    """Executions by what is kept in the result store; `loose` is kept nowhere."""
    named = Counter()
    for name, count in ran.items():
        if not name.startswith("loose"):
            named["total" if name.startswith("total") else name] += count
    return named


@pytest.mark.parametrize("name", STORIES)
def test_a_flow_run_goes_on_and_nothing_committed_is_executed_again(stories, name):
    story = stories[name]
    assert (story["died"], story["resumed"], story["open"]) == (-signal.SIGKILL, 0, 0), story
    committed, kept = Counter(story["committed"]), Counter(KEPT)
    if not story["recorded"]:  # it died before the record heard of it: the second is a new run
        kept["draw-7"] += committed["draw-7"]
    else:
        assert story["states"][-3:] == ["Crashed", "Retrying", "Completed"]
        assert story["attempt"] == 2
    assert story["kept"] == kept  # nothing is lost, nothing is committed twice
    again = bodies(story["after"]) - bodies(story["before"])
    assert again == kept - committed


def test_an_unknown_point_is_refused_and_lists_the_others():
    with pytest.raises(UsageError, match="names no crash point; there are flow-started, submitted"):
        parse_crash_at("somewhere")
    with pytest.raises(UsageError, match="DASKFLOW_CRASH_AT='submitted:0'"):
        parse_crash_at("submitted:0")
    assert parse_crash_at("submitted:12") == ("submitted", 12)


# ---- processes of their own, as a user starts them


@pytest.fixture
def etl(tmp_path, home):
    (tmp_path / "etl.py").write_text(ETL)
    return tmp_path


def started(folder, *command, **environment):
    return subprocess.Popen(
        [*CLI, *command],
        cwd=folder,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def cleaned(folder):
    return sum(1 for path in folder.iterdir() if path.name.startswith("clean"))


def everything_is_reused(etl):
    """Resume the last run: all eight are taken from the record."""
    second = started(etl, "runs", "resume", "@last", "--task-runner", "sync", "--json")
    told, complaints = second.communicate(timeout=60)
    assert second.returncode == 0, complaints
    assert cleaned(etl) == 8
    assert json.loads(told)["reused"] == {"clean": 8}


def test_a_flow_process_with_workers_is_killed_and_resumed(etl, home):
    first = started(etl, "run", "etl.py", **{CRASH_AT: "outcome-taken:2"})
    first.communicate(timeout=60)  # its workers hold its stderr: they are gone, too
    assert first.returncode == -signal.SIGKILL
    before, kept = cleaned(etl), len(list(ResultStore(str(home / "results")).entries()))
    (etl / "go").touch()
    second = started(etl, "runs", "resume", "@last", "--task-runner", "sync", "--json")
    told, complaints = second.communicate(timeout=60)
    assert second.returncode == 0, complaints
    assert json.loads(told.splitlines()[-1])["state"] == "Completed"
    assert kept > 0
    assert cleaned(etl) - before == 8 - kept


def test_a_run_that_is_alive_is_refused_and_an_interrupted_one_goes_on(etl, home):
    first = started(etl, "run", "etl.py", "--task-runner", "sync")
    try:
        eventually((etl / "slow").exists, within_s=30)

        def recorded():
            with open_store(f"sqlite:///{home}/runs.db") as store:
                return bool(store.flow_runs())

        eventually(recorded, within_s=10)
        refused = started(etl, "runs", "resume", "@last")
        _, complaints = refused.communicate(timeout=60)
        assert refused.returncode == 2, complaints
        assert f"process {first.pid} on '{os.uname().nodename}' executes it" in complaints
    finally:
        first.send_signal(signal.SIGTERM)
        (etl / "go").touch()
        first.communicate(timeout=60)
    assert first.returncode == 130
    assert cleaned(etl) == 8
    everything_is_reused(etl)


def test_of_two_processes_that_resume_the_same_run_one_goes_on(etl, home):
    first = started(etl, "run", "etl.py", "--task-runner", "sync", **{CRASH_AT: "flow-returned"})
    (etl / "go").touch()
    first.communicate(timeout=60)
    assert first.returncode == -signal.SIGKILL
    (etl / "go").unlink()
    (etl / "slow").unlink()
    both = [started(etl, "runs", "resume", "@last", "--task-runner", "sync") for _ in "12"]
    try:
        eventually(lambda: any(each.poll() is not None for each in both), within_s=60)
    finally:
        (etl / "go").touch()
        said = {each.returncode: each for each in both if each.communicate(timeout=60)}
    ended = {each.pid: each.returncode for each in both}
    assert sorted(ended.values()) == [0, 2], said
    assert cleaned(etl) == 8
    with open_store(f"sqlite:///{home}/runs.db") as store:
        run = store.find_flow_run("@last")
        assert (run.state, run.attempt, ended[run.pid]) == ("Completed", 2, 0)


def test_a_flow_run_that_lost_its_scheduler_goes_on_elsewhere(etl, home):
    cluster = ForeignCluster(etl, n_workers=1)
    try:
        patience = {"DASKFLOW_RUNNER__SCHEDULER_TIMEOUT_SECONDS": "1"}
        first = started(etl, "run", "etl.py", "--task-runner", cluster.address, **patience)
        eventually((etl / "slow").exists, within_s=60)
        cluster.scheduler.kill()
        _, complaints = first.communicate(timeout=90)
    finally:
        (etl / "go").touch()
        cluster.close()
    assert first.returncode not in (0, 2), complaints
    assert cleaned(etl) == 8
    everything_is_reused(etl)
