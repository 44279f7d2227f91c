"""Encoded values as Parquet files: bytes for small ones, a streamed and hashed file for large ones.

The codec's name and metadata stand in the file's own schema metadata, so a file explains itself.
A file is written row group by row group, and hashed by a second thread as it is written; it is
read through a memory map, and can be hashed before a byte of it is decoded.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from daskflow.results.encoded import EncodedValue
from daskflow.results.parts import CHUNK_BYTES, parts_table

__all__ = [
    "file_digest",
    "iter_batches",
    "read_file",
    "read_payload",
    "write_file",
    "write_payload",
]

ROW_GROUP_BYTES = 64 << 20
THREADS_FROM_BYTES = 8 << 20
_META = b"daskflow"
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
    return _read(codec, pq.ParquetFile(pa.BufferReader(data)), threads=False)


def write_file(encoded: EncodedValue, file: BinaryIO) -> tuple[str, int]:
    """Write an encoded value to a file; return the sha256 of its bytes and their number."""
    if encoded.table is None:
        encoded = encoded._replace(table=parts_table([encoded.payload or b""]))
    sink = _Hashing(file)
    try:
        _write(encoded, pa.PythonFile(sink, mode="w"))
    finally:
        sink.finish()
    return sink.digest.hexdigest(), sink.size_bytes


def read_file(codec: str, path: Path) -> EncodedValue:
    """Return the encoded value in a file; its digest has been checked by the caller."""
    # starting threads takes longer than decoding a small file
    threads = path.stat().st_size > THREADS_FROM_BYTES
    with pq.ParquetFile(path, memory_map=True) as file:
        return _read(codec, file, threads)


def iter_batches(path: Path, rows: int) -> Iterator[pa.RecordBatch]:
    """Yield a table in a file batch by batch, one row group in memory at a time."""
    with pq.ParquetFile(path, memory_map=True, pre_buffer=False) as file:
        yield from file.iter_batches(batch_size=rows)


def file_digest(path: Path) -> str:
    """Return the sha256 of a file, without reading it into memory."""
    with open(path, "rb") as file:
        if path.stat().st_size == 0:
            return hashlib.sha256().hexdigest()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            return hashlib.sha256(view).hexdigest()


def _write(encoded: EncodedValue, sink: Any) -> None:
    table = encoded.table
    assert table is not None
    said = json.dumps({"codec": encoded.codec, "meta": encoded.meta}).encode()
    schema = table.schema.with_metadata({**(table.schema.metadata or {}), _META: said})
    raw = encoded.codec.partition("+")[0] in _RAW or encoded.meta.get("ipc")
    with pq.ParquetWriter(
        sink,
        schema,
        compression="none" if raw else _compression(schema),
        use_dictionary=_dictionary_columns(schema),
        write_statistics=not raw,
        data_page_size=CHUNK_BYTES if raw else None,
        write_page_checksum=False,  # the digest covers every byte
    ) as writer:
        rows = max(1, int(ROW_GROUP_BYTES * table.num_rows / max(table.nbytes, 1)))
        for start in range(0, max(table.num_rows, 1), rows):
            part = table.slice(start, rows)
            writer.write_table(part.replace_schema_metadata(schema.metadata), rows)


def _compression(schema: pa.Schema) -> Any:
    """Choose lz4, but nothing for floats: their bits hardly compress and cost the most."""
    if len(set(schema.names)) < len(schema):
        return "lz4"  # columns of one name cannot be told apart
    return {f.name: "none" if pa.types.is_floating(f.type) else "lz4" for f in schema}


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
    return EncodedValue(codec, said["meta"], table=table.replace_schema_metadata(metadata or None))


class _Hashing:
    """A file for pyarrow to write to, whose bytes are hashed in a thread of their own."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.size_bytes = 0
        # two blocks at most wait to be hashed: memory stays flat when the disk is faster
        self._queue: queue.Queue[bytes | None] = queue.Queue(2)
        self._thread: threading.Thread | None = None
        self.closed = False

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
        """Wait until everything is hashed."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    def tell(self) -> int:
        return self.size_bytes

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        """Leave the file open: whoever opened it syncs and closes it."""
