"""The result store: publish results under cache keys, find them again, never a wrong one.

Blob first, index row last, each published exclusively, so a writer that dies leaves a miss and
no lie.  What is read is checked against seal and digest before it is decoded; whatever does not
fit is logged, moved to ``quarantine/`` and counts as a miss.  Misses and packs are remembered for
the life of the object: one object a run.  It pickles as its URL; the secret never travels.
"""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from daskflow.caching.index import FORMAT, Entry, Sealer, read_table, rows_of, write_rows
from daskflow.caching.index_packs import Packs
from daskflow.caching.index_plan import LookupPlan, plan_lookup, prefix_counts
from daskflow.caching.store_layout import (
    BLOBS,
    FORMAT_FILE,
    INDEX,
    QUARANTINE,
    StoreFormat,
    blob_path,
    check_key,
    index_path,
    key_of_path,
)
from daskflow.errors import PickleRefused, ResultGone, StoreError, UsageError
from daskflow.results.codecs import decode, encode
from daskflow.results.encoded import Encoded, is_pickled
from daskflow.results.files import BlobDamaged, read_file, read_payload, write_file, write_payload
from daskflow.results.storage import Storage

__all__ = ["SECRET_VARIABLE", "NewResult", "ResultStore"]

SECRET_VARIABLE = "DASKFLOW_RESULTS__SECRET"
INLINE_BYTES = 32 << 10
# Below this many keys asking is as good as listing; locally asking is always as good.
LIST_FROM = 32

_SEALS = ("sha256:", "hmac:")
# what reading other bytes than were written may raise
_DAMAGE = (pa.ArrowException, BlobDamaged, OSError, ValueError, KeyError, TypeError, IndexError)

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


class ResultStore:
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
    options : mapping, optional
        Options of the fsspec file system, such as an endpoint.

    Raises
    ------
    UsageError
        For a URL that cannot be used here.
    """

    def __init__(
        self,
        url: str,
        *,
        secret: bytes | None = None,
        allow_pickle: bool = True,
        hash_algorithm: str = "sha256",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.storage = Storage(url, dict(options or {}))
        self.allow_pickle = allow_pickle
        self.sealer = Sealer(secret)
        self._format = StoreFormat(FORMAT, hash_algorithm, self.sealer.key_id)
        self._format_known = self._format_written = False
        self._sealed_with_secret = secret is not None
        self.packs = Packs(self.storage, self.quarantine)
        self._misses: set[str] = set()

    def __repr__(self) -> str:
        return f"ResultStore({self.storage.shown_url!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (
            *(self.storage.url, self._sealed_with_secret, self.allow_pickle),
            *(self._format.hash_algorithm, self.storage.options),
        )

    # ---- reading

    def lookup(self, keys: Iterable[str]) -> dict[str, Entry]:
        """Return the entries of those keys that have one; absent keys are misses.

        Small results come with their entry, in the same request. Misses are remembered until
        `forget`. Damaged entries are logged, quarantined and missing here.

        Raises
        ------
        StoreError
            When the storage cannot answer.
        """
        self._check_format()
        now = time.time()
        wanted = [key for key in dict.fromkeys(keys) if check_key(key) not in self._misses]
        found: dict[str, Entry] = {}
        for key, entries in self.packs.find(wanted).items():
            if entry := next((e for e in entries if self._usable(e, key, e.pack or "", now)), None):
                found[key] = entry
        for key, data in self._read_rows([k for k in wanted if k not in found]).items():
            if entry := self._read_row(key, data, now):
                found[key] = entry
        self._misses.update(key for key in wanted if key not in found)
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
            rows = rows_of(read_table(data))
        except _DAMAGE as error:
            self.quarantine(path, f"{type(error).__name__}: {error}")
            return None
        # no row at all is one of another format version: a plain miss
        return rows[0] if rows and self._usable(rows[0], key, path, now) else None

    def _usable(self, entry: Entry, key: str, path: str, now: float) -> bool:
        ours = "hmac:" if self._sealed_with_secret else "sha256:"
        if entry.key == key and entry.seal.startswith(_SEALS) and not entry.seal.startswith(ours):
            _log.warning("%s is not sealed with this store's secret; it counts as a miss", path)
            return False
        if entry.key != key or not self.sealer.holds(entry):
            self.quarantine(path, "its seal does not fit")
            return False
        return not entry.expired(now) and (self.allow_pickle or not is_pickled(entry.codec))

    def load(self, entry: Entry) -> Any:
        """Return the value of an entry, fresh: changing it changes no later hit.

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
            return decode(self._encoded(entry), allow_pickle=self.allow_pickle)
        except (ResultGone, StoreError):
            raise
        except Exception as error:  # a pickle may raise anything, and none of it is the caller's
            raise ResultGone(
                f"the cached result {entry.key} of {entry.task!r} cannot be read: "
                f"{type(error).__name__}: {error}"
            ) from error

    def _encoded(self, entry: Entry) -> Encoded:
        if entry.blob is not None:
            with self.open_blob(entry) as path:
                return self._from_blob(entry, path)
        if entry.payload is None:
            found = self.lookup([entry.key]).get(entry.key)
            if found is None or found.payload is None:
                raise ResultGone(f"the cached result {entry.key} of {entry.task!r} is gone")
            return read_payload(entry.codec, found.payload)
        if not self.sealer.holds(entry):
            raise ResultGone(f"entry {entry.key} has no seal of this store")
        return read_payload(entry.codec, entry.payload)

    @contextmanager
    def open_blob(self, entry: Entry) -> Iterator[Path]:
        """Give the blob of an entry as a file on this machine, unchecked."""
        assert entry.blob is not None
        with self.storage.open_local(blob_path(entry.blob)) as path:
            if path is None:
                self._misses.add(entry.key)
                raise ResultGone(f"the blob of cached result {entry.key} is gone")
            yield path

    def _from_blob(self, entry: Entry, path: Path) -> Encoded:
        assert entry.blob is not None
        try:
            return read_file(entry.codec, path, entry.blob)
        except _DAMAGE as error:
            self.quarantine(blob_path(entry.blob), str(error))
            self._misses.add(entry.key)
            raise ResultGone(f"the blob of cached result {entry.key} is damaged") from error

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
            blob, size = self._publish_blob(encoded)
        expires = None if new.expires_unix is None else round(new.expires_unix, 6)
        entry = Entry(
            *(check_key(new.key), new.task, encoded.codec, new.content_digest, blob, size),
            *(payload, round(new.created_unix, 6), expires, new.duration_s),
            {str(name): str(part) for name, part in new.parts.items()},
            encoded.schema,
        )
        return self.sealer.sealed(entry)

    def _inline(self, encoded: Encoded) -> bytes | None:
        """Return the bytes of a result that is small enough for the index row."""
        if encoded.payload is None and encoded.table.nbytes > INLINE_BYTES:  # type: ignore[union-attr]
            return None
        payload = write_payload(encoded)
        return payload if len(payload) <= INLINE_BYTES else None

    def _publish_blob(self, encoded: Encoded) -> tuple[str, int]:
        written: list[tuple[str, int]] = []
        path = ""

        def name() -> str:
            nonlocal path
            path = blob_path(written[0][0])
            return path

        if not self.storage.create_named(
            BLOBS, lambda file: written.append(write_file(encoded, file)), name
        ):
            # the same bytes are there already; a sweep that is under way must spare them
            self.storage.touch(path)
        return written[0]

    def _publish_row(self, entry: Entry, replace: bool) -> Entry:
        path, row = index_path(entry.key), write_rows([entry])
        self._misses.discard(entry.key)
        if replace:
            # out of the packs first: a crash in between leaves a miss, never the old result
            self.packs.remove([entry.key])
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
        packed = self.packs.remove(wanted)
        paths = [path for key in wanted if self.storage.info(path := index_path(key))]
        self.storage.delete(paths)
        self._misses.update(wanted)
        return packed + len(paths)

    # ---- the whole store

    def entries(self) -> Iterator[Entry]:
        """Yield every readable entry, also expired ones; damaged ones are quarantined."""
        self._check_format()
        self.packs.forget()
        seen = set()
        for entry in self.packs.entries():
            if entry.key not in seen and self._usable(entry, entry.key, entry.pack or "", 0.0):
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
            if not self.storage.create(FORMAT_FILE, self._format.to_bytes()):
                data = self.storage.read(FORMAT_FILE)
            self._format_written = True
        if data is not None:
            found = StoreFormat.from_bytes(data, self.storage.shown_url)
            found.check(self._format, self.storage.shown_url)
            self._format_written = True
        self._format_known = True


def _reopen(
    url: str, sealed: bool, allow_pickle: bool, hash_algorithm: str, options: dict[str, Any]
) -> ResultStore:
    secret = os.environ.get(SECRET_VARIABLE, "").encode() or None
    if sealed and secret is None:
        raise UsageError(
            f"the result store {url!r} is sealed with a secret, and {SECRET_VARIABLE} is not set "
            "in this process; set it on every worker"
        )
    return ResultStore(
        url,
        secret=secret if sealed else None,
        allow_pickle=allow_pickle,
        hash_algorithm=hash_algorithm,
        options=options,
    )
