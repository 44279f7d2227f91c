"""Tables of plain numbers as Parquet files laid out by hand: no byte of a column is copied.

Columns without nulls whose memory is what Parquet's PLAIN encoding calls for become one page a row
group, uncompressed, so a reader finds each as one run of bytes and needs no parser of Parquet.  For
everybody else the file is ordinary Parquet.  Where the columns lie is part of the JSON under
``daskflow`` in the footer; a second entry, of fixed size at the very end, says where that JSON is.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import pyarrow as pa

__all__ = ["Layout", "find_said", "is_plain", "layout_of", "plain_pieces"]

META = b"daskflow"
_MAGIC = b"PAR1"
_PLACE = b"daskflow.place"
_PLACE_DIGITS = 24

# Thrift's compact encoding: types of fields, and what is made of them
_FALSE, _TRUE, _I32, _I64, _BINARY, _LIST, _STRUCT = 2, 1, 5, 6, 8, 9, 12


_SHORT = [bytes([number]) for number in range(128)]


def _varint(number: int) -> bytes:
    if number < 128:
        return _SHORT[number]
    made = bytearray()
    while number > 0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    made.append(number)
    return bytes(made)


def _number(value: int) -> bytes:
    return _varint(value << 1)  # zigzag; nothing here is negative


def _binary(data: bytes) -> bytes:
    return _varint(len(data)) + data


def _struct(*fields: tuple[int, int, bytes]) -> bytes:
    made, last = [], 0
    for at, kind, data in fields:
        made.append(bytes([at - last << 4 | kind]) + data)
        last = at
    return b"".join(made) + b"\0"


def _list(kind: int, items: Sequence[bytes]) -> bytes:
    size = len(items)
    opening = bytes([size << 4 | kind]) if size < 15 else bytes([0xF0 | kind]) + _varint(size)
    return opening + b"".join(items)


# what stands behind the place of the JSON: the end of the footer, whose length comes next
_AFTER = b"\0" + b"\x18" + _binary(b"daskflow version 1") + b"\0"


# ---- types


class _Type(NamedTuple):
    """What Parquet calls a type: physical, converted, logical."""

    physical: int
    converted: int | None = None
    logical: bytes | None = None


def _timestamp(unit: int, converted: int | None, zoned: bool) -> _Type:
    fields = _struct((1, _TRUE if zoned else _FALSE, b""), (2, _STRUCT, _struct((unit, 12, b"\0"))))
    return _Type(2, converted, _struct((8, _STRUCT, fields)))


_NUMBERS = {
    "int32": _Type(1),
    "int64": _Type(2),
    "uint32": _Type(1, 13),
    "uint64": _Type(2, 14),
    "float": _Type(4),
    "double": _Type(5),
}
_UNITS = {"ms": (1, 9), "us": (2, 10), "ns": (3, None)}


@lru_cache(256)
def _type_of(kind: pa.DataType) -> _Type | None:
    if pa.types.is_timestamp(kind):
        unit = _UNITS.get(kind.unit)
        return _timestamp(*unit, kind.tz is not None) if unit else None
    return _Type(2) if pa.types.is_duration(kind) else _NUMBERS.get(str(kind))


def is_plain(table: pa.Table) -> bool:
    """Say whether a table is rows of numbers without nulls, under names that differ."""
    names = table.schema.names
    return (
        table.num_rows > 0
        and len(set(names)) == len(names)
        and all(_type_of(field.type) is not None for field in table.schema)
        and not any(column.null_count for column in table.columns)
    )


# ---- writing


def plain_pieces(table: pa.Table, said: dict[str, Any], group_rows: int) -> Iterator[Any]:
    """Yield the bytes of the file in order, columns as views of the table's memory.

    Parameters
    ----------
    table : pyarrow.Table
        One that `is_plain`.
    said : dict
        JSON to keep in the footer, under ``daskflow``.
    group_rows : int
        Rows of a row group; less than 2 GiB of each column.
    """
    yield _MAGIC
    at, groups, starts = len(_MAGIC), [], []
    widths = [field.type.bit_width // 8 for field in table.schema]
    for first in range(0, table.num_rows, group_rows):
        rows = min(group_rows, table.num_rows - first)
        places = []
        for width, column in zip(widths, table.columns, strict=True):
            header = _page_header(rows, rows * width)
            yield header
            places.append((at, at + len(header)))
            at += len(header) + rows * width
            for chunk in column.slice(first, rows).chunks:
                begin = chunk.offset * width
                yield memoryview(chunk.buffers()[1])[begin : begin + len(chunk) * width]
        groups.append(_row_group(table.schema, widths, rows, places))
        starts.append([rows, *(start for _, start in places)])
    text = json.dumps({**said, "plain": starts}).encode()
    yield _footer(table, groups, text, at)


@lru_cache(64)
def _page_header(rows: int, size: int) -> bytes:
    encodings = (2, _I32, _number(0)), (3, _I32, _number(3)), (4, _I32, _number(3))
    values = _struct((1, _I32, _number(rows)), *encodings)
    sizes = (2, _I32, _number(size)), (3, _I32, _number(size))
    return _struct((1, _I32, _number(0)), *sizes, (5, _STRUCT, values))


def _row_group(
    schema: pa.Schema, widths: list[int], rows: int, places: list[tuple[int, int]]
) -> bytes:
    columns, total = [], 0
    for field, width, (header, start) in zip(schema, widths, places, strict=True):
        size = start - header + rows * width
        total += size
        place, length = _number(header), _number(size)
        # fields 5, 6, 7 and 9: values, both sizes (nothing is compressed), and where the page is
        sizes = b"\x16" + _number(rows) + b"\x16" + length + b"\x16" + length + b"\x26" + place
        meta = _chunk_opening(field)[:-1] + sizes + b"\0"
        columns.append(_struct((2, _I64, place), (3, _STRUCT, meta)))
    return _struct(
        (1, _LIST, _list(_STRUCT, columns)),
        (2, _I64, _number(total)),
        (3, _I64, _number(rows)),
    )


@lru_cache(4096)
def _chunk_opening(field: pa.Field) -> bytes:
    kind = _type_of(field.type)
    assert kind is not None
    return _struct(
        (1, _I32, _number(kind.physical)),
        (2, _LIST, _list(_I32, [_number(0), _number(3)])),
        (3, _LIST, _list(_BINARY, [_binary(field.name.encode())])),
        (4, _I32, _number(0)),
    )


@lru_cache(4096)
def _column(field: pa.Field) -> bytes:
    kind = _type_of(field.type)
    assert kind is not None
    fields = [(1, _I32, _number(kind.physical)), (3, _I32, _number(0))]
    fields.append((4, _BINARY, _binary(field.name.encode())))
    if kind.converted is not None:
        fields.append((6, _I32, _number(kind.converted)))
    if kind.logical is not None:
        fields.append((10, _STRUCT, kind.logical))
    return _struct(*fields)


def _footer(table: pa.Table, groups: list[bytes], text: bytes, at: int) -> bytes:
    root = _struct((4, _BINARY, _binary(b"schema")), (5, _I32, _number(len(table.schema))))
    schema = _list(_STRUCT, [root, *map(_column, table.schema)])
    kept = base64.b64encode(table.schema.serialize().to_pybytes())  # as pyarrow keeps it
    arrow = _struct((1, _BINARY, _binary(b"ARROW:schema")), (2, _BINARY, _binary(kept)))
    head = _struct(
        (1, _I32, _number(2)),
        (2, _LIST, schema),
        (3, _I64, _number(table.num_rows)),
        (4, _LIST, _list(_STRUCT, groups)),
        (5, _LIST, _list(_STRUCT, [b"", b"", b""])),
    )
    before = _struct((1, _BINARY, _binary(META)), (2, _BINARY, _varint(len(text))))
    head = head[:-1] + arrow + before[:-1]
    place = b"%016x%08x" % (at + len(head), len(text))
    last = _struct((1, _BINARY, _binary(_PLACE)), (2, _BINARY, _binary(place)))
    footer = head + text + b"\0" + last[:-1] + _AFTER
    return footer + len(footer).to_bytes(4, "little") + _MAGIC


# ---- reading


class Layout(NamedTuple):
    """Where the columns of a file lie.

    Attributes
    ----------
    rows : int
    groups : list of (int, list of int)
        Rows of each row group, and where in the file the values of each column begin.
    """

    rows: int
    groups: list[tuple[int, list[int]]]


def find_said(tail: bytes) -> tuple[int, int] | None:
    """Return where in the file the JSON lies and its size, from the file's last bytes.

    None when the file is not one of these.
    """
    end = len(tail) - 8 - len(_AFTER)
    if end < _PLACE_DIGITS or tail[-4:] != _MAGIC or tail[end:-8] != _AFTER:
        return None
    place = tail[end - _PLACE_DIGITS : end]
    return int(place[:16], 16), int(place[16:], 16)


def layout_of(said: dict[str, Any], widths: Sequence[int], size_bytes: int) -> Layout:
    """Return where the columns lie, in a file of this size.

    Raises
    ------
    ValueError
        When they cannot lie like that.
    """
    groups, at = [], len(_MAGIC)
    for rows, *starts in said["plain"]:
        if len(starts) != len(widths) or rows < 1:
            raise ValueError(f"a row group of {rows} rows has columns at {starts}")
        for start, width in zip(starts, widths, strict=True):
            if start < at:
                raise ValueError(f"a column begins at {start}, before {at}")
            at = start + rows * width
        groups.append((rows, starts))
    if at > size_bytes:
        raise ValueError(f"columns end at {at} in a file of {size_bytes} bytes")
    return Layout(sum(rows for rows, _ in groups), groups)
