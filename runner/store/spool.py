"""The spool: what the record holds while its store cannot be written, one JSON line a change.

A spool file stands beside the store, or in a private folder of the temp directory when that
folder cannot be written.  Its writer holds a lock on it for as long as it lives, so that nobody
reads back a file that still grows; a process that is killed lets go of the lock, and the next
one that opens the store takes the file over.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

from daskflow.runner.core.leases import Lease
from daskflow.runner.store.batch import WIDTHS, Change, lease_of

__all__ = ["Spool", "claim_spool", "keep_late", "read_spool", "spool_files"]

_log = logging.getLogger(__name__)


class Spool:
    """The spool file of one writer; made at the first append."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._file: BinaryIO | None = None
        self.path: Path | None = None

    def append(self, changes: Sequence[Change]) -> None:
        """Write `changes` to the file, all or nothing; `OSError` when no place takes them."""
        data = b"".join(_line(change) for change in changes)
        if self._file is not None:
            self._write(self._file, data)
            return
        problem: OSError | None = None
        for folder in (self._store.parent, _private_temp_folder):
            try:
                self._start(folder() if callable(folder) else folder, data)
                return
            except OSError as error:
                problem = error
        assert problem is not None
        raise problem

    def _start(self, folder: Path, data: bytes) -> None:
        path = folder / f"{_prefix(self._store, folder)}{uuid4().hex}.jsonl"
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_APPEND, 0o600)
        file = os.fdopen(descriptor, "wb", buffering=0)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._write(file, data)
        except OSError:
            path.unlink(missing_ok=True)
            file.close()
            raise
        self._file, self.path = file, path

    @staticmethod
    def _write(file: BinaryIO, data: bytes) -> None:
        before = os.fstat(file.fileno()).st_size
        view = memoryview(data)
        try:
            while view:
                view = view[file.write(view) :]
        except OSError:
            os.ftruncate(file.fileno(), before)  # half a change is none
            raise

    def remove(self) -> None:
        """Delete the file: all of it is in the store."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
        self.close()

    def keep_late(self) -> None:
        """Keep the file, for a person to look at: it holds rows that came too late."""
        if self.path is not None:
            keep_late(self.path)
        self.close()

    def close(self) -> None:
        """Let go of the file and its lock; whoever opens the store next may read it back."""
        if self._file is not None:
            self._file.close()
        self._file = self.path = None


def spool_files(store: Path) -> list[Path]:
    """Return the spool files of `store` in both places, oldest first."""
    found: list[tuple[float, Path]] = []
    temporary = _temp_folder()
    for folder in (store.parent, temporary):
        if folder == temporary and not _is_private(folder):
            continue
        with suppress(OSError):  # no such folder yet
            for name in os.listdir(folder):
                if name.startswith(_prefix(store, folder)) and name.endswith(".jsonl"):
                    with suppress(OSError):  # somebody else has just read it back
                        found.append(((folder / name).stat().st_mtime, folder / name))
    return [path for _, path in sorted(found)]


def claim_spool(path: Path) -> BinaryIO | None:
    """Open and lock a spool file that nobody writes any more; None when somebody does."""
    try:
        file = path.open("rb")
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(file.fileno()).st_nlink:  # else read back and deleted while we waited
            return file
    except OSError:
        pass  # its writer holds the lock
    file.close()
    return None


def read_spool(path: Path, start: int = 0) -> Iterator[tuple[Change, int]]:
    """Yield each change from byte `start` on, and the byte where it ends.

    A line that is cut off or damaged is left out: the process died while it wrote it.
    """
    end = start
    leases: dict[tuple[str, int], Lease] = {}
    with path.open("rb") as file:
        file.seek(start)
        for line in file:
            end += len(line)
            change = _change(line, leases)
            if change is not None:
                yield change, end


def keep_late(path: Path) -> None:
    """Set a spool file aside: another process has taken over a flow run that it tells of."""
    late = path.with_suffix(".late")
    path.rename(late)
    _log.warning("a record that came too late is kept in %s", late)


def _change(line: bytes, leases: dict[tuple[str, int], Lease]) -> Change | None:
    try:
        kind, flow_run_id, rows, *held = json.loads(line)
        width = WIDTHS[kind]
        lease = leases.setdefault((held[0], held[1]), Lease(held[0], held[1])) if held else None
    except (ValueError, TypeError, KeyError, IndexError):
        return None
    fits = isinstance(flow_run_id, str) and isinstance(rows, list) and rows
    if fits and all(isinstance(row, list) and len(row) >= width for row in rows):
        return kind, flow_run_id, rows, lease
    return None


def _line(change: Change) -> bytes:
    lease = lease_of(change)
    held = [] if lease is None else [lease.flow_run_id, lease.fence]
    return json.dumps([*change[:3], *held], default=_plain).encode("ascii") + b"\n"


def _plain(value: Any) -> Any:
    for kind, method in ((int, "__index__"), (float, "__float__")):
        if hasattr(value, method):
            return kind(value)
    return repr(value)


def _prefix(store: Path, folder: Path) -> str:
    if folder == store.parent:
        return f"{store.name}.spool-"
    return f"{hashlib.sha256(os.fsencode(store)).hexdigest()[:16]}.spool-"


def _temp_folder() -> Path:
    return Path(tempfile.gettempdir()) / f"daskflow-spool-{os.getuid()}"


def _private_temp_folder() -> Path:
    folder = _temp_folder()
    folder.mkdir(mode=0o700, exist_ok=True)
    if not _is_private(folder):
        raise PermissionError(f"{str(folder)!r} belongs to somebody else")
    return folder


def _is_private(folder: Path) -> bool:
    """Return whether only this user can have put files there."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return found.st_uid == os.getuid() and found.st_mode & 0o77 == 0
