"""pyarrow tables, record batches and datasets as native Parquet columns.

Parquet changes a few Arrow types.  Seconds become milliseconds, which is exact once cast back to
the kept schema.  Types that an empty table does not bring back, and dictionaries, whose unused
values Parquet drops, go as an Arrow IPC stream in binary rows, which keeps everything.
"""

from __future__ import annotations

import base64
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from daskflow.results.encoded import EncodedValue
from daskflow.results.parts import parts_from_table, parts_table

__all__ = ["ArrowCodec", "readable_schema", "restore_table", "schema_from_text", "schema_to_text"]

_KIND = {pa.Table: "table", pa.RecordBatch: "batch"}


class ArrowCodec:
    """`pyarrow.Table`, `pyarrow.RecordBatch`, and a dataset: its rows, not where they lay."""

    exact = "values, types, field and schema metadata, null and NaN bits; not the cut into chunks"

    def encode(self, value: Any) -> EncodedValue:
        """Encode a table or batch; native where Parquet can, an IPC stream where it cannot."""
        kind = type(value)
        meta: dict[str, Any] = {"kind": _KIND.get(kind, "dataset")}
        if kind not in _KIND:
            table = value.to_table()
        else:
            table = value if kind is pa.Table else pa.Table.from_batches([value])
        if native(table.schema, table.num_rows):
            meta["schema"] = schema_to_text(table.schema)
            return EncodedValue("arrow", meta, table=table, schema=readable_schema(table.schema))
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        meta["ipc"] = True
        rows = parts_table([sink.getvalue()])
        return EncodedValue("arrow", meta, table=rows, schema=readable_schema(table.schema))

    def decode(self, stored: EncodedValue) -> Any:
        """Return a table, a batch, or a dataset of the same rows."""
        if stored.meta.get("ipc"):
            table = pa.ipc.open_stream(pa.py_buffer(parts_from_table(stored.table)[0])).read_all()
        else:
            table = restore_table(stored.table, schema_from_text(stored.meta["schema"]))
        if stored.meta["kind"] == "dataset":
            from pyarrow import dataset  # heavy, and few results are one

            return dataset.dataset(table)
        return table if stored.meta["kind"] == "table" else _only_batch(table)


def _only_batch(table: pa.Table) -> pa.RecordBatch:
    batches = table.combine_chunks().to_batches()
    if len(batches) == 1:
        return batches[0]
    # no rows leave no batch; arrays of the schema make one
    return pa.RecordBatch.from_arrays(
        [pa.array([], field.type) for field in table.schema], schema=table.schema
    )


def restore_table(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return a table as read from Parquet with the schema that it had before."""
    if table.schema.equals(schema, check_metadata=True):
        return table
    columns = [
        column if str(column.type) == str(field.type) else column.cast(field.type)
        for column, field in zip(table.columns, schema, strict=True)
    ]
    return pa.table(columns, schema=schema)


def native(schema: pa.Schema, rows: int) -> bool:
    """Say whether Parquet holds columns of this schema exactly, after a cast at most."""
    if not len(schema):
        return rows == 0  # Parquet counts rows by columns
    return all(_survives(field.type) for field in schema)


@lru_cache(maxsize=1024)
def _survives(kind: pa.DataType) -> bool:
    if _castable(kind):
        return True
    if _inexact(kind):
        return False
    sink = pa.BufferOutputStream()
    empty = pa.schema([pa.field("x", kind)]).empty_table()
    try:
        pq.write_table(empty, sink)
        back = pq.ParquetFile(pa.BufferReader(sink.getvalue())).read()
    except (pa.ArrowException, OSError):  # what Parquet lacks is no fault here
        return False
    return bool(back.schema.equals(empty.schema, check_metadata=False))


def _castable(kind: pa.DataType) -> bool:
    return kind in (pa.timestamp("s"), pa.time32("s")) or (
        pa.types.is_timestamp(kind) and kind.unit == "s"
    )


def _inexact(kind: pa.DataType) -> bool:
    """Find what survives by name only: dictionaries lose values that no row uses."""
    if pa.types.is_dictionary(kind) or isinstance(kind, pa.BaseExtensionType):
        return True
    inner = [kind.field(i).type for i in range(kind.num_fields)]
    return any(_inexact(each) for each in inner)


def schema_to_text(schema: pa.Schema) -> str:
    """Return a schema with all metadata as text."""
    return base64.b64encode(schema.serialize().to_pybytes()).decode()


@lru_cache(maxsize=256)
def schema_from_text(text: str) -> pa.Schema:
    """Return the schema that `schema_to_text` wrote."""
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))


def readable_schema(schema: pa.Schema) -> str:
    """Return a schema for people: one ``name: type`` a line."""
    return "\n".join(f"{field.name}: {field.type}" for field in schema)
