"""Entries of the cache index: one row for each cached result, sealed, in small Parquet files.

A row says what was computed, when, from which parts its key was made, and either holds the result
(`payload`) or names the blob that does.  The seal covers every field: sha256 finds damage, HMAC
with the store's secret also finds forgery.  Rows and their codecs are pure: no file is touched.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from daskflow.caching.store_format import FORMAT

__all__ = [
    "FORMAT",
    "Entry",
    "Sealer",
    "StoredParts",
    "blob_name",
    "entry_of",
    "plain_rows",
    "read_row",
    "read_table",
    "rows_of",
    "write_rows",
]

_US = 1_000_000
_new = tuple.__new__  # a NamedTuple's own constructor takes three times as long
_CARRIED_BYTES = 4096
_ROW = b"daskflow row"
_NO_CHECK = "-" * 16  # stands in a row's footer while its checksum is made

_SCHEMA = pa.schema(
    [
        ("format", pa.int16()),
        ("key", pa.string()),
        ("task", pa.string()),
        ("codec", pa.string()),
        ("content", pa.string()),
        ("blob", pa.string()),
        ("bytes", pa.int64()),
        ("payload", pa.large_binary()),
        ("created", pa.timestamp("us", "UTC")),
        ("expires", pa.timestamp("us", "UTC")),
        ("duration_s", pa.float64()),
        ("parts", pa.string()),
        ("schema", pa.string()),
        ("seal", pa.string()),
    ]
)


class StoredParts(Mapping[str, str]):
    """The parts of a key as their JSON text, which few hits need to be read."""

    __slots__ = ("_read", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._read: dict[str, str] | None = None

    @classmethod
    def of(cls, parts: Mapping[str, str]) -> StoredParts:
        """Return parts as they are stored; the order of names does not count."""
        return cls(json.dumps({str(k): str(v) for k, v in parts.items()}, sort_keys=True))

    def _parts(self) -> dict[str, str]:
        if self._read is None:
            self._read = json.loads(self.text)
        return self._read

    def __getitem__(self, name: str) -> str:
        return self._parts()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts())

    def __len__(self) -> int:
        return len(self._parts())

    def __repr__(self) -> str:
        return f"StoredParts({self.text!r})"

    def __reduce__(self) -> tuple[type[StoredParts], tuple[str]]:
        return StoredParts, (self.text,)


class Entry(NamedTuple):
    """A cached result: what the index knows about it, and small results themselves.

    Attributes
    ----------
    key : str
        Cache key, lower-case hex.
    task : str
        Name of the task that computed it.
    codec : str
        How it is stored; ``+pickle`` or ``pickle`` says that loading unpickles.
    content_digest : str
        Content digest of the value, hex; keys of dependents are made of it.
    blob : str or None
        Name of the blob that holds the value (`blob_name`); None when the value is in the row.
    size_bytes : int
        Stored size of the value.
    payload : bytes or None
        The stored value, when it is small; None after `without_payload`.
    created_unix, expires_unix : float, float or None
        When it was published, and from when on it is a miss (unix seconds).
    duration_s : float or None
        How long computing took (seconds): what a hit saves.
    parts : StoredParts
        What the key was made of, name to digest.
    schema : str or None
        Schema of a table result, one ``name: type`` a line.
    seal : str
        ``sha256:…`` or ``hmac:…`` over all of the above.
    pack : str or None
        Path of the pack that holds the row, None for a row of its own.
    """

    key: str
    task: str
    codec: str
    content_digest: str
    blob: str | None
    size_bytes: int
    payload: bytes | None
    created_unix: float
    expires_unix: float | None
    duration_s: float | None
    parts: StoredParts
    schema: str | None
    seal: str = ""
    pack: str | None = None

    def without_payload(self) -> Entry:
        """Return the entry without its value, to keep many of them in memory."""
        return self._replace(payload=None)

    def carried(self) -> Entry:
        """Return the entry as it travels with an outcome: with its value only if that is tiny."""
        if self.payload is None or len(self.payload) <= _CARRIED_BYTES:
            return self
        return self.without_payload()

    def expired(self, now: float) -> bool:
        """Say whether the entry counts as a miss at `now` (unix seconds)."""
        return self.expires_unix is not None and self.expires_unix <= now


class Sealer:
    """Makes and checks seals; the secret stays in this process."""

    def __init__(self, secret: bytes | None) -> None:
        self._secret = secret

    def __repr__(self) -> str:
        return f"Sealer({'hmac' if self._secret else 'sha256'})"

    @cached_property
    def key_id(self) -> str | None:
        """A name for the secret that tells nothing about it; None without one."""
        if not self._secret:
            return None
        return hmac.digest(self._secret, b"daskflow key id", "sha256").hex()[:16]

    def seal(self, entry: Entry) -> str:
        """Return the seal of an entry."""
        message = _message(entry)
        if self._secret:
            return "hmac:" + hmac.digest(self._secret, message, "sha256").hex()
        return "sha256:" + hashlib.sha256(message).hexdigest()

    def sealed(self, entry: Entry) -> Entry:
        """Return the entry with its seal."""
        return entry._replace(seal=self.seal(entry))

    def holds(self, entry: Entry) -> bool:
        """Say whether an entry has the seal that its fields call for."""
        return hmac.compare_digest(entry.seal, self.seal(entry))


def blob_name(
    checksum: str, size_bytes: int, content_digest: str, codec: str, *, strong: bool
) -> str:
    """Return the name of a blob, hex: it fits no other bytes, so loading checks a file against it.

    A strong checksum is the name itself.  A quick one finds damage and could be forged, so the
    name is also made of the content: whatever is forged, it is no file of another value.
    """
    if strong:
        return checksum
    made = f"daskflow blob {size_bytes} {checksum} {content_digest} {codec}"
    return hashlib.sha256(made.encode()).hexdigest()


def _message(entry: Entry) -> bytes:
    # By hand, because JSON would take most of the time of a hit.  Free text goes with its length,
    # so no two entries have one message; times are whole microseconds, as they are stored.
    parts = entry.parts.text
    schema = "-" if entry.schema is None else f"{len(entry.schema)}:{entry.schema}"
    head = (
        f"{FORMAT} {entry.key} {entry.codec} {entry.content_digest} {entry.blob} "
        f"{entry.size_bytes} {_micros(entry.created_unix)} {_micros(entry.expires_unix)} "
        f"{entry.duration_s} {entry.payload is None} {len(entry.task)}:{entry.task}"
        f"{len(parts)}:{parts}{schema}"
    )
    return head.encode("utf-8", "surrogatepass") + b"\0" + (entry.payload or b"")


def _micros(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * _US)


def write_rows(entries: Sequence[Entry]) -> bytes:
    """Return entries as the bytes of one Parquet file."""
    columns: list[Sequence[Any]] = [
        [FORMAT] * len(entries),
        [e.key for e in entries],
        [e.task for e in entries],
        [e.codec for e in entries],
        [e.content_digest for e in entries],
        [e.blob for e in entries],
        [e.size_bytes for e in entries],
        [e.payload for e in entries],
        [_micros(e.created_unix) for e in entries],
        [_micros(e.expires_unix) for e in entries],
        [e.duration_s for e in entries],
        [e.parts.text for e in entries],
        [e.schema for e in entries],
        [e.seal for e in entries],
    ]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, _SCHEMA, strict=True)]
    sink = pa.BufferOutputStream()
    one = len(entries) == 1
    with pq.ParquetWriter(
        sink,
        _SCHEMA,
        compression="none" if one else "zstd",
        use_dictionary=False,
        write_statistics=False,
        store_schema=False,
    ) as writer:
        writer.write_table(pa.table(arrays, schema=_SCHEMA))
        if one:
            text = _row_text(entries[0])
            writer.add_key_value_metadata({_ROW: text})
    data: bytes = sink.getvalue().to_pybytes()
    return _checked(data, text)[0] if one else data


def _row_text(entry: Entry) -> bytes:
    """Return a row as JSON for the footer of its file; its value stands in its column only."""
    e = entry
    times = _micros(e.created_unix), _micros(e.expires_unix)
    row = (
        *(_NO_CHECK, FORMAT, e.key, e.task, e.codec, e.content_digest, e.blob, e.size_bytes),
        *(e.payload is not None, *times, e.duration_s, e.parts.text, e.schema, e.seal),
    )
    return json.dumps(row).encode()


def _checked(data: bytes, text: bytes) -> tuple[bytes, bytes]:
    """Return a file with its checksum in place, in the JSON at its end, and the checksum.

    It is made of all other bytes.  The seal is what counts: this finds damage to what nobody reads.
    """
    begin = data.rfind(text) + len('["')
    end = begin + len(_NO_CHECK)
    check = xxhash.xxh3_64_hexdigest(data[:begin] + data[end:]).encode()
    return data[:begin] + check + data[end:], check


def read_row(data: bytes) -> Entry | None:
    """Return the entry in a file of one row, from its footer where that has it.

    Columns take five times as long.  None for a row of another format version.  Raises as
    `read_table` does; the seal is for the caller to check.
    """
    metadata = pq.ParquetFile(pa.BufferReader(data)).metadata
    text = (metadata.metadata or {}).get(_ROW)
    if text is None:
        rows = rows_of(read_table(data))
        return rows[0] if rows else None
    check, *row = json.loads(text)
    if _checked(data, text)[1] != check.encode():
        raise ValueError("its checksum does not fit")
    if row[0] != FORMAT:
        return None
    size, there = row[6:8]
    row[7] = None
    if there:
        chunk = metadata.row_group(0).column(7)
        # uncompressed, and the only value of its page
        end = chunk.data_page_offset + chunk.total_compressed_size
        row[7] = data[end - size : end]
    return entry_of(tuple(row), None)


def read_table(data: bytes) -> pa.Table:
    """Return the rows of a file, without those of another format version.

    Raises whatever a damaged file makes pyarrow raise; seals are for the caller to check.
    """
    table = pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False)
    if table.schema != _STORED:
        raise ValueError(f"not the columns of an index row: {table.schema.names}")
    formats = table.column(0)
    if formats.to_pylist() != [FORMAT] * len(formats):
        table = table.filter(pa.array([found == FORMAT for found in formats.to_pylist()]))
    return table


def rows_of(table: pa.Table, pack: str | None = None) -> list[Entry]:
    """Return the entries in a table that `read_table` gave."""
    return [entry_of(row, pack) for row in plain_rows(table)]


def plain_rows(table: pa.Table) -> list[tuple[Any, ...]]:
    """Return the rows of such a table as tuples, for `entry_of` to make entries of when asked."""
    columns = [
        # times as numbers: a datetime for each would cost more than the rest of the row
        _micros_of(column) if field.name in _TIMES else column.to_pylist()
        for field, column in zip(table.schema, table.columns, strict=True)
    ]
    return list(zip(*columns, strict=True))


def _micros_of(column: pa.ChunkedArray) -> list[int | None]:
    return [time for chunk in column.chunks for time in chunk.view(pa.int64()).to_pylist()]


_TIMES = ("created", "expires")
# as Parquet gives it back: without the schema that Arrow could keep, all binaries are alike
_STORED = _SCHEMA.set(7, pa.field("payload", pa.binary()))


def entry_of(row: tuple[Any, ...], pack: str | None) -> Entry:
    """Return the entry of a row that `plain_rows` gave; the seal is for the caller to check."""
    _, key, task, codec, content, blob, size, payload, created, expires, *rest = row
    duration, parts, schema, seal = rest
    made = (
        *(key, task, codec, content, blob, size, payload, created / _US),
        *(None if expires is None else expires / _US, duration, StoredParts(parts), schema),
        *(seal, pack),
    )
    return _new(Entry, made)
