"""Packs: many index rows in one file, so that ten thousand tiny results are not as many files.

Packs are listed and read once, then kept as columns; a key is found by one dict look-up.  A pack is
never changed: removing rows writes a new pack and then deletes the old one, see `pack_rewriting`.
Where several packs hold a key, the one written first wins, by its name.  The name also has the
sha256 of the file: one hash of a pack finds the damage that the seals of its thousand rows would.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from daskflow.caching.index import Entry, entry_of, plain_rows, read_table, rows_of, write_rows
from daskflow.caching.store_layout import PACKS, pack_path
from daskflow.results.storage import Storage

if TYPE_CHECKING:
    from daskflow.results.local_files import FileInfo

__all__ = ["Pack", "Packs"]

_RECENT_BYTES = 32 << 20  # of packs whose rows are kept ready: a map asks for neighbours

_TRIES = 5

Damaged = Callable[[str, str], None]


class Pack(NamedTuple):
    """A pack as this process has read it."""

    path: str
    table: pa.Table
    positions: dict[str, int]  # of keys
    whole: bool  # its bytes are those that were written


class Packs:
    """The packs of a store as this process knows them.

    `damaged` is called with path and reason for a pack that cannot be read.
    """

    def __init__(self, storage: Storage, damaged: Damaged) -> None:
        self._storage, self._damaged = storage, damaged
        self._packs: dict[str, Pack] = {}
        self._recent: OrderedDict[str, list[tuple[Any, ...]]] = OrderedDict()
        self._recent_bytes = 0
        self._where: dict[str, tuple[str, ...]] = {}  # the packs that hold a key
        self._unreadable: set[str] = set()
        self._listed = False
        self._lock = threading.Lock()

    def find(self, keys: Iterable[str]) -> Iterator[tuple[Entry, bool]]:
        """Yield the entries of those keys that packs hold, oldest pack first, seals unchecked.

        With each goes whether its pack has the very bytes that were written.
        """
        self.load()
        wanted: dict[str, list[str]] = {}
        where = self._where
        for key in keys:
            if key in where:
                for path in where[key]:
                    wanted.setdefault(path, []).append(key)
        for path in sorted(wanted):
            if (pack := self._packs.get(path)) is None:  # another thread has seen it go
                continue
            for row in self._rows(pack, wanted[path]):
                yield entry_of(row, path), pack.whole

    def _rows(self, pack: Pack, keys: Sequence[str]) -> list[tuple[Any, ...]]:
        """The rows of `keys` in a pack, all of which are kept a while.

        Taking a few out of the table would load Arrow's kernels: a quarter of a second a run.
        """
        rows = self._recent.get(pack.path)
        if rows is None:
            rows = self._recent[pack.path] = plain_rows(pack.table)
            self._recent_bytes += pack.table.nbytes
            while self._recent_bytes > _RECENT_BYTES and len(self._recent) > 1:
                self._forget_rows(next(iter(self._recent)))
        return [rows[pack.positions[key]] for key in keys]

    def _forget_rows(self, path: str) -> None:
        pack = self._packs.get(path)
        if self._recent.pop(path, None) is not None and pack is not None:
            self._recent_bytes -= pack.table.nbytes

    def entries(self) -> Iterator[tuple[Entry, bool]]:
        """Yield every row of every pack, as `find`."""
        self.load()
        for path in sorted(self._packs):
            pack = self._packs[path]
            yield from ((entry, pack.whole) for entry in rows_of(pack.table, path))

    def load(self) -> None:
        """Read the packs that are there, once."""
        with self._lock:
            if not self._listed:
                self._listed = True
                self._read()

    def fresh(self) -> list[Pack]:
        """List again, read what is new, forget what is gone; return the packs, oldest first."""
        with self._lock:
            self._listed = True
            self._read()
            return [self._packs[path] for path in sorted(self._packs)]

    def _read(self) -> None:
        for _ in range(_TRIES):
            infos: list[FileInfo] = self._storage.list(PACKS)
            names = {i.path for i in infos if i.path.endswith(".parquet")}
            for path in self._packs.keys() - names:
                self._drop(path)
            missing = names - self._packs.keys() - self._unreadable
            read = self._storage.read_many(sorted(missing))
            for path, data in read.items():
                self._add(path, data)
            if len(read) == len(missing):
                return  # else some were rewritten meanwhile, and their rows are in others now

    def _add(self, path: str, data: bytes) -> None:
        try:
            table = read_table(data)
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            self._unreadable.add(path)
            self._damaged(path, f"{type(error).__name__}: {error}")
            return
        positions = {key: row for row, key in enumerate(table.column("key").to_pylist())}
        whole = path.endswith(f"-{hashlib.sha256(data).hexdigest()[:32]}.parquet")
        self._packs[path] = Pack(path, table, positions, whole)
        for key in positions:
            self._where[key] = (*self._where.get(key, ()), path)

    def publish(self, entries: Sequence[Entry], now: float) -> str:
        """Write a new pack; return its path."""
        data = write_rows(entries)
        path = pack_path(now, hashlib.sha256(data).hexdigest())
        self._storage.create(path, data)  # taken means: the very same bytes are there
        self._add(path, data)
        return path

    def replaced(self, sources: Sequence[Pack], path: str | None, data: bytes) -> None:
        """Packs were rewritten as the one at `path`, or as none."""
        with self._lock:
            for pack in sources:
                if pack.path != path and pack.path in self._packs:
                    self._drop(pack.path)
            if path is not None and path not in self._packs:
                self._add(path, data)

    def _drop(self, path: str) -> None:
        self._forget_rows(path)
        for key in self._packs.pop(path).positions:
            if others := tuple(each for each in self._where[key] if each != path):
                self._where[key] = others
            else:
                del self._where[key]

    def keys(self) -> set[str]:
        """Return every key that a pack holds."""
        self.load()
        return set(self._where)

    def first_holder(self, key: str) -> str:
        """Return the path of the pack whose row of a key is the one that counts."""
        return min(self._where.get(key, ("",)))

    def holds(self, key: str) -> bool:
        """Say whether a pack that has been read holds a key; nothing is read for it."""
        return key in self._where

    def forget(self) -> None:
        """List packs again at the next look-up; those that are known are not read again."""
        self._listed = False
