"""Handlers of pyarrow values: type, content, names and metadata.

Chunks, slices and what lies under a null do not count.  Columns are hashed from their buffers,
without a copy where there are no nulls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from daskflow.caching.hash_writer import ContentWriter, Handler, NoContent, tag

__all__ = ["handler_of", "put_column"]

_NULL, _DICTIONARY, _STRUCT = tag("null"), tag("dictionary"), tag("struct")
_LIST, _TEXT, _FIXED, _VALUES = tag("list"), tag("text"), tag("fixed"), tag("values")
# Rows that are copied at a time where nulls have to be blanked.
_ROWS = 1 << 17
_LENGTHS = 1 << 20  # of texts at a time: enough for several threads


def handler_of(kind: type) -> Handler | None:
    """Return the handler of a pyarrow type or of a subclass of one, else None."""
    known = next((write for base, write in _HANDLERS.items() if issubclass(kind, base)), None)
    if known is None and any(base.__module__ == "pyarrow._dataset" for base in kind.__mro__):
        return _dataset if hasattr(kind, "to_table") and hasattr(kind, "schema") else None
    return known


def _dataset(w: ContentWriter, dataset: Any) -> None:
    """Write the rows, wherever they lie: a file written anew with them counts for equal."""
    w.out.append(tag("Dataset"))
    _table(w, dataset.to_table())


def _table(w: ContentWriter, table: pa.Table | pa.RecordBatch) -> None:
    w.out.append(tag("Table" if isinstance(table, pa.Table) else "RecordBatch"))
    _schema(w, table.schema)
    w.put(table.num_rows)
    for field, column in zip(table.schema, table.columns, strict=True):
        chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
        try:
            put_column(w, chunks, field.type)
        except NoContent as lack:
            raise lack.within(f"[{field.name!r}]") from None


def _schema(w: ContentWriter, schema: pa.Schema) -> None:
    w.out.append(tag("Schema"))
    w.put(dict(schema.metadata or {}))
    w.put(len(schema))
    for field in schema:
        _field(w, field)


def _field(w: ContentWriter, field: pa.Field) -> None:
    w.out.append(tag("Field"))
    w.put((field.name, field.nullable))
    w.put(dict(field.metadata or {}))
    _type(w, field.type)


def _type(w: ContentWriter, kind: pa.DataType) -> None:
    """Write a type; children as fields, for their names, nullability and metadata count."""
    w.out.append(tag("DataType"))
    if isinstance(kind, pa.BaseExtensionType):
        w.put((kind.extension_name, kind.__arrow_ext_serialize__()))
        _type(w, kind.storage_type)
        return
    w.put(str(kind))
    if pa.types.is_dictionary(kind):
        _type(w, kind.value_type)
    elif kind.num_fields:
        for at in range(kind.num_fields):
            _field(w, kind.field(at))


def _array(w: ContentWriter, array: pa.Array) -> None:
    w.out.append(tag("Array"))
    _type(w, array.type)
    put_column(w, [array], array.type)


def _chunked(w: ContentWriter, array: pa.ChunkedArray) -> None:
    w.out.append(tag("ChunkedArray"))
    _type(w, array.type)
    put_column(w, array.chunks, array.type)


def _scalar(w: ContentWriter, scalar: pa.Scalar) -> None:
    w.out.append(tag("Scalar"))
    _type(w, scalar.type)
    put_column(w, [pa.repeat(scalar, 1)], scalar.type)


def _buffer(w: ContentWriter, buffer: pa.Buffer) -> None:
    w.out.append(tag("Buffer"))
    w.buffer(memoryview(buffer) if buffer.size else b"")


# ---- columns


def put_column(w: ContentWriter, chunks: list[pa.Array], kind: pa.DataType) -> None:
    """Write the values of a column, as one sequence whatever its chunks."""
    chunks = [chunk for chunk in chunks if len(chunk)]
    w.out.append(sum(map(len, chunks)).to_bytes(8, "little"))
    if isinstance(kind, pa.BaseExtensionType):
        put_column(w, [chunk.storage for chunk in chunks], kind.storage_type)
    elif pa.types.is_null(kind):
        w.out.append(_NULL)
    elif pa.types.is_dictionary(kind):
        _put_dictionary(w, chunks, kind)
    else:
        _find(kind)(w, chunks, kind)


_PutColumn = Callable[[ContentWriter, "list[pa.Array]", pa.DataType], None]


def _find(kind: pa.DataType) -> _PutColumn:
    types = pa.types
    if any(test(kind) for test in (types.is_string, types.is_binary)):
        return _put_text
    if any(test(kind) for test in (types.is_large_string, types.is_large_binary)):
        return _put_text
    if types.is_struct(kind):
        return _put_struct
    if any(test(kind) for test in (types.is_list, types.is_large_list, types.is_map)):
        return _put_list
    if types.is_list_view(kind) or types.is_large_list_view(kind):
        return _put_list
    if types.is_fixed_size_list(kind):
        return _put_fixed_list
    try:
        width = kind.bit_width
    except ValueError:
        return _put_other
    return _put_fixed if width == 1 or width % 8 == 0 else _put_other


def _put_validity(w: ContentWriter, chunks: list[pa.Array]) -> None:
    if not any(chunk.null_count for chunk in chunks):
        w.out.append(b"1")
        return
    w.out.append(b"0" + w.tree(_flags(chunk) for chunk in chunks))


def _flags(chunk: pa.Array) -> memoryview:
    return np.asarray(chunk.is_valid()).view(np.uint8).data


def _put_fixed(w: ContentWriter, chunks: list[pa.Array], kind: pa.DataType) -> None:
    w.out.append(_FIXED)
    _put_validity(w, chunks)
    w.out.append(w.tree(piece for chunk in chunks for piece in _fixed(chunk, kind.bit_width)))


def _fixed(chunk: pa.Array, width: int) -> Iterator[memoryview]:
    """Yield the values of a chunk, nulls blanked, whole where it has none."""
    if width == 1:
        yield np.asarray(pc.fill_null(chunk, False)).view(np.uint8).data
        return
    size = width // 8
    if size == 0:
        return
    held = chunk.buffers()[1]
    if held is None:
        return
    data = np.frombuffer(held, np.uint8)[chunk.offset * size :][: len(chunk) * size]
    if not chunk.null_count:
        yield data.data
        return
    rows = data.reshape(-1, size)
    for at in range(0, len(chunk), _ROWS):
        part = rows[at : at + _ROWS].copy()
        part[np.asarray(chunk.slice(at, _ROWS).is_null())] = 0
        yield part.reshape(-1).data


def _put_text(w: ContentWriter, chunks: list[pa.Array], kind: pa.DataType) -> None:
    w.out.append(_TEXT)
    _put_validity(w, chunks)
    wide = pa.types.is_large_string(kind) or pa.types.is_large_binary(kind)
    parts = [_text(chunk, np.dtype(np.int64 if wide else np.int32)) for chunk in chunks]
    w.out.append(w.tree(lengths for ends, _ in parts for lengths in _lengths(ends)))
    w.out.append(w.tree(text for _, text in parts))


def _text(chunk: pa.Array, width: np.dtype[Any]) -> tuple[Any, memoryview]:
    """Return where the texts end and the texts themselves."""
    if chunk.null_count:
        words = pa.types.is_string(chunk.type) or pa.types.is_large_string(chunk.type)
        chunk = pc.fill_null(chunk, pa.scalar("" if words else b"", chunk.type))
    _, offsets, data = chunk.buffers()
    ends = np.frombuffer(offsets, width, len(chunk) + 1, chunk.offset * width.itemsize)
    return ends, memoryview(b"" if data is None else data)[ends[0] : ends[-1]]


def _lengths(ends: Any) -> Iterator[memoryview]:
    """Yield the lengths of texts piece by piece: those of a whole column take much memory."""
    for at in range(0, len(ends) - 1, _LENGTHS):
        lengths = np.diff(ends[at : at + _LENGTHS + 1])
        yield lengths.astype(np.int64, copy=False).view(np.uint8).data


def _put_struct(w: ContentWriter, chunks: list[pa.Array], kind: pa.DataType) -> None:
    w.out.append(_STRUCT)
    _put_validity(w, chunks)
    # `flatten` marks a child as null wherever its parent is.
    flat = [chunk.flatten() for chunk in chunks]
    for at in range(kind.num_fields):
        put_column(w, [each[at] for each in flat], kind.field(at).type)


def _put_list(w: ContentWriter, chunks: list[pa.Array], kind: pa.DataType) -> None:
    w.out.append(_LIST)
    _put_validity(w, chunks)
    w.out.append(w.tree(_list_lengths(chunk) for chunk in chunks))
    if pa.types.is_map(kind):
        pairs = [_map_items(chunk) for chunk in chunks]
        put_column(w, [keys for keys, _ in pairs], kind.key_type)
        put_column(w, [items for _, items in pairs], kind.item_type)
    else:
        # `flatten` leaves out what a null list spans, and respects slices.
        put_column(w, [chunk.flatten() for chunk in chunks], kind.value_type)


def _list_lengths(chunk: pa.Array) -> memoryview:
    if pa.types.is_map(chunk.type):
        lengths = np.diff(np.asarray(chunk.offsets)).astype(np.int64)
        if chunk.null_count:
            lengths[np.asarray(chunk.is_null())] = 0
    else:
        lengths = np.asarray(pc.fill_null(chunk.value_lengths(), 0)).astype(np.int64)
    return lengths.view(np.uint8).data


def _map_items(chunk: pa.Array) -> tuple[pa.Array, pa.Array]:
    if chunk.null_count:
        chunk = chunk.drop_null()
    first, last = (chunk.offsets[0].as_py(), chunk.offsets[len(chunk)].as_py())
    return chunk.keys.slice(first, last - first), chunk.items.slice(first, last - first)


def _put_fixed_list(w: ContentWriter, chunks: list[pa.Array], kind: pa.DataType) -> None:
    w.out.append(_LIST)
    _put_validity(w, chunks)
    put_column(w, [chunk.flatten() for chunk in chunks], kind.value_type)


def _put_dictionary(w: ContentWriter, chunks: list[pa.Array], kind: pa.DataType) -> None:
    """The dictionary counts: it is the categories, and their order, once the table is pandas."""
    w.out.append(_DICTIONARY)
    if not chunks:
        return
    unified = pa.chunked_array(chunks, type=kind).unify_dictionaries()
    dictionary = unified.chunk(0).dictionary
    put_column(w, [dictionary], dictionary.type)
    put_column(w, [chunk.indices for chunk in unified.chunks], kind.index_type)


def _put_other(w: ContentWriter, chunks: list[pa.Array], kind: pa.DataType) -> None:
    """Views, run-ends, unions: as a type with plain buffers, or value by value."""
    plain = _plain_type(kind)
    if plain is not None:
        put_column(w, [chunk.cast(plain) for chunk in chunks], plain)
    elif pa.types.is_run_end_encoded(kind):
        put_column(w, [pc.run_end_decode(chunk) for chunk in chunks], kind.value_type)
    else:
        w.out.append(_VALUES)
        if pa.types.is_union(kind):
            w.put([value.type_code for chunk in chunks for value in chunk])
        w.put([value for chunk in chunks for value in chunk.to_pylist()])


def _plain_type(kind: pa.DataType) -> pa.DataType | None:
    if kind == pa.string_view():
        return pa.large_string()
    if kind == pa.binary_view():
        return pa.large_binary()
    return None


_HANDLERS: dict[type, Handler] = {
    pa.Table: _table,
    pa.RecordBatch: _table,
    pa.ChunkedArray: _chunked,
    pa.Array: _array,
    pa.Scalar: _scalar,
    pa.Schema: _schema,
    pa.Field: _field,
    pa.DataType: _type,
    pa.Buffer: _buffer,
}
