"""The result store: publish results under cache keys, find them again, never a wrong one.

Blob first, index row last, each published exclusively, so a writer that dies leaves a miss and
no lie.  Of two writers of one key the loser adopts the winner's record.  A store pickles as its
URL and opens again elsewhere; the secret never travels.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple

from daskflow.caching.index import Entry, StoredParts, blob_name, write_rows
from daskflow.caching.pack_rewriting import remove_rows
from daskflow.caching.secret import secret_here
from daskflow.caching.store_layout import BLOBS, blob_path, check_key, index_path
from daskflow.caching.store_reader import ResultReader
from daskflow.caching.store_upkeep import (
    GcReport,
    StoreStats,
    VerifyReport,
    collect,
    stats,
    verify,
)
from daskflow.results.codecs import encode
from daskflow.results.encoded import EncodedValue
from daskflow.results.files import write_file, write_payload
from daskflow.results.storage_options import StorageOptions

__all__ = ["NewResult", "ResultStore"]

INLINE_BYTES = 32 << 10

_log = logging.getLogger(__name__)


class NewResult(NamedTuple):
    """A result to publish; the fields are those of `ResultStore.publish`."""

    key: str
    value: Any
    content_digest: str
    task: str
    parts: Mapping[str, str]
    created_unix: float
    expires_unix: float | None = None
    duration_s: float | None = None
    replace: bool = False


class ResultStore(ResultReader):
    """Results under cache keys below one URL.

    Parameters
    ----------
    url : str
        A folder, or any URL that fsspec knows (``file://``, ``memory://``, ``s3://…``).
    secret : bytes, optional
        Seals entries with HMAC, for storage that others can write to. Entries without that seal
        are misses. When the store is pickled the secret stays behind: the copy reads it from the
        environment variable ``DASKFLOW_RESULTS__SECRET``.
    allow_pickle : bool
        Whether pickle may hold, and be loaded for, what no other codec can. Default True.
    hash_algorithm : str
        Algorithm of content digests and keys, kept in the format file. Default ``sha256``.
    options : mapping or StorageOptions, optional
        Options of the fsspec file system, such as an endpoint. They are pickled with the store,
        but for texts ``${NAME}``: those are read from the environment of each process.
    timeout_s : float
        Seconds that one request may take. Default 30.

    Raises
    ------
    UsageError
        For a URL that cannot be used here.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        storage = self.storage
        return _reopen, (
            *(storage.url, self._sealed_with_secret, self.allow_pickle),
            *(self._format.hash_algorithm, storage.options, storage.timeout_s),
        )

    # ---- writing

    def publish(
        self,
        key: str,
        value: Any,
        *,
        content_digest: str,
        task: str,
        parts: Mapping[str, str],
        created_unix: float,
        expires_unix: float | None = None,
        duration_s: float | None = None,
        replace: bool = False,
    ) -> Entry:
        """Publish a result and return its entry, or the entry of whoever was first.

        Parameters
        ----------
        key : str
            Cache key, lower-case hex.
        value : object
            The result; neither changed nor consumed.
        content_digest : str
            Content digest of the value.
        task : str
            Name of the task.
        parts : mapping of str to str
            What the key was made of.
        created_unix : float
            When it was computed (unix seconds).
        expires_unix : float, optional
            From when on the entry is a miss (unix seconds).
        duration_s : float, optional
            How long computing took (seconds).
        replace : bool
            Put the result in the place of an earlier one, for a refresh. Default False.

        Raises
        ------
        PickleRefused
            When only pickle could hold the value and the store does not allow it.
        StoreError
            When the value cannot be stored at all, or the storage is full, read-only or away.
        """
        given = (content_digest, task, parts, created_unix, expires_unix, duration_s)
        new = NewResult(check_key(key), value, *given, replace)
        self._check_format(create=True)
        return self._publish_row(self._entry(new), replace)

    def publish_many(self, results: Iterable[NewResult]) -> list[Entry]:
        """Publish many results; those that are small share one pack.

        Raises as `publish` does; results before the one that failed may be published then.
        """
        items = list(results)
        return self.publish_prepared([(self.prepare(item), item.replace) for item in items])

    def prepare(self, new: NewResult) -> Entry:
        """Encode a result, and store it if it is large; nobody finds it before it is published.

        The value may change after this.  Raises as `publish` does.
        """
        self._check_format(create=True)
        return self._entry(new)

    def publish_prepared(self, prepared: Sequence[tuple[Entry, bool]]) -> list[Entry]:
        """Publish what `prepare` returned, each with whether it replaces; as `publish_many`."""
        entries = [entry for entry, _ in prepared]
        together = [
            at
            for at, (entry, replace) in enumerate(prepared)
            if entry.payload is not None and not replace
        ]
        if len(together) < 2:
            together = []
        for at in set(range(len(entries))).difference(together):
            entries[at] = self._publish_row(*prepared[at])
        if together:
            pack = self.packs.publish([entries[at] for at in together], time.time())
            for at in together:
                entries[at] = entries[at]._replace(pack=pack)
                self._misses.discard(entries[at].key)
        return entries

    def _entry(self, new: NewResult) -> Entry:
        encoded = encode(new.value, allow_pickle=self.allow_pickle)
        payload = self._inline(encoded)
        if payload is not None:
            blob, size = None, len(payload)
        else:
            blob, size = self._publish_blob(encoded, new.content_digest)
        expires = None if new.expires_unix is None else round(new.expires_unix, 6)
        duration = None if new.duration_s is None else float(new.duration_s)
        entry = Entry(
            *(check_key(new.key), new.task, encoded.codec, new.content_digest, blob, size),
            *(payload, round(new.created_unix, 6), expires, duration),
            StoredParts.of(new.parts),
            encoded.schema,
        )
        return self.sealer.sealed(entry)

    def _inline(self, encoded: EncodedValue) -> bytes | None:
        """Return the bytes of a result that is small enough for the index row."""
        if encoded.payload is None and encoded.table.nbytes > INLINE_BYTES:  # type: ignore[union-attr]
            return None
        payload = write_payload(encoded)
        return payload if len(payload) <= INLINE_BYTES else None

    def _publish_blob(self, encoded: EncodedValue, content_digest: str) -> tuple[str, int]:
        blob, size = "", 0

        def write(file: BinaryIO) -> None:
            nonlocal blob, size
            checksum, size = write_file(encoded, file, strong=self.strong)
            blob = blob_name(checksum, size, content_digest, encoded.codec, strong=self.strong)

        if not self.storage.create_named(BLOBS, write, lambda: blob_path(blob)):
            # the same bytes are there already; a sweep that is under way must spare them
            self.storage.touch(blob_path(blob))
        return blob, size

    def _publish_row(self, entry: Entry, replace: bool) -> Entry:
        path, row = index_path(entry.key), write_rows([entry])
        self._misses.discard(entry.key)
        if replace:
            # out of the packs first: a crash in between leaves a miss, never the old result
            self._remove_packed([entry.key])
            self.storage.replace(path, row)
            return entry
        if self.storage.create(path, row):
            return entry
        data = self.storage.read(path)
        winner = None if data is None else self._read_row(entry.key, data, time.time())
        if winner is None:
            # expired, damaged, of another version or removed meanwhile: ours takes its place
            self.storage.replace(path, row)
            return entry
        if winner.content_digest != entry.content_digest:
            _log.warning(
                "%s gave two different results for the same inputs (cache key %s); the first one "
                "is kept: the task is not deterministic, or its cache key leaves an input out",
                *(entry.task, entry.key),
            )
        return winner

    def remove(self, keys: Iterable[str]) -> int:
        """Remove entries; return how many there were. Their blobs go with the next `gc`."""
        wanted = [check_key(key) for key in dict.fromkeys(keys)]
        packed = self._remove_packed(wanted)
        paths = [path for key in wanted if self.storage.info(path := index_path(key))]
        self.storage.delete(paths)
        self._misses.update(wanted)
        return packed + len(paths)

    def _remove_packed(self, keys: Sequence[str]) -> int:
        return remove_rows(self.storage, self.packs, keys, self.sealer.holds)

    def adopt(self, entries: Iterable[Entry]) -> None:
        """Keep entries of another store as they are; their seals are checked here as there."""
        sealed = [e._replace(pack=None) for e in entries if self.sealer.holds(e)]
        if not sealed:
            return
        self._check_format(create=True)
        if len(sealed) == 1:
            self.storage.replace(index_path(sealed[0].key), write_rows(sealed))
        else:
            self.packs.publish(sealed, time.time())
        self._misses.difference_update(e.key for e in sealed)

    def adopt_blob(self, entry: Entry, source: ResultReader) -> None:
        """Copy the blob of an entry from another store, then its row; raises as `load` does."""
        with source.open_blob(entry) as path, open(path, "rb") as data:
            source.check_blob(entry, path)
            self.storage.create_named(
                BLOBS,
                lambda file: shutil.copyfileobj(data, file),
                lambda: blob_path(str(entry.blob)),
            )
        self.adopt([entry])

    # ---- upkeep

    def gc(
        self,
        *,
        max_size_bytes: int | None = None,
        older_than_s: float | None = None,
        grace_s: float = 3600.0,
        dry_run: bool = False,
        now: float | None = None,
    ) -> GcReport:
        """Evict entries: the expired, then the old, then the oldest until the rest fits.

        Safe while others write: blobs that no entry names stay for the grace period.

        Parameters
        ----------
        max_size_bytes : int, optional
            What is kept is at most this large (bytes).
        older_than_s : float, optional
            Entries of this age (seconds) and more go.
        grace_s : float
            Age (seconds) below which blobs stay. Default one hour.
        dry_run : bool
            Say what would go and touch nothing. Default False.
        now : float, optional
            The time (unix seconds); the clock's by default.

        Raises
        ------
        StoreError
            When the storage cannot be read or written.
        """
        return collect(
            self,
            now=time.time() if now is None else now,
            grace_s=grace_s,
            max_size_bytes=max_size_bytes,
            older_than_s=older_than_s,
            dry_run=dry_run,
        )

    def verify(self) -> VerifyReport:
        """Read every entry and blob, move damaged ones to quarantine, and report."""
        return verify(self)

    def stats(self) -> StoreStats:
        """Count entries, bytes, and seconds of computing, by task."""
        return stats(self)


def _reopen(
    url: str,
    sealed: bool,
    allow_pickle: bool,
    hash_algorithm: str,
    options: StorageOptions,
    timeout_s: float,
) -> ResultStore:
    return ResultStore(
        url,
        secret=secret_here(url, sealed),
        allow_pickle=allow_pickle,
        hash_algorithm=hash_algorithm,
        options=options,
        timeout_s=timeout_s,
    )
