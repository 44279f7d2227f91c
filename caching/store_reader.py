"""The reading half of the result store: look keys up, load values, never a wrong one.

What is read is checked against seal and digest before it is decoded; whatever does not fit is
logged, moved to ``quarantine/`` and counts as a miss.  Misses and packs are remembered for the
life of the object: one object a run.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from daskflow.caching.index import FORMAT, Entry, Sealer, blob_name, read_row
from daskflow.caching.index_packs import Packs
from daskflow.caching.index_plan import LookupPlan, plan_lookup, prefix_counts
from daskflow.caching.store_format import FORMAT_FILE, StoreFormat
from daskflow.caching.store_layout import (
    INDEX,
    QUARANTINE,
    blob_path,
    check_key,
    index_path,
    key_of_path,
)
from daskflow.errors import PickleRefused, ResultGone, StoreError
from daskflow.results.codecs import decode
from daskflow.results.encoded import EncodedValue, is_pickled
from daskflow.results.files import (
    checksum_of,
    file_checksum,
    iter_batches,
    new_check,
    read_file,
    read_payload,
    read_whole,
)
from daskflow.results.plain_files import read_plain
from daskflow.results.storage import TIMEOUT_S, Storage
from daskflow.results.storage_options import StorageOptions

__all__ = ["ResultReader"]

# Below this many keys asking is as good as listing; locally asking is always as good.
LIST_FROM = 32
AT_ONCE_BYTES = 4 << 20
_SEALS = ("sha256:", "hmac:")
# what reading other bytes than were written may raise
_DAMAGE = (pa.ArrowException, OSError, ValueError, KeyError, TypeError, IndexError)

_log = logging.getLogger("daskflow.caching.store")


class ResultReader:
    """What reads a result store; `ResultStore` adds what writes to it, and says the parameters."""

    def __init__(
        self,
        url: str,
        *,
        secret: bytes | None = None,
        allow_pickle: bool = True,
        hash_algorithm: str = "sha256",
        options: Mapping[str, Any] | StorageOptions | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self.storage = Storage(url, options, timeout_s)
        self.allow_pickle = allow_pickle
        self.sealer = Sealer(secret)
        self._format = StoreFormat(FORMAT, hash_algorithm, self.sealer.key_id)
        self._format_known = self._format_written = False
        self._sealed_with_secret = secret is not None
        self.packs = Packs(self.storage, self.quarantine)
        self._misses: set[str] = set()

    def __repr__(self) -> str:
        return f"ResultStore({self.storage.shown_url!r})"

    # ---- reading

    def lookup(self, keys: Iterable[str], *, expired: bool = False) -> dict[str, Entry]:
        """Return the entries of those keys that have one; absent keys are misses.

        Small results come with their entry, in the same request. Misses are remembered until
        `forget`. Damaged entries are logged, quarantined and missing here, and expired ones are
        unless they are asked for.

        Raises
        ------
        StoreError
            When the storage cannot answer.
        """
        self._check_format()
        now = 0.0 if expired else time.time()
        wanted = [key for key in dict.fromkeys(keys) if key not in self._misses]
        found: dict[str, Entry] = {}
        for entry, whole in self.packs.find(wanted):
            if entry.key not in found and self._usable(
                entry, entry.key, entry.pack or "", now, whole
            ):
                found[entry.key] = entry
        # what no pack holds may become a path
        missing = [check_key(key) for key in wanted if key not in found]
        for key, data in self._read_rows(missing).items():
            if read := self._read_row(key, data, now):
                found[key] = read
        self._misses.update(key for key in missing if key not in found)
        return found

    def _read_rows(self, keys: Sequence[str]) -> dict[str, bytes]:
        present = self._present(keys)
        got = self.storage.read_many([index_path(key) for key in present])
        return {key: got[path] for key in present if (path := index_path(key)) in got}

    def _present(self, keys: Sequence[str]) -> Sequence[str]:
        """Leave out keys that a listing does not show, when listing is cheaper than asking."""
        if self.storage.local or len(keys) < LIST_FROM:
            return keys
        counts = prefix_counts(keys)
        (sample, _), *_ = counts.most_common(1)
        names = self._listed(f"{INDEX}/{sample}")
        plan = plan_lookup(len(keys), len(counts), len(names))
        if plan is LookupPlan.ASK:
            return keys
        if plan is LookupPlan.LIST_ALL:
            names = self._listed(INDEX)
        else:
            names = names.union(*(self._listed(f"{INDEX}/{p}") for p in counts if p != sample))
        return [key for key in keys if key in names]

    def _listed(self, folder: str) -> set[str]:
        return {key for info in self.storage.list(folder) if (key := key_of_path(info.path))}

    def _read_row(self, key: str, data: bytes, now: float) -> Entry | None:
        path = index_path(key)
        try:
            row = read_row(data)
        except _DAMAGE as error:
            self.quarantine(path, f"{type(error).__name__}: {error}")
            return None
        # no row at all is one of another format version: a plain miss
        return row if row and self._usable(row, key, path, now) else None

    def _usable(self, entry: Entry, key: str, path: str, now: float, whole: bool = False) -> bool:
        """Say whether an entry is a hit; `whole`: its file is known to be undamaged."""
        ours = "hmac:" if self._sealed_with_secret else "sha256:"
        if not entry.seal.startswith(ours) and entry.key == key and entry.seal.startswith(_SEALS):
            _log.warning("%s is not sealed with this store's secret; it counts as a miss", path)
            return False
        # with a secret only the seal tells who wrote it
        sealed = (whole and not self._sealed_with_secret) or self.sealer.holds(entry)
        if entry.key != key or not sealed:
            self.quarantine(path, "its seal does not fit")
            return False
        return not entry.expired(now) and (self.allow_pickle or not is_pickled(entry.codec))

    def load(self, entry: Entry, *, checked: bool = False) -> Any:
        """Return the value of an entry, fresh: changing it changes no later hit.

        Parameters
        ----------
        entry : Entry
        checked : bool, default False
            This process has checked the entry's seal before.

        Raises
        ------
        ResultGone
            When the value is missing or damaged, or a class that it needs has changed; the
            caller computes it again.
        PickleRefused
            When it needs pickle and the store does not allow it.
        StoreError
            When the storage cannot answer.
        """
        if is_pickled(entry.codec) and not self.allow_pickle:
            raise PickleRefused(f"{entry.key} needs pickle, which this store does not allow")
        try:
            return decode(self._encoded(entry, checked), allow_pickle=self.allow_pickle)
        except (ResultGone, StoreError):
            raise
        except Exception as error:  # a pickle may raise anything, and none of it is the caller's
            raise ResultGone(
                f"the cached result {entry.key} of {entry.task!r} cannot be read: "
                f"{type(error).__name__}: {error}"
            ) from error

    def _encoded(self, entry: Entry, checked: bool = False) -> EncodedValue:
        if entry.blob is not None:
            with self.open_blob(entry) as path:
                return self._from_blob(entry, path)
        if entry.payload is None:
            found = self.lookup([entry.key]).get(entry.key)
            if found is None or found.payload is None:
                raise ResultGone(f"the cached result {entry.key} of {entry.task!r} is gone")
            return read_payload(entry.codec, found.payload)
        if not checked and not self.sealer.holds(entry):
            raise ResultGone(f"entry {entry.key} has no seal of this store")
        return read_payload(entry.codec, entry.payload)

    @contextmanager
    def open_blob(self, entry: Entry) -> Iterator[Path]:
        """Give the blob of an entry as a file on this machine, unchecked."""
        assert entry.blob is not None
        with self.storage.open_local(blob_path(entry.blob), entry.size_bytes) as path:
            if path is None:
                self._misses.add(entry.key)
                raise ResultGone(f"the blob of cached result {entry.key} is gone")
            yield path

    def batches(self, entry: Entry, rows: int = 65_536) -> Iterator[pa.RecordBatch]:
        """Yield a table result in batches of at most `rows` rows, one row group in memory.

        The columns are the file's own; what only `load` restores (labels, index, categories) is
        not in them. Raises as `load` does.
        """
        if entry.blob is None:
            stored = self._encoded(entry).table
            yield from stored.to_batches(rows) if stored is not None else ()
            return
        with self.open_blob(entry) as path:
            self.check_blob(entry, path)
            yield from iter_batches(path, rows)

    def _from_blob(self, entry: Entry, path: Path) -> EncodedValue:
        check = new_check(strong=self.strong)
        if (plain := read_plain(path, check)) is not None:
            self._check_blob(entry, (check.hexdigest(), plain.size_bytes))
            return plain.encoded(entry.codec)
        if entry.size_bytes > AT_ONCE_BYTES:
            self.check_blob(entry, path)
            return read_file(entry.codec, path)
        data = path.read_bytes()  # mapping a small file costs more than copying it
        self._check_blob(entry, checksum_of(data, strong=self.strong))
        return read_whole(entry.codec, data)

    def check_blob(self, entry: Entry, path: Path) -> None:
        """Raise `ResultGone` when a file has other bytes than the blob of an entry should."""
        self._check_blob(entry, file_checksum(path, strong=self.strong))

    def _check_blob(self, entry: Entry, found: tuple[str, int]) -> None:
        assert entry.blob is not None
        if self.blob_name_of(found, entry) != entry.blob:
            self.quarantine(blob_path(entry.blob), "its bytes are not those that were published")
            self._misses.add(entry.key)
            raise ResultGone(f"the blob of cached result {entry.key} is damaged")

    @property
    def strong(self) -> bool:
        """Whether blobs are named by a checksum that cannot be forged: with a secret."""
        return self._sealed_with_secret

    def blob_name_of(self, found: tuple[str, int], entry: Entry) -> str:
        """Return what a blob with this checksum and size is called, that holds this result."""
        return blob_name(*found, entry.content_digest, entry.codec, strong=self.strong)

    def blob_is_whole(self, entry: Entry) -> bool:
        """Read the blob of an entry and say whether its bytes are right; wrong ones are moved."""
        try:
            with self.open_blob(entry) as path:
                self.check_blob(entry, path)
        except ResultGone:
            return False
        return True

    def has_blob(self, entry: Entry) -> bool:
        """Say whether the blob of an entry is in this store."""
        return entry.blob is not None and self.storage.info(blob_path(entry.blob)) is not None

    def quarantine(self, path: str, reason: str) -> None:
        """Log a damaged file and move it out of the way; its result is a miss."""
        _log.warning(
            "damaged file in result store %s: %s (%s); moved to %s/",
            *(self.storage.shown_url, path, reason, QUARANTINE),
        )
        name = path.replace("/", "-")
        try:
            self.storage.move(path, f"{QUARANTINE}/{name}.{uuid.uuid4().hex[:8]}")
        except StoreError as error:
            # read-only storage, or another reader was first; the miss stands either way
            _log.debug("not moved: %s", error)

    def forget(self) -> None:
        """Forget remembered misses and look for new packs at the next look-up."""
        self._misses.clear()
        self.packs.forget()

    # ---- the whole store

    def missed(self, keys: Iterable[str]) -> set[str]:
        """Return those keys that are remembered as misses: nothing is asked for them."""
        return self._misses.intersection(keys)

    def keys(self) -> set[str]:
        """Return the keys of all entries, by their names; no row of its own is read."""
        self._check_format()
        self.packs.forget()
        return self.packs.keys() | self._listed(INDEX)

    def entries(self) -> Iterator[Entry]:
        """Yield every readable entry, also expired ones; damaged ones are quarantined."""
        self._check_format()
        self.packs.forget()
        seen = set()
        for entry, whole in self.packs.entries():
            path = entry.pack or ""
            if entry.key not in seen and self._usable(entry, entry.key, path, 0.0, whole):
                seen.add(entry.key)
                yield entry
        names = sorted(self._listed(INDEX) - seen)
        for start in range(0, len(names), 1000):
            for key, data in self._read_batch(names[start : start + 1000]).items():
                if entry_found := self._read_row(key, data, 0.0):
                    yield entry_found

    def _read_batch(self, keys: Sequence[str]) -> dict[str, bytes]:
        got = self.storage.read_many([index_path(key) for key in keys])
        return {key: got[path] for key in keys if (path := index_path(key)) in got}

    # ---- the format file

    def _check_format(self, create: bool = False) -> None:
        """Read the format file once, and write it before the first result."""
        if self._format_known and (self._format_written or not create):
            return
        data = self.storage.read(FORMAT_FILE)
        if data is None and create:
            if not self.storage.create(FORMAT_FILE, self._format.to_bytes(), sync=True):
                data = self.storage.read(FORMAT_FILE)
            self._format_written = True
        if data is not None:
            found = StoreFormat.from_bytes(data, self.storage.shown_url)
            found.check(self._format, self.storage.shown_url)
            self._format_written = True
        self._format_known = True
