"""pandas DataFrames, Series and indexes as native Parquet columns.

Columns keep their names in the file where they are plain text and distinct, else they are numbered;
labels, dtypes, index, frequency and attrs come from our own metadata, because plain Parquet loses
many of them.  Only pandas' own classes: a subclass may hold more than its columns.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from daskflow.results.arrow_tables import (
    native,
    readable_schema,
    restore_table,
    schema_from_text,
    schema_to_text,
)
from daskflow.results.encoded import EncodedValue, Unencodable
from daskflow.results.pandas_columns import adopted, array_of
from daskflow.results.pandas_indexes import (
    index_from_arrow,
    index_to_arrow,
    label_from_text,
    label_to_text,
    labels_from_json,
    labels_to_json,
    values_from_arrow,
    values_to_arrow,
)
from daskflow.results.parts import parts_from_table, parts_table
from daskflow.results.tagged import Untagged, dump_json, load_json

__all__ = ["PandasCodec"]

Json = dict[str, Any]


class PandasCodec:
    """`pandas.DataFrame`, `pandas.Series` and every kind of `pandas.Index`."""

    exact = (
        "values, dtypes, missing values of each kind, labels and names, kind of index, frequency, "
        "categories with unused ones, levels, time zones, attrs and flags"
    )

    def encode(self, value: Any) -> EncodedValue:
        """Encode column by column; raise `Unencodable` when one has no exact column type."""
        if isinstance(value, pd.DataFrame):
            names = _readable(value.columns)
            columns = [_column(value, at) for at in range(value.shape[1])]
            meta: Json = {"kind": "frame", "labels": labels_to_json(value.columns)}
        elif isinstance(value, pd.Series):
            names = [value.name if isinstance(value.name, str) and value.name else "values"]
            columns, meta = [array_of(value)], {"kind": "series", "name": label_to_text(value.name)}
        else:
            names, columns, meta = [], [], {"kind": "index"}
        index = value if meta["kind"] == "index" else value.index
        beside, meta["index"] = index_to_arrow(index)
        made = [values_to_arrow(column) for column in columns]
        meta["columns"] = [each for _, each in made]
        if meta["kind"] != "index":
            meta["attrs"] = _attrs(value)
            meta["unique"] = not value.flags.allows_duplicate_labels
        arrays = [*(array for array, _ in made), *beside]
        table = pa.table(arrays, [*names, *(f"__index_{at}__" for at in range(len(beside)))])
        return _stored(table, meta)

    def decode(self, stored: EncodedValue) -> Any:
        """Return the value with its own memory."""
        meta = stored.meta
        table = stored.table
        if meta.get("ipc"):
            table = pa.ipc.open_stream(pa.py_buffer(parts_from_table(table)[0])).read_all()
        table = restore_table(table, schema_from_text(meta["schema"]))
        count = len(meta["columns"])
        index = index_from_arrow(table.columns[count:], meta["index"])
        if meta["kind"] == "index":
            return index
        values = []
        for at, each in enumerate(meta["columns"]):
            column = table.column(at)
            made = adopted(column, each) if stored.fresh else None
            values.append(values_from_arrow(column, each) if made is None else made)
        if meta["kind"] == "series":
            value: Any = _series(values[0], index).rename(label_from_text(meta["name"]))
        else:
            # a Series for each column would take longer than reading it
            columns = {
                at: _series(each, index) if each.dtype == object else each
                for at, each in enumerate(values)
            }
            value = pd.DataFrame(columns, index=index, copy=False)
            value.columns = labels_from_json(meta["labels"])
        value.attrs = load_json(meta["attrs"].encode())
        if meta["unique"]:
            value.flags.allows_duplicate_labels = False
        return value


def _column(frame: pd.DataFrame, at: int) -> Any:
    # as `array_of` its Series would be, ten times quicker than `iloc`
    get = getattr(frame, "_get_column_array", None)
    if get is None:
        return array_of(frame.iloc[:, at])
    values = get(at)
    if isinstance(values, np.ndarray) or not isinstance(values.dtype, np.dtype):
        return values
    return values.to_numpy()


def _series(values: Any, index: pd.Index) -> pd.Series:
    # with its dtype said: pandas would look into objects and make text of them
    return pd.Series(values, index=index, dtype=values.dtype, copy=False)


def _stored(table: pa.Table, meta: Json) -> EncodedValue:
    meta["schema"] = schema_to_text(table.schema)
    text = readable_schema(table.schema)
    kinds = [each["kind"] for each in meta["columns"]]
    typed = [field for field, kind in zip(table.schema, kinds, strict=False) if kind == "arrow"]
    if native(pa.schema(typed), 0) and not _index_is_arrow(meta["index"]):
        return EncodedValue("pandas", meta, table=table, schema=text)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return EncodedValue(
        "pandas", meta | {"ipc": True}, table=parts_table([sink.getvalue()]), schema=text
    )


def _index_is_arrow(meta: Json) -> bool:
    return bool(meta.get("column", {}).get("kind") == "arrow")


def _attrs(value: Any) -> str:
    try:
        return dump_json(dict(value.attrs)).decode()
    except Untagged as error:
        raise Unencodable(f"attrs: {error}") from error


def _readable(labels: pd.Index) -> list[str]:
    """Return column names for the file: the labels when they can be names, else numbers."""
    names = list(labels)
    plain = all(isinstance(name, str) and name and not name.startswith("__") for name in names)
    # DuckDB and many others do not tell upper from lower case
    if plain and len({name.casefold() for name in names}) == len(names):
        return [str(name) for name in names]
    return [f"column_{at}" for at in range(len(names))]
