"""SQLite as the run store's database: opening, schema, transactions, errors in words.

Writers take `BEGIN IMMEDIATE`: a deferred one turns into a write lock half-way and fails under
contention whatever the busy timeout is.  A connection notices that its file was removed or
replaced, so rows never go into a file that nobody can open.  Whatever goes wrong comes out as
`StoreError`.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from daskflow.errors import StoreError, StoreVersionError
from daskflow.runner.store.batch import Batch
from daskflow.runner.store.inserting import insert
from daskflow.runner.store.statements import load_migrations, load_statements

__all__ = ["SqliteReader", "SqliteWriter"]

_APPLICATION_ID = 0x6461736B  # "dask": says whose file this is
_CHECKPOINT_PAGES = 4000  # 16 MB of log between two copies into the main file
_RETRY_S = 0.01


class SqliteWriter:
    """The writing side: one connection, opened when first needed and again when it broke."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None

    def commit(self, batch: Batch, *, patience_s: float) -> None:
        """Write `batch` in one transaction, waiting up to `patience_s` for other writers."""
        with self.transaction(patience_s) as connection:
            insert(connection, batch)

    def spool_bytes_read(self, name: str, *, patience_s: float) -> int:
        """Return how much of the spool file `name` is in the store already."""
        sql = load_statements("sqlite", "write")["spool_bytes_read"]
        with self.transaction(patience_s) as connection:
            found = connection.execute(sql, (name,)).fetchone()
        return int(found[0]) if found else 0

    def commit_spooled(self, batch: Batch, name: str, end: int, *, patience_s: float) -> None:
        """Write `batch`, read from the spool file `name` up to byte `end`."""
        sql = load_statements("sqlite", "write")["spool_advance"]
        with self.transaction(patience_s) as connection:
            insert(connection, batch)
            connection.execute(sql, (name, end))

    def forget_spool(self, name: str, *, patience_s: float) -> None:
        """Drop the note about a spool file that is gone."""
        with self.transaction(patience_s) as connection:
            connection.execute(load_statements("sqlite", "write")["spool_forget"], (name,))

    def close(self) -> None:
        """Close the connection; the next commit opens another."""
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
        self._connection = self._file = None

    @contextmanager
    def transaction(self, patience_s: float) -> Iterator[sqlite3.Connection]:
        """Hold the write lock for the statements inside; all of them are committed, or none."""
        try:
            connection = self._ready(patience_s)
            connection.execute(f"PRAGMA busy_timeout = {int(patience_s * 1000)}")
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")
        except (sqlite3.Error, OSError, StoreError) as error:
            self.close()  # rolls back; a broken connection is not worth keeping
            raise _in_words(error, self.path) from error
        except BaseException:
            self.close()
            raise

    def _ready(self, patience_s: float) -> sqlite3.Connection:
        if self._connection is not None and _file_id(self.path) == self._file:
            return self._connection
        self.close()
        _create_privately(self.path)
        connection = _connect(self.path, patience_s)
        try:
            _prepare(connection, self.path, time.monotonic() + patience_s)
        except BaseException:
            connection.close()
            raise
        self._connection, self._file = connection, _file_id(self.path)
        return connection


class SqliteReader:
    """The reading side; a database that does not exist reads as empty and is not created."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection: sqlite3.Connection | None = None
        self._sql = load_statements("sqlite", "read")

    def open(self) -> bool:
        """Connect if there is something to read; return whether there is."""
        if self._connection is not None:
            return True
        try:
            if self.path.exists():
                self._connection = self._open()
        except (sqlite3.Error, OSError) as error:
            raise _in_words(error, self.path) from error
        return self._connection is not None

    def _open(self) -> sqlite3.Connection | None:
        connection = _connect(self.path, 10.0)
        try:
            try:
                version = _version(connection, self.path)
            except sqlite3.OperationalError:
                connection.close()
                if os.access(self.path.parent, os.W_OK):
                    raise
                connection = _connect(self.path, 10.0, immutable=True)  # no room for its lock files
                version = _version(connection, self.path)
            if version == 0:
                connection.close()
                return None
            if version < load_migrations("sqlite")[-1].version:
                _prepare(connection, self.path, time.monotonic() + 10.0)
            connection.execute("PRAGMA query_only = ON")
            return connection
        except BaseException:
            connection.close()
            raise

    def rows(self, statement: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Return what the named statement finds."""
        if not self.open():
            return []
        assert self._connection is not None
        try:
            return self._connection.execute(self._sql[statement], parameters).fetchall()
        except sqlite3.Error as error:
            raise _in_words(error, self.path) from error

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _connect(path: Path, patience_s: float, *, immutable: bool = False) -> sqlite3.Connection:
    mode = "mode=ro&immutable=1" if immutable else "mode=rw"  # never "rwc": reading creates nothing
    return sqlite3.connect(
        f"file:{quote(str(path))}?{mode}",
        uri=True,
        timeout=patience_s,
        isolation_level=None,
        check_same_thread=False,
    )


def _version(connection: sqlite3.Connection, path: Path) -> int:
    """Return the schema version, 0 for an empty database; refuse what this code cannot read."""
    if connection.in_transaction:
        application, version, tables = _header(connection)
    else:
        connection.execute("BEGIN")  # one moment for all: another process may be migrating
        try:
            application, version, tables = _header(connection)
        finally:
            connection.execute("ROLLBACK")
    if (application, version, tables) == (0, 0, 0):
        return 0
    if application != _APPLICATION_ID:
        raise StoreError(
            f"{str(path)!r} is a SQLite database, but not a run store of daskflow; name another "
            "file in DASKFLOW_STORE__URL"
        )
    newest = load_migrations("sqlite")[-1].version
    if version > newest:
        raise StoreVersionError(
            f"the run store {str(path)!r} has schema {version}, this daskflow knows up to "
            f"{newest}; upgrade daskflow or name another store in DASKFLOW_STORE__URL"
        )
    return version


def _header(connection: sqlite3.Connection) -> tuple[int, int, int]:
    """Return whose file it is, its schema version and how many tables it has."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute(load_statements("sqlite", "read")["table_count"]).fetchone()
    return application, version, tables


def _prepare(connection: sqlite3.Connection, path: Path, deadline: float) -> None:
    """Bring an open database to the newest schema and to write-ahead logging."""
    _version(connection, path)
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
    while True:  # changing the journal ignores the busy timeout when two processes try at once
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            break
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_S)
    if _version(connection, path) == load_migrations("sqlite")[-1].version:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = _version(connection, path)  # another process may have been faster
        for migration in load_migrations("sqlite"):
            if migration.version > version:
                for statement in migration.statements:
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {migration.version}")
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def _create_privately(path: Path) -> None:
    """Create the file and the folders that are missing, for this user only."""
    missing = [folder for folder in path.parents if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(mode=0o700, exist_ok=True)
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def _file_id(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _in_words(error: BaseException, path: Path) -> StoreError:
    if isinstance(error, StoreError):
        return error
    return StoreError(
        f"the run store {str(path)!r} could not answer: {error}{_advice(error, path)}"
    )


def _advice(error: BaseException, path: Path) -> str:
    """What to do about it, where that is known."""
    other = "name another store in DASKFLOW_STORE__URL"
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if path.is_dir():
        return f"; it is a folder: {other}"
    if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return f"; move the file away, so that an empty one takes its place, or {other}"
    refused = code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM)
    if refused or isinstance(error, PermissionError):
        return f"; make {str(path.parent)!r} and what is in it writable, or {other}"
    return ""
