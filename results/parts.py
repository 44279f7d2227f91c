"""Bytes of any size as a table of binary rows: one or more numbered parts, each cut into chunks.

A part is a run of rows with the same number, so a value of many gigabytes never needs one cell
that large (a Parquet cell ends at 2 GiB) and is written and read chunk by chunk.  Buffers are
wrapped, not copied, on the way in; on the way out each part is one fresh writable buffer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa

__all__ = ["CHUNK_BYTES", "parts_from_table", "parts_table"]

CHUNK_BYTES = 8 << 20
_SCHEMA = pa.schema([("part", pa.int32()), ("data", pa.large_binary())])


def parts_table(parts: Iterable[bytes | memoryview | pa.Buffer]) -> pa.Table:
    """Return a table with one row for each chunk of each part, sharing the parts' memory."""
    batches = [_batch(number, pa.py_buffer(part)) for number, part in enumerate(parts)]
    return pa.Table.from_batches(batches, _SCHEMA)


def _batch(number: int, part: pa.Buffer) -> pa.RecordBatch:
    ends = [*range(CHUNK_BYTES, part.size, CHUNK_BYTES), part.size]
    offsets = pa.array([0, *ends], pa.int64())
    data = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(ends), [None, offsets.buffers()[1], part]
    )
    return pa.record_batch([pa.array([number] * len(ends), pa.int32()), data], schema=_SCHEMA)


def parts_from_table(table: pa.Table) -> list[bytearray]:
    """Return every part of a table that `parts_table` made, as fresh writable buffers."""
    sizes: dict[int, int] = {}
    rows = list(_rows(table))
    for number, cell in rows:
        sizes[number] = sizes.get(number, 0) + len(cell)
    parts = [bytearray(sizes[number]) for number in range(len(sizes))]
    filled = [0] * len(parts)
    for number, cell in rows:
        start = filled[number]
        filled[number] = start + len(cell)
        parts[number][start : filled[number]] = cell
    return parts


def _rows(table: pa.Table) -> Iterator[tuple[int, memoryview]]:
    for batch in table.to_batches():
        numbers: Sequence[int] = batch.column(0).to_pylist()
        data = batch.column(1)
        _, offsets, values = data.buffers()
        whole = memoryview(values if values is not None else b"")
        marks = pa.Array.from_buffers(
            pa.int64(), len(data) + 1, [None, offsets], offset=data.offset
        ).to_pylist()
        for row, number in enumerate(numbers):
            yield number, whole[marks[row] : marks[row + 1]]
