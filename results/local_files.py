"""Files of a store on this machine's file systems: the same few operations as `Storage`, by `os`.

Publishing is exclusive and atomic: a temporary file in the same folder, then ``os.link``, which
fails when the name exists (``os.replace`` would overwrite the winner).  A process that dies in
between leaves a temporary file and nothing else.  Only what has no checksum is synced: a machine
that loses power may leave other files cut, which their readers find out.  New folders are 0700.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

__all__ = ["FileInfo", "LocalFiles"]

TEMPORARY = ".tmp"
Write = Callable[[BinaryIO], object]


class FileInfo(NamedTuple):
    """A stored file: path below the root, bytes, and when it was last written (unix seconds)."""

    path: str
    size_bytes: int
    modified_unix: float


class LocalFiles:
    """Operations below one folder; paths are relative to it, with ``/``."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, path: str) -> bytes | None:
        """Return a file's bytes; None when there is none."""
        try:
            with open(self.root / path, "rb", buffering=0) as file:
                return file.read()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def read_many(self, paths: Iterable[str]) -> dict[str, bytes]:
        """Return the bytes of those files that exist."""
        # most keys of a first run have no file: asking takes a tenth of failing to open it
        root = str(self.root)
        there = [path for path in paths if os.access(f"{root}/{path}", os.F_OK)]
        found = ((path, self.read(path)) for path in there)
        return {path: data for path, data in found if data is not None}

    def create(self, path: str, write: Write, *, sync: bool = False) -> bool:
        """Publish a new file; False when one of that name was there already."""
        final = self.root / path
        return self._linked(self._written(final.parent, write, sync), final)

    def create_named(self, folder: str, write: Write, path_of: Callable[[], str]) -> bool:
        """Publish a new file whose name is known once it is written, such as its digest."""
        temporary = self._written(self.root / folder, write)
        return self._linked(temporary, self.root / path_of(), whole=temporary.stat().st_size)

    def _linked(self, temporary: Path, final: Path, whole: int | None = None) -> bool:
        """Give a file its name; one that is there stays, if it is not cut: of `whole` bytes."""
        try:
            try:
                os.link(temporary, final)
            except FileNotFoundError:
                make_private(final.parent)
                os.link(temporary, final)
        except FileExistsError:
            if whole in (None, final.stat().st_size):
                return False
            os.replace(temporary, final)  # the other was cut when the machine lost power
        finally:
            temporary.unlink(missing_ok=True)
        return True

    def replace(self, path: str, write: Write) -> None:
        """Publish a file over whatever was there."""
        final = self.root / path
        temporary = self._written(final.parent, write)
        try:
            os.replace(temporary, final)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def _written(self, folder: Path, write: Write, sync: bool = False) -> Path:
        temporary = folder / f".{uuid.uuid4().hex}{TEMPORARY}"
        try:
            file = open(temporary, "xb")
        except FileNotFoundError:
            make_private(folder)
            file = open(temporary, "xb")
        try:
            with file:
                write(file)
                if sync:
                    file.flush()
                    os.fsync(file.fileno())
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return temporary

    def list(self, folder: str) -> Iterator[FileInfo]:
        """Yield every file below a folder, temporary ones too."""
        try:
            entries = list(os.scandir(self.root / folder))
        except (FileNotFoundError, NotADirectoryError):
            return
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir(follow_symlinks=False):
                yield from self.list(path)
                continue
            try:
                found = entry.stat(follow_symlinks=False)
            except FileNotFoundError:  # swept since the folder was read
                continue
            yield FileInfo(path, found.st_size, found.st_mtime)

    def info(self, path: str) -> FileInfo | None:
        """Return size and time of a file; None when there is none."""
        try:
            found = os.stat(self.root / path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return FileInfo(path, found.st_size, found.st_mtime)

    def touch(self, path: str) -> None:
        """Mark a file as written now, so that a sweep spares it."""
        os.utime(self.root / path)

    def delete(self, paths: Iterable[str]) -> None:
        """Delete files; those that are gone already are no error."""
        for path in paths:
            (self.root / path).unlink(missing_ok=True)

    def move(self, path: str, to: str) -> None:
        """Move a file within the root."""
        target = self.root / to
        make_private(target.parent)
        os.replace(self.root / path, target)


def make_private(folder: Path) -> None:
    """Create a folder and its missing parents, each for this user only."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for each in reversed(missing):
        # mkdir's mode is cut by the umask, so 0700 stays 0700 at most
        each.mkdir(mode=0o700, exist_ok=True)
