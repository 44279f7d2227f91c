"""A store that cannot be written: the flow goes on, one warning, the record is spooled and kept."""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest

from daskflow.errors import StoreError
from daskflow.runner.store import open_store, open_writer, outlet
from daskflow.runner.store.outlet import Outlet
from daskflow.runner.store.spool import Spool, spool_files
from daskflow.runner.store.sqlite import SqliteWriter
from tests.store.made import RUN, commit, event, flow_run, log, task, task_run, transition

OTHER = "a1" * 16


@pytest.fixture(autouse=True)
def temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temp directory of the test's own, where spools may go."""
    folder = tmp_path / "temp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


@pytest.fixture
def url(path: Path) -> str:
    return f"sqlite:///{path}"


@pytest.fixture
def locked(path: Path) -> Iterator[sqlite3.Connection]:
    """A store that somebody else holds a write lock on; ``ROLLBACK`` lets go of it."""
    commit(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield connection


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up on a lock at once, and try again at the very next batch."""
    monkeypatch.setattr(outlet, "PATIENCE_S", 0.05)
    monkeypatch.setattr(outlet, "_PATIENCE_WHEN_BROKEN_S", 0.05)
    monkeypatch.setattr(outlet, "_FIRST_PAUSE_S", 0.0)


def write_a_run(url: str, run: str = RUN) -> bool:
    """Write one of everything in several batches; return whether all of it is safe."""
    writer = open_writer(url)
    writer.flow_run(flow_run(run, state="Running"))
    writer.tasks(run, [task()])
    safe = writer.flush()
    for number in range(3):
        writer.logs(run, [log(f"line {number}", number=number)])
        writer.task_runs(run, [task_run(number, parents=(number - 1,) if number else None)])
        safe &= writer.flush()
    writer.transitions(run, [transition("AwaitingRetry", 103.0)])
    writer.events(run, [event(host="here")])
    writer.flow_run(flow_run(run))
    return writer.close() and safe


def assert_whole(url: str, run: str = RUN) -> None:
    with open_store(url) as store:
        assert store.find_flow_run(run) == flow_run(run)
        assert store.tasks(run) == [task()]
        assert store.task_runs(run) == [
            task_run(number, parents=(number - 1,) if number else None) for number in range(3)
        ]
        assert [row.message for row in store.logs(run)] == ["line 0", "line 1", "line 2"]
        assert store.stored_transitions(run) == [transition("AwaitingRetry", 103.0)]
        assert store.events(run) == [event(host="here")]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


def break_with_garbage(path: Path) -> None:
    path.write_bytes(b"not a database " * 1000)


def break_with_a_folder(path: Path) -> None:
    path.mkdir()


def break_with_a_newer_schema(path: Path) -> None:
    commit(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        pytest.param(break_with_garbage, "not a database", id="corrupt"),
        pytest.param(break_with_a_folder, "unable to open", id="a folder"),
        pytest.param(break_with_a_newer_schema, "schema 99", id="newer schema"),
    ],
)
def test_a_broken_store_costs_one_warning_and_no_row(path, url, caplog, break_it, says):
    break_it(path)
    assert write_a_run(url)
    (spool,) = spool_files(path)
    (warning,) = warnings(caplog)
    assert says in warning
    assert str(spool) in warning
    assert spool.parent == path.parent
    assert stat.S_IMODE(spool.stat().st_mode) == 0o600

    path.rmdir() if path.is_dir() else path.unlink()
    assert_whole(url)
    assert spool_files(path) == []


def test_a_folder_that_takes_no_file_sends_the_spool_to_the_temp_directory(tmp_path, temp, caplog):
    blocker = tmp_path / "blocker"
    blocker.touch()  # a file where a folder is needed: also root cannot write below it
    url = f"sqlite:///{blocker}/runs.db"
    assert write_a_run(url)
    (spool,) = spool_files(blocker / "runs.db")
    assert spool.is_relative_to(temp)
    assert stat.S_IMODE(spool.parent.stat().st_mode) == 0o700
    assert len(warnings(caplog)) == 1

    blocker.unlink()
    assert_whole(url)
    assert spool_files(blocker / "runs.db") == []


def test_a_temp_folder_that_others_may_write_is_not_trusted(tmp_path, temp):
    blocker = tmp_path / "blocker"
    blocker.touch()
    folder = temp / f"daskflow-spool-{os.getuid()}"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(OSError, match="belongs to somebody else"):
        Spool(blocker / "runs.db").append([("logs", RUN, [log("x")])])
    assert list(folder.iterdir()) == []


@pytest.mark.usefixtures("impatient")
def test_a_lock_that_lasts_is_survived_and_the_spool_read_back_by_a_later_batch(
    path, url, locked, caplog, eventually
):
    writer = open_writer(url)
    for number in range(10):
        writer.logs(RUN, [log(f"locked {number}")])
        assert writer.flush()
    assert len(spool_files(path)) == 1
    locked.execute("ROLLBACK")
    with caplog.at_level(logging.INFO, logger="daskflow.runner.store"):
        for message in ("free", "still free"):
            writer.logs(RUN, [log(message)])
            assert writer.flush()
    assert caplog.text.count("is written to") == 1
    assert spool_files(path) == []
    with open_store(url) as store:
        expected = [*(f"locked {number}" for number in range(10)), "free", "still free"]
        assert [row.message for row in store.logs(RUN)] == expected
    assert writer.close()
    (warning,) = warnings(caplog)
    assert "locked" in warning


@pytest.mark.usefixtures("impatient")
def test_closing_tries_once_more_to_empty_the_spool(path, url, locked, monkeypatch):
    monkeypatch.setattr(outlet, "_FIRST_PAUSE_S", 1000.0)
    writer = open_writer(url)
    writer.flow_run(flow_run())
    assert writer.flush()
    locked.execute("ROLLBACK")
    assert writer.close()
    assert spool_files(path) == []
    with open_store(url) as store:
        assert store.flow_runs() == [flow_run()]


@pytest.mark.usefixtures("impatient")
def test_a_spool_that_still_grows_is_left_to_its_writer(path, url, locked):
    writer = open_writer(url)
    writer.logs(RUN, [log("spooled")])
    assert writer.flush()
    locked.execute("ROLLBACK")
    with open_store(url) as store:
        assert store.logs(RUN) == []  # its writer brings it in, in order
    assert len(spool_files(path)) == 1
    assert writer.close()
    with open_store(url) as store:
        assert [row.message for row in store.logs(RUN)] == ["spooled"]


def test_the_spool_of_a_killed_process_is_read_back_without_its_torn_line(path, url):
    break_with_garbage(path)
    script = (
        "import os, sys; from daskflow.runner.store import open_writer\n"
        "from tests.store.made import flow_run\n"
        "writer = open_writer(sys.argv[1]); writer.flow_run(flow_run())\n"
        "assert writer.flush(); os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", script, url], stderr=subprocess.DEVNULL, timeout=60)
    (spool,) = spool_files(path)
    with spool.open("ab") as file:
        file.write(b'["logs", "5e5e')
    path.unlink()
    with open_store(url) as store:
        assert store.flow_runs() == [flow_run()]
    assert spool_files(path) == []


def _refuse(*_: object, **__: object) -> None:
    raise PermissionError("no")


def test_neither_store_nor_spool_takes_the_rows_until_one_does(path, url, caplog, monkeypatch):
    break_with_garbage(path)
    monkeypatch.setattr(Spool, "_start", _refuse)
    writer = open_writer(url)
    writer.flow_run(flow_run())
    assert not writer.flush()
    monkeypatch.undo()
    writer.logs(RUN, [log("later")])
    assert writer.flush()
    assert len(warnings(caplog)) == 1
    path.unlink()
    assert writer.close()
    with open_store(url) as store:
        assert store.flow_runs() == [flow_run()]
        assert len(store.logs(RUN)) == 1


def test_what_is_lost_in_the_end_is_said(path, url, caplog, monkeypatch):
    break_with_garbage(path)
    monkeypatch.setattr(Spool, "_start", _refuse)
    writer = open_writer(url)
    writer.logs(RUN, [log("x"), log("y")])
    assert not writer.close()
    assert "2 rows of the run record were lost" in warnings(caplog)[-1]


FULL_DISK = """
import resource, signal, sys
from daskflow.runner.store import open_store, open_writer
from tests.store.made import RUN, commit, log
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
writer = open_writer(sys.argv[1])
writer.logs(RUN, [log("before")])
assert writer.flush()
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
for part in range(6):
    writer.logs(RUN, [log(f"{part}-{line} " + "x" * 200) for line in range(300)])
    print(writer.flush())
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
print(writer.close())
with open_store(sys.argv[1]) as store:
    rows = [row.message.split()[0] for row in store.logs(RUN)]
assert rows == ["before"] + [f"{part}-{line}" for part in range(6) for line in range(300)], rows
"""


def test_a_full_disk_loses_nothing_once_there_is_space_again(url):
    """A limit on the size of files fails the writes as a full disk does."""
    said = subprocess.run(
        [sys.executable, "-c", FULL_DISK, url], capture_output=True, text=True, timeout=60
    )
    assert said.returncode == 0, said.stderr
    assert said.stdout.split()[-1] == "True"
    assert said.stderr.count("the flow goes on") == 1


class Flaky:
    """A SQLite store of which every n-th call fails before it does anything."""

    def __init__(self, path: Path, every: int) -> None:
        self.path, self._store, self._every, self._calls = path, SqliteWriter(path), every, 0

    def _count(self) -> None:
        self._calls += 1
        if self._calls % self._every == 0:
            raise StoreError("scripted to fail")

    def commit(self, *args: object, **options: float) -> None:
        self._count()
        self._store.commit(*args, **options)

    def spool_bytes_read(self, *args: object, **options: float) -> int:
        self._count()
        return self._store.spool_bytes_read(*args, **options)

    def commit_spooled(self, *args: object, **options: float) -> None:
        self._count()
        self._store.commit_spooled(*args, **options)

    def forget_spool(self, *args: object, **options: float) -> None:
        self._count()
        self._store.forget_spool(*args, **options)

    def close(self) -> None:
        self._store.close()


@pytest.mark.parametrize("every", range(1, 12))
def test_every_nth_call_fails_and_the_record_is_whole_and_in_order(path, url, every):
    now = iter(range(0, 10_000, 100))
    flaky = Outlet(Flaky(path, every), clock=lambda: float(next(now)))
    for number in range(20):
        changes = [
            ("logs", RUN, [log(f"line {number}")]),
            ("task_runs", RUN, [task_run(0, result_bytes=number)]),
        ]
        assert flaky.put(changes)
    flaky.finish()
    with open_store(url) as store:
        assert [row.message for row in store.logs(RUN)] == [f"line {n}" for n in range(20)]
        assert store.task_runs(RUN) == [task_run(0, result_bytes=19)]


def test_a_broken_store_is_tried_again_after_pauses_that_grow(path):
    tried: list[float] = []
    now = 0.0

    class Broken(Flaky):
        def commit(self, *args: object, **options: float) -> None:
            tried.append(now)
            raise StoreError("scripted to fail")

        spool_bytes_read = commit

    outlet_ = Outlet(Broken(path, 1), clock=lambda: now)
    for second in range(200):
        now = float(second)
        assert outlet_.put([("logs", RUN, [log("x")])])
    outlet_.finish()
    assert tried[:6] == [0.0, 1.0, 3.0, 7.0, 15.0, 31.0]
    assert max(b - a for a, b in pairwise(tried)) == 30.0
