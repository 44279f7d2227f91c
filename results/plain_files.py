"""Reading files of plain numbers: each column once, straight into memory that the value keeps.

The checksum is made of the very bytes that are handed out, while they are warm.  Nobody else has
that memory: no file is mapped, so what happens to the file later changes no value.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa

from daskflow.results.arrow_tables import schema_from_text
from daskflow.results.encoded import EncodedValue
from daskflow.results.plain_parquet import Layout, find_said, layout_of

__all__ = ["ReadPlain", "read_plain"]

_TAIL_BYTES = 16 << 10
_STEP_BYTES = 1 << 20  # read and then hashed, before it has left the processor's caches


class ReadPlain(NamedTuple):
    """A file's bytes as columns; `table` is to be trusted once the checksum was found to fit."""

    size_bytes: int
    said: dict[str, Any]
    table: pa.Table

    def encoded(self, codec: str) -> EncodedValue:
        """Return the value in stored form, whose table nobody else has."""
        if self.said["codec"] != codec:
            raise ValueError(f"the file says codec {self.said['codec']!r}, its entry {codec!r}")
        return EncodedValue(codec, self.said["meta"], table=self.table, fresh=True)


def read_plain(path: Path, check: Any) -> ReadPlain | None:
    """Read a file of plain numbers, and put all of its bytes into the hash `check`.

    Returns None for other files, and for damaged ones: then `check` has seen nothing.
    """
    with open(path, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            found = _said(file, size)
            if found is None:
                return None
            said, foot, footer = found
            schema = schema_from_text(said["meta"]["schema"])
            widths = [field.type.bit_width // 8 for field in schema]
            layout = layout_of(said, widths, foot)
        except (ValueError, KeyError, TypeError, pa.ArrowException):
            return None  # what else it may be, its checksum tells
        columns = [np.empty(layout.rows * width, np.uint8) for width in widths]
        file.seek(0)
        for piece in _pieces(layout, columns, foot):
            for at in range(0, len(piece), _STEP_BYTES):
                step = piece[at : at + _STEP_BYTES]
                _fill(file, step)
                check.update(step)
        check.update(footer)
    arrays = [
        pa.Array.from_buffers(field.type, layout.rows, [None, pa.py_buffer(column)])
        for field, column in zip(schema, columns, strict=True)
    ]
    return ReadPlain(size, said, pa.Table.from_arrays(arrays, schema=schema))


def _said(file: BinaryIO, size: int) -> tuple[dict[str, Any], int, bytes] | None:
    """Return what a file says about itself, and from where on its end was read."""
    start = max(0, size - _TAIL_BYTES)
    tail = _read(file, start, size - start)
    place = find_said(tail)
    if place is None or place[0] + place[1] > size:
        return None
    begin, length = place
    if begin < start:
        start = begin
        tail = _read(file, start, size - start)
    said: dict[str, Any] = json.loads(tail[begin - start : begin - start + length])
    # what lies between the columns and the JSON is read with the columns
    return said, begin, tail[begin - start :]


def _pieces(layout: Layout, columns: list[Any], end: int) -> Iterator[memoryview]:
    """Yield the memory into which the file's bytes go, from its first byte to `end`."""
    at, first = 0, 0
    views = [memoryview(column) for column in columns]
    for rows, starts in layout.groups:
        for start, view in zip(starts, views, strict=True):
            width = len(view) // layout.rows
            if start > at:
                yield memoryview(bytearray(start - at))
            yield view[first * width : (first + rows) * width]
            at = start + rows * width
        first += rows
    if end > at:
        yield memoryview(bytearray(end - at))


def _read(file: BinaryIO, start: int, size: int) -> bytes:
    file.seek(start)
    data = bytearray(size)
    _fill(file, memoryview(data))
    return bytes(data)


def _fill(file: BinaryIO, view: memoryview) -> None:
    while len(view):
        count = file.readinto(view)  # type: ignore[attr-defined]
        if not count:
            raise OSError("the file has become shorter while it was read")
        view = view[count:]
