"""What only SQLite files do: permissions, foreign and newer files, recovery, absent stores."""

from __future__ import annotations

import os
import re
import sqlite3
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from daskflow.errors import StoreError, StoreVersionError
from daskflow.runner.store import open_store, open_writer, sqlite
from daskflow.runner.store.statements import load_migrations, load_statements, repeated
from tests.store.made import RUN, commit, flow_run, task_run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "deep" / "runs.db"


@pytest.fixture
def written(path: Path) -> Path:
    """A store with one flow run."""
    writer = open_writer(f"sqlite:///{path}")
    writer.flow_run(flow_run())
    assert writer.close()
    return path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_is_created_is_for_this_user_only(path):
    before = os.umask(0)
    try:
        writer = open_writer(f"sqlite:///{path}")
        writer.flow_run(flow_run())
        assert writer.flush()
        files = sorted(path.parent.iterdir())
        assert [file.name for file in files] == ["runs.db", "runs.db-shm", "runs.db-wal"]
        assert {mode(file) for file in files} == {0o600}
        assert {mode(path.parent), mode(path.parent.parent)} == {0o700}
        writer.close()
    finally:
        os.umask(before)


def test_a_folder_that_exists_keeps_its_permissions(tmp_path):
    tmp_path.chmod(0o755)
    writer = open_writer(f"sqlite:///{tmp_path}/runs.db")
    writer.flow_run(flow_run())
    assert writer.close()
    assert mode(tmp_path) == 0o755


def test_reading_creates_nothing(path):
    with open_store(f"sqlite:///{path}") as store:
        assert store.flow_runs() == []
    assert not path.parent.parent.exists()


def test_an_empty_file_reads_as_empty_and_becomes_a_store(path):
    path.parent.mkdir(parents=True)
    path.touch()
    with open_store(f"sqlite:///{path}") as store:
        assert store.flow_runs() == []
        writer = open_writer(f"sqlite:///{path}")
        writer.flow_run(flow_run())
        assert writer.close()
        assert store.flow_runs() == [flow_run()]


def test_a_file_that_is_no_database_is_refused_by_name(path):
    path.parent.mkdir(parents=True)
    path.write_bytes(b"this is not a database " * 100)
    with pytest.raises(StoreError, match=r"runs.db.*not a database"):
        open_store(f"sqlite:///{path}")


def test_a_folder_in_place_of_the_file_is_refused(path):
    path.mkdir(parents=True)
    with pytest.raises(StoreError, match="unable to open"):
        open_store(f"sqlite:///{path}")


def test_somebody_elses_database_is_neither_read_nor_migrated(path):
    path.parent.mkdir(parents=True)
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    with pytest.raises(StoreError, match="not a run store"):
        open_store(f"sqlite:///{path}")
    with pytest.raises(StoreError, match="not a run store"):
        commit(path, ("flow_run", RUN, [flow_run()]))
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]
    connection.close()


def test_a_store_of_a_newer_daskflow_is_refused_for_reading_and_writing(written):
    connection = sqlite3.connect(written)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreVersionError, match=r"schema 99.*upgrade"):
        open_store(f"sqlite:///{written}")
    with pytest.raises(StoreVersionError):
        commit(written)


def test_a_store_that_is_damaged_inside_is_a_store_error(written):
    size = written.stat().st_size
    with written.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (size - 4096))
    with open_store(f"sqlite:///{written}") as store, pytest.raises(StoreError, match="malformed"):
        store.flow_runs()


def test_a_removed_store_is_made_anew_and_not_written_into_the_void(path):
    writer = open_writer(f"sqlite:///{path}")
    writer.flow_run(flow_run("a" * 32))
    assert writer.flush()
    for file in path.parent.iterdir():
        file.unlink()
    writer.flow_run(flow_run())
    assert writer.close()
    with open_store(f"sqlite:///{path}") as store:
        assert store.flow_runs() == [flow_run()]


def test_a_relative_url_stays_where_it_was_opened(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    writer = open_writer("sqlite:///relative.db")
    monkeypatch.chdir(tmp_path / "elsewhere")
    writer.flow_run(flow_run())
    assert writer.close()
    assert (tmp_path / "relative.db").exists()


@pytest.mark.parametrize("name", ["a?b=c#d.db", "100%41.db", "späße 🦦.db"])
def test_a_file_name_may_hold_what_urls_escape(tmp_path, name):
    writer = open_writer(f"sqlite:///{tmp_path}/{name}")
    writer.flow_run(flow_run())
    assert writer.close()
    assert (tmp_path / name).exists()
    with open_store(f"sqlite:///{tmp_path}/{name}") as store:
        assert store.flow_runs() == [flow_run()]


def test_the_hot_tables_have_no_index_beside_their_key(written):
    connection = sqlite3.connect(written)
    found = connection.execute("SELECT tbl_name FROM sqlite_master WHERE type = 'index'").fetchall()
    connection.close()
    assert {table for (table,) in found} == {"flow_run"}


def test_a_migration_that_fails_half_way_leaves_the_old_schema(path, monkeypatch):
    migrations = load_migrations("sqlite")
    newer = migrations[-1].version + 1
    broken = migrations[-1]._replace(version=newer, statements=("CREATE TABLE x (y)", "NOT SQL"))
    commit(path, ("flow_run", RUN, [flow_run()]))
    monkeypatch.setattr(sqlite, "load_migrations", lambda dialect: (*migrations, broken))
    with pytest.raises(StoreError, match="syntax error"):
        commit(path)
    monkeypatch.undo()
    with open_store(f"sqlite:///{path}") as store:
        assert store.flow_runs() == [flow_run()]


def test_an_older_store_is_migrated_when_it_is_opened(written, monkeypatch):
    migrations = load_migrations("sqlite")
    newer = migrations[-1].version + 1
    added = migrations[-1]._replace(version=newer, statements=("ALTER TABLE task ADD extra TEXT",))
    monkeypatch.setattr(sqlite, "load_migrations", lambda dialect: (*migrations, added))
    with open_store(f"sqlite:///{written}") as store:
        assert store.flow_runs() == [flow_run()]
    connection = sqlite3.connect(written)
    assert connection.execute("PRAGMA user_version").fetchone() == (newer,)
    connection.close()


def test_the_call_of_the_hot_path_waits_for_nothing(written):
    """Nobody else holds the caller up: not a lock in the store, not the writer thread."""
    lock = sqlite3.connect(written, isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    writer = open_writer(f"sqlite:///{written}")
    began = time.perf_counter()
    for number in range(2000):
        writer.task_runs(RUN, [task_run(number)])
    took_s = time.perf_counter() - began
    lock.execute("ROLLBACK")
    lock.close()
    assert writer.close()
    assert took_s < 1.0  # 2,000 calls, while each would have waited seconds for the lock
    with open_store(f"sqlite:///{written}") as store:
        assert store.counts(RUN) == {"Completed": 2000}


def test_every_statement_can_be_prepared(written):
    connection = sqlite3.connect(written)
    for file in ("read", "write"):
        for name, statement in load_statements("sqlite", file).items():
            names = dict.fromkeys(re.findall(r":(\w+)", statement))
            marks = (None,) * statement.count("?")
            connection.execute(f"EXPLAIN {statement}", names or marks).fetchall()
            assert not statement.endswith(";"), name
    connection.close()


def test_a_repeated_statement_inserts_as_many_rows():
    assert repeated("INSERT INTO x (a) VALUES (?, ?)", 3).endswith("VALUES (?, ?), (?, ?), (?, ?)")


def test_migrations_are_numbered_without_a_gap():
    versions = [migration.version for migration in load_migrations("sqlite")]
    assert versions == list(range(1, len(versions) + 1))


def test_importing_the_store_stays_light():
    heavy = "dask distributed pandas pyarrow bokeh pydantic rich psutil sqlalchemy".split()
    script = f"import sys, daskflow.runner.store; print([m for m in {heavy} if m in sys.modules])"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert said.stdout.strip() == "[]", said.stderr


def test_a_repeated_statement_spells_out_columns_that_are_null():
    statement = "INSERT INTO x (a, b, c) VALUES (?, ?, ?)"
    assert repeated(statement, 2, (0, 2)).endswith("VALUES (NULL, ?1, NULL), (NULL, ?, NULL)")


def test_a_repeated_statement_binds_what_all_rows_share_once():
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE x (a, b, c, d)")
    statement = repeated("INSERT INTO x (a, b, c, d) VALUES (?, ?, ?, ?)", 3, (2,), (1, 3))
    database.execute(statement, ["shared", "too", 1, 2, 3])
    assert list(database.execute("SELECT * FROM x")) == [
        (number, "shared", None, "too") for number in (1, 2, 3)
    ]
    database.close()
