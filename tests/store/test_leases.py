"""Leases on flow runs, with real processes: one holder, and an old fence writes nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from daskflow.errors import RunHeld, StoreError
from daskflow.runner.core.leases import Lease
from daskflow.runner.store import RunLeases, gone, open_store, open_writer, this_process
from daskflow.runner.store.gone import Lookout
from daskflow.runner.store.leases import Keeper
from daskflow.runner.store.sqlite import SqliteReader
from tests.store import made

RACES = 50

RACE = """
import sys
from daskflow.errors import RunHeld
from daskflow.runner.store import RunLeases
leases = RunLeases(sys.argv[1])
print("ready", flush=True)
for line in sys.stdin:
    try:
        print(leases.take(line.strip()).fence, flush=True)
    except RunHeld:
        print("held", flush=True)
"""

HOLD = """
import sys, time
from daskflow.runner.store import RunLeases, open_writer
from daskflow.runner.store.leases import Keeper
from tests.store import made
url, run = sys.argv[1:]
leases = RunLeases(url)
lease = leases.take(run)
writer = open_writer(url, lease)
beats = Keeper(leases, lease, renew_s=0.05)
print("ready", flush=True)
for line in sys.stdin:
    writer.logs(run, [made.log(line.strip())])
    writer.flow_run(made.flow_run(run, state="Running", message=line.strip()))
    writer.flush()
    deadline = time.monotonic() + 5
    while line.startswith("late") and not lease.lost and time.monotonic() < deadline:
        time.sleep(0.01)
    print("lost" if lease.lost else "held", flush=True)
"""

WRITE = """
import sys
from daskflow.runner.core.leases import Lease
from daskflow.runner.store import open_writer
from tests.store.made import flow_run, log, task_run
url, run, rows = sys.argv[1], sys.argv[2], int(sys.argv[3])
writer = open_writer(url, Lease(run))
writer.flow_run(flow_run(run, state="Running"))
for first in range(0, rows, 100):
    writer.task_runs(run, [task_run(number) for number in range(first, first + 100)])
    assert writer.flush()
writer.flow_run(flow_run(run))
assert writer.close()
"""


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/runs.db"


@contextmanager
def child(script: str, *given: str):
    """A process that runs `script` and has said that it is ready."""
    with subprocess.Popen(
        [sys.executable, "-c", script, *given],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def asked(process, line: str) -> str:
    tell(process, line)
    return process.stdout.readline().strip()


def tell(process, line: str) -> None:
    process.stdin.write(line + "\n")
    process.stdin.flush()


def recorded(url, run=made.RUN, **columns):
    """A flow run on record, executed by this process unless `columns` say otherwise."""
    with closing(open_writer(url)) as writer:
        writer.flow_run(made.flow_run(run, **(this_process()._asdict() | columns)))
        assert writer.flush(10)


def told(url):
    with open_store(url) as store:
        return [row.message for row in store.logs(made.RUN)]


# ---- taking


def test_of_two_processes_that_take_a_run_at_once_one_gets_it(url):
    runs = [f"{number:032x}" for number in range(RACES)]
    with child(RACE, url) as one, child(RACE, url) as other:
        for run in runs:
            tell(one, run), tell(other, run)
            said = sorted(each.stdout.readline().strip() for each in (one, other))
            assert said == ["2", "held"]


def test_a_run_that_a_living_process_holds_is_refused_by_its_name(url):
    recorded(url, state="Running")
    with RunLeases(url) as leases:
        with pytest.raises(RunHeld, match=rf"this process \({os.getpid()} on .*has ended, or end"):
            leases.take(made.RUN)
        with child(HOLD, url, "ab" * 16) as holder:
            with pytest.raises(RunHeld, match=rf"executed by process {holder.pid} on "):
                leases.take("ab" * 16)


def test_the_death_of_its_holder_frees_a_run_at_once(url):
    with child(HOLD, url, made.RUN) as holder, RunLeases(url) as leases:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        began = time.monotonic()
        assert leases.take(made.RUN).fence == 3
        assert time.monotonic() - began < 2.0  # and not the 20 s of a lease


@pytest.mark.parametrize(
    ("columns", "fence"),
    [
        pytest.param({"state": "Failed"}, 2, id="it-has-ended"),
        pytest.param({"state": "Running", "boot_id": "earlier"}, 2, id="before-a-reboot"),
        pytest.param({"state": "Running", "process_started_at": 1.0}, 2, id="pid-reused"),
    ],
)
def test_a_run_that_nobody_executes_is_taken_at_once(url, columns, fence):
    recorded(url, **columns)
    with RunLeases(url) as leases:
        lease = leases.take(made.RUN)
        assert (lease.flow_run_id, lease.fence, lease.lost) == (made.RUN, fence, False)
        leases.release(lease)
        assert leases.take(made.RUN).fence == fence + 1


def test_a_holder_of_another_host_is_watched_until_its_lease_has_lapsed(url):
    recorded(url, state="Running", host="elsewhere.example")
    with RunLeases(url, lease_s=0.2) as leases:
        assert leases.take(made.RUN).fence == 2


def test_a_holder_of_another_host_whose_heartbeat_is_seen_keeps_its_run(url, monkeypatch):
    elsewhere = this_process()._replace(host="elsewhere.example")
    monkeypatch.setattr("daskflow.runner.store.leases.this_process", lambda: elsewhere)
    with RunLeases(url) as theirs, RunLeases(url, lease_s=5.0) as ours:
        with closing(Keeper(theirs, theirs.take(made.RUN), renew_s=0.05)):
            with pytest.raises(RunHeld, match=r"on 'elsewhere.example'"):
                ours.take(made.RUN)


def test_a_store_that_cannot_answer_gives_nothing_out(tmp_path):
    (tmp_path / "runs.db").mkdir()
    with RunLeases(f"sqlite:///{tmp_path}/runs.db") as leases, pytest.raises(StoreError):
        leases.take(made.RUN)


# ---- holding


def test_a_lease_is_noted_by_its_first_heartbeat_and_lost_to_a_taker(url, eventually):
    recorded(url, state="Running")
    lease, mine, theirs = Lease(made.RUN), RunLeases(url), RunLeases(url, lease_s=0.1)
    told: list[str] = []
    lease.when_lost(lambda: told.append("lost"))
    with mine, theirs:
        assert mine.renew(lease)
        assert mine.renew(lease)
        with pytest.raises(RunHeld):
            theirs.take(made.RUN)
        assert theirs.take(made.RUN, patience_s=5.0).fence == 2  # nobody renews any more
        assert not mine.renew(lease)
    assert (told, lease.lost) == (["lost"], True)


def test_a_short_run_leaves_no_row_behind_and_a_long_one_lets_go(url, eventually):
    lease = Lease(made.RUN)
    keeper = Keeper(RunLeases(url), lease, renew_s=60.0)
    keeper.close()
    assert not lease.noted
    assert not Path(url.removeprefix("sqlite:///")).exists()
    keeper = Keeper(RunLeases(url), lease, renew_s=0.01)
    eventually(lambda: lease.noted)
    keeper.close()
    with RunLeases(url) as leases:
        assert leases.take(made.RUN).fence == 2


# ---- an old fence writes nothing


def test_a_holder_that_was_stopped_and_taken_over_writes_nothing_when_it_goes_on(url):
    with child(HOLD, url, made.RUN) as holder, RunLeases(url, lease_s=0.3) as leases:
        assert asked(holder, "in time") == "held"
        holder.send_signal(signal.SIGSTOP)
        lease = leases.take(made.RUN, patience_s=10.0)
        with closing(open_writer(url, lease)) as writer:
            writer.flow_run(made.flow_run(state="Retrying"))
            writer.flush()
            holder.send_signal(signal.SIGCONT)
            assert asked(holder, "late") == "lost"
            assert asked(holder, "later") == "lost"
        with open_store(url) as store:
            assert [row.message for row in store.logs(made.RUN)] == ["in time"]
            assert store.flow_runs()[0].state == "Retrying"


def test_rows_of_other_runs_in_the_same_batch_are_written(url):
    other = "ab" * 16
    with RunLeases(url) as leases:
        leases.take(made.RUN)
    lease = Lease(made.RUN)
    path = Path(url.removeprefix("sqlite:///"))
    made.commit(
        path,
        ("logs", made.RUN, [made.log("refused")], lease),
        ("logs", other, [made.log("written")]),
    )
    with open_store(url) as store:
        assert store.logs(made.RUN) == []
        assert [row.message for row in store.logs(other)] == ["written"]
    assert lease.lost


def test_a_spool_of_an_old_fence_is_kept_as_late(tmp_path, url, caplog):
    store = tmp_path / "runs.db"
    store.mkdir()  # no database can be written there
    with closing(open_writer(url, Lease(made.RUN))) as writer:
        writer.logs(made.RUN, [made.log("late")])
        assert writer.flush()
    store.rmdir()
    with RunLeases(url) as leases:
        leases.take(made.RUN)
    assert told(url) == []
    (late,) = tmp_path.glob("*.late")
    assert "late" in late.read_text()
    assert not list(tmp_path.glob("*.jsonl"))
    assert f"too late is kept in {late}" in caplog.text
    assert told(url) == []


# ---- the next one who looks


def test_an_observer_marks_a_run_of_another_host_once_its_lease_has_lapsed(url):
    path = Path(url.removeprefix("sqlite:///"))
    recorded(url, state="Running", host="elsewhere.example")
    recorded(url, "ab" * 16, state="Running", host="elsewhere.example", parent_flow_run_id=made.RUN)
    lease, clock = Lease(made.RUN), [0.0]

    def marked_at(*moments: float) -> list[int]:
        marked = []
        for clock[0] in moments:
            marked.append(lookout.mark_crashed())
        return marked

    with RunLeases(url) as theirs, closing(SqliteReader(path)) as reader:
        lookout = Lookout(reader, path, clock=lambda: clock[0])
        assert marked_at(0.0, 19.0) == [0, 0]
        theirs.renew(lease)  # notes it under this host, which the next line takes back
        made_elsewhere(path)
        assert marked_at(21.0, 30.0) == [0, 0]
        theirs.renew(lease)
        assert marked_at(40.5, 60.0) == [0, 0]
        assert marked_at(60.5) == [2]  # the flow run and its subflow
        assert not theirs.renew(lease)
    with open_store(url) as store:
        assert {run.state for run in store.flow_runs()} == {"Crashed"}
        assert "no sign of life" in store.flow_runs()[0].message


def made_elsewhere(path):
    with closing(gone.SqliteWriter(path)) as writer, writer.transaction(1.0) as connection:
        connection.execute("UPDATE lease SET host = 'elsewhere.example'")


def test_a_run_that_was_taken_is_not_marked_for_the_process_that_had_it(url):
    recorded(url, state="Running", process_started_at=1.0)
    with RunLeases(url) as leases:
        leases.take(made.RUN)
    with open_store(url) as store:
        assert store.find_flow_run("@last").state == "Running"


# ---- many writers


def test_four_processes_write_twenty_thousand_rows_at_once_and_none_finds_it_locked(url):
    runs = [f"{number:032x}" for number in range(4)]
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITE, url, run, "5000"],
            stderr=subprocess.PIPE,
            text=True,
        )
        for run in runs
    ]
    for writer in writers:
        _, said = writer.communicate(timeout=60)
        assert (writer.returncode, said) == (0, "")
    with open_store(url) as store:
        assert sum(store.counts(run)["Completed"] for run in runs) == 20_000
