"""Encoded values as Parquet files: bytes for small ones, a streamed and hashed file for large ones.

The codec's name and metadata stand in the file's own schema metadata, so a file explains itself.
A file is written row group by row group, and its checksum is made as it is written; it is read
through a memory map, and can be checked before a byte of it is decoded.  The checksum is XXH3 of
128 bits, which finds damage, or sha256 (`strong`), which also finds a file made to deceive.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from daskflow.results.encoded import EncodedValue
from daskflow.results.parts import CHUNK_BYTES, parts_table
from daskflow.results.plain_parquet import is_plain, plain_pieces

__all__ = [
    "checksum_of",
    "file_checksum",
    "iter_batches",
    "new_check",
    "read_file",
    "read_payload",
    "read_whole",
    "write_file",
    "write_payload",
]

ROW_GROUP_BYTES = 64 << 20
THREADS_FROM_BYTES = 8 << 20
_AT_ONCE_BYTES = 4 << 20  # a table of this size is written in memory first: a fifth less time
_PLAIN_COLUMN_BYTES = 8 << 10
_META = b"daskflow"
_SAMPLE_BYTES = 16 << 10  # of a column of numbers, which says whether it compresses
_WORTH = 0.7  # what is left, at most
_lz4 = pa.Codec("lz4_raw")
# codecs whose rows are raw bytes: compression costs more time there than it saves
_RAW = frozenset({"numpy", "pickle", "tree", "json"})


def write_payload(encoded: EncodedValue) -> bytes:
    """Return an encoded value as bytes: its JSON text, or a Parquet file."""
    if encoded.payload is not None:
        return encoded.payload
    sink = pa.BufferOutputStream()
    _write(encoded, sink)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def read_payload(codec: str, data: bytes) -> EncodedValue:
    """Return what `write_payload` was given."""
    if codec == "json":
        return EncodedValue(codec, {}, data)
    return _read(codec, _opened(pa.BufferReader(data)), threads=False)


def write_file(encoded: EncodedValue, file: BinaryIO, *, strong: bool) -> tuple[str, int]:
    """Write an encoded value to a file; return the checksum of its bytes and their number."""
    if encoded.table is None:
        encoded = encoded._replace(table=parts_table([encoded.payload or b""]))
    if encoded.meta.get("schema") and _is_worth_it(encoded.table):
        return _write_plain(encoded, file, strong)
    if encoded.table is not None and encoded.table.nbytes <= _AT_ONCE_BYTES:
        whole = pa.BufferOutputStream()
        _write(encoded, whole)
        data = whole.getvalue()
        file.write(data)
        check = hashlib.sha256(data) if strong else xxhash.xxh3_128(data)
        return check.hexdigest(), data.size
    sink = _Hashing(file) if strong else _Checking(file)
    try:
        _write(encoded, pa.PythonFile(sink, mode="w"))
    finally:
        sink.finish()
    return sink.digest.hexdigest(), sink.size_bytes


def _is_worth_it(table: pa.Table) -> bool:
    """Say whether a table is written as plain numbers: small columns are cheaper by Arrow."""
    large = table.nbytes >= _PLAIN_COLUMN_BYTES * table.num_columns
    return large and is_plain(table) and not _shrinks(table)


def _write_plain(encoded: EncodedValue, file: BinaryIO, strong: bool) -> tuple[str, int]:
    sink = _Hashing(file) if strong else _Checking(file)
    said = {"codec": encoded.codec, "meta": encoded.meta}
    try:
        for piece in plain_pieces(encoded.table, said, _group_rows(encoded.table)):
            sink.write(piece)
    finally:
        sink.finish()
    return sink.digest.hexdigest(), sink.size_bytes


def new_check(*, strong: bool) -> Any:
    """Return the hash whose digest is the checksum of a file."""
    return hashlib.sha256() if strong else xxhash.xxh3_128()


def checksum_of(data: bytes, *, strong: bool) -> tuple[str, int]:
    """Return what `file_checksum` returns of a file with these bytes."""
    check = hashlib.sha256(data) if strong else xxhash.xxh3_128(data)
    return check.hexdigest(), len(data)


def read_file(codec: str, path: Path) -> EncodedValue:
    """Return the encoded value in a file; its digest has been checked by the caller."""
    # starting threads takes longer than decoding a small file
    threads = path.stat().st_size > THREADS_FROM_BYTES
    with _opened(path, memory_map=True, pre_buffer=False) as file:
        return _read(codec, file, threads)


def read_whole(codec: str, data: bytes) -> EncodedValue:
    """Return what `read_file` returns of a file with these bytes."""
    return _read(codec, _opened(pa.BufferReader(data), pre_buffer=False), threads=False)


_opening = threading.Lock()


def _opened(source: Any, **options: Any) -> pq.ParquetFile:
    """Open a file whose columns will be read into memory of the system's allocator.

    Arrow's default one takes huge pages: a kept frame of 1 MB cost 2 MB and twice the time.  A
    reader has no option for it, and takes the process's choice at its opening, which is put back.
    """
    with _opening:
        before = pa.default_memory_pool()
        pa.set_memory_pool(pa.system_memory_pool())
        try:
            return pq.ParquetFile(source, **options)
        finally:
            pa.set_memory_pool(before)


def iter_batches(path: Path, rows: int) -> Iterator[pa.RecordBatch]:
    """Yield a table in a file batch by batch, one row group in memory at a time."""
    with pq.ParquetFile(path, memory_map=True, pre_buffer=False) as file:
        yield from file.iter_batches(batch_size=rows)


def file_checksum(path: Path, *, strong: bool) -> tuple[str, int]:
    """Return the checksum of a file's bytes and their number, without reading it into memory."""
    check = hashlib.sha256() if strong else xxhash.xxh3_128()
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
                check.update(view)
    return check.hexdigest(), size


def _write(encoded: EncodedValue, sink: Any) -> None:
    table = encoded.table
    assert table is not None
    said = json.dumps({"codec": encoded.codec, "meta": encoded.meta}).encode()
    schema = table.schema.with_metadata({**(table.schema.metadata or {}), _META: said})
    raw = encoded.codec.partition("+")[0] in _RAW or encoded.meta.get("ipc")
    with pq.ParquetWriter(
        sink,
        schema,
        compression="none" if raw else _compression(table),
        use_dictionary=_dictionary_columns(schema),
        write_statistics=not raw,
        data_page_size=CHUNK_BYTES if raw else None,
        write_page_checksum=False,  # the digest covers every byte
    ) as writer:
        rows = _group_rows(table)
        for start in range(0, max(table.num_rows, 1), rows):
            part = table.slice(start, rows)
            writer.write_table(part.replace_schema_metadata(schema.metadata), rows)


def _group_rows(table: pa.Table) -> int:
    return max(1, int(ROW_GROUP_BYTES * table.num_rows / max(table.nbytes, 1)))


def _compression(table: pa.Table) -> Any:
    """Choose lz4 for what it makes clearly smaller: else it costs more time than it saves space."""
    schema = table.schema
    if len(set(schema.names)) < len(schema):
        return "lz4"  # columns of one name cannot be told apart
    return {
        field.name: "lz4" if _compresses(column) else "none"
        for field, column in zip(schema, table.columns, strict=True)
    }


def _compresses(column: pa.ChunkedArray) -> bool:
    kind = column.type
    if pa.types.is_floating(kind):
        return False  # their bits hardly compress
    if not pa.types.is_primitive(kind) or not column.num_chunks or kind.bit_width < 8:
        return True
    chunk = column.chunk(0)
    width = kind.bit_width // 8
    sample = chunk.buffers()[1].slice(chunk.offset * width, min(len(chunk) * width, _SAMPLE_BYTES))
    if sample.size < _SAMPLE_BYTES:
        return True
    return bool(len(_lz4.compress(sample)) < _WORTH * sample.size)


def _shrinks(table: pa.Table) -> bool:
    """Say whether compression saves so much of a table of numbers that it is worth its time."""
    left = sum(column.nbytes * (_WORTH if _compresses(column) else 1.0) for column in table.columns)
    return bool(left < 0.8 * table.nbytes)


def _dictionary_columns(schema: pa.Schema) -> Any:
    """Name the columns for which a dictionary pays: text, and what is a dictionary already."""
    kinds = (pa.types.is_dictionary, pa.types.is_string, pa.types.is_large_string)
    names = [field.name for field in schema if any(kind(field.type) for kind in kinds)]
    return names or False


def _read(codec: str, file: pq.ParquetFile, threads: bool) -> EncodedValue:
    table = file.read(use_threads=threads)
    metadata = dict(table.schema.metadata or {})
    said = json.loads(metadata.pop(_META))
    if said["codec"] != codec:
        raise ValueError(f"the file says codec {said['codec']!r}, its entry {codec!r}")
    table = table.replace_schema_metadata(metadata or None)
    return EncodedValue(codec, said["meta"], table=table, fresh=True)


class _Checking:
    """A file for pyarrow to write to, whose bytes are counted and checked as they pass."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest: Any = xxhash.xxh3_128()
        self.size_bytes = 0
        self.closed = False

    def write(self, data: bytes) -> int:
        self.size_bytes += len(data)
        self.digest.update(data)
        return self._file.write(data)

    def finish(self) -> None:
        """Wait until everything is in the checksum."""

    def tell(self) -> int:
        return self.size_bytes

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        """Leave the file open: whoever opened it closes it."""


class _Hashing(_Checking):
    """The same with sha256, which takes so long that a thread of its own does it."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.digest = hashlib.sha256()
        # two blocks at most wait to be hashed: memory stays flat when the disk is faster
        self._queue: queue.Queue[bytes | None] = queue.Queue(2)
        self._thread: threading.Thread | None = None

    def write(self, data: bytes) -> int:
        self.size_bytes += len(data)
        if self._thread is None and len(data) >= 1 << 20:
            self._thread = threading.Thread(target=self._hash, name="daskflow-hash", daemon=True)
            self._thread.start()
        if self._thread is None:
            self.digest.update(data)
        else:
            self._queue.put(data)
        return self._file.write(data)

    def _hash(self) -> None:
        while (data := self._queue.get()) is not None:
            self.digest.update(data)

    def finish(self) -> None:
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None
