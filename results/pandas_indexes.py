"""pandas indexes and categories: as columns beside the data, or as JSON where they label it.

An index is some Arrow columns and JSON: kind, names, frequency, range.  Levels, categories and
column labels are small as a rule, so they go into the JSON whole, as an Arrow IPC stream.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from daskflow.results.encoded import Unencodable
from daskflow.results.pandas_columns import array_of, column_from_arrow, column_to_arrow
from daskflow.results.tagged import Untagged, dump_json, load_json

__all__ = [
    "index_from_arrow",
    "index_to_arrow",
    "label_from_text",
    "label_to_text",
    "labels_from_json",
    "labels_to_json",
    "values_from_arrow",
    "values_to_arrow",
]

Json = dict[str, Any]
_TIMED = (pd.DatetimeIndex, pd.TimedeltaIndex)


def label_to_text(label: Any) -> str:
    """Return a name as tagged JSON text; raise `Unencodable` for an object as a name."""
    try:
        return dump_json(label).decode()
    except Untagged as error:
        raise Unencodable(f"name {label!r}: {error}") from error


def label_from_text(text: str) -> Any:
    """Return the name that `label_to_text` wrote."""
    return load_json(text.encode())


# ---- values: columns and categories


def values_to_arrow(values: Any) -> tuple[pa.Array, Json]:
    """Return a column's values as Arrow and as JSON, categories too."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        return _categories(values)
    return column_to_arrow(values)


def values_from_arrow(column: pa.ChunkedArray, meta: Json) -> Any:
    """Return what `values_to_arrow` was given."""
    return (
        _from_categories(column, meta)
        if meta["kind"] == "category"
        else column_from_arrow(column, meta)
    )


def _categories(values: Any) -> tuple[pa.Array, Json]:
    categories = values.categories
    meta = {"kind": "category", "ordered": values.ordered, "labels": labels_to_json(categories)}
    codes = pa.array(values.codes, mask=values.codes == -1)
    if not isinstance(categories.dtype, pd.StringDtype):
        return codes, meta
    # text stays readable in the file: a dictionary column instead of bare codes
    names = pa.array(categories.array, pa.large_string()).cast(pa.string())
    return pa.DictionaryArray.from_arrays(codes.cast(pa.int32()), names), meta | {"text": True}


def _from_categories(column: pa.ChunkedArray, meta: Json) -> Any:
    dtype = pd.CategoricalDtype(labels_from_json(meta["labels"]), meta["ordered"])
    codes = [np.empty(0, "i8")]
    for chunk in column.chunks:
        if meta.get("text"):
            # the file's dictionary has only what its rows use, in an order of its own
            place = dtype.categories.get_indexer(chunk.dictionary.to_pylist())
            inside = chunk.indices.fill_null(len(place)).to_numpy(zero_copy_only=False)
            codes.append(np.append(place, -1)[inside])
        else:
            codes.append(chunk.fill_null(-1).to_numpy(zero_copy_only=False))
    return pd.Categorical.from_codes(np.concatenate(codes), dtype=dtype)


# ---- indexes


def index_to_arrow(index: pd.Index) -> tuple[list[pa.Array], Json]:
    """Return an index as columns and JSON."""
    names = [label_to_text(name) for name in index.names]
    if type(index) is pd.RangeIndex:
        return [], {"kind": "range", "names": names, "range": _bounds(index)}
    if type(index) is pd.MultiIndex:
        levels = [labels_to_json(level.rename(None)) for level in index.levels]
        codes = [pa.array(np.asarray(codes)) for codes in index.codes]
        return codes, {"kind": "multi", "names": names, "levels": levels}
    array, meta = values_to_arrow(array_of(index))
    made: Json = {"kind": "column", "names": names, "column": meta, "freq": _freq(index)}
    return [array], made


def _bounds(index: pd.RangeIndex) -> list[int]:
    return [int(index.start), int(index.stop), int(index.step)]


def _freq(index: pd.Index) -> str | None:
    freq = index.freq if isinstance(index, _TIMED) else None
    if freq is None:
        return None
    text = str(freq.freqstr)
    if pd.tseries.frequencies.to_offset(text) != freq:
        raise Unencodable(f"frequency {freq!r} has no text that gives it back")
    return text


def index_from_arrow(columns: Sequence[pa.ChunkedArray], meta: Json) -> pd.Index:
    """Return the index that `index_to_arrow` was given."""
    names = [label_from_text(text) for text in meta["names"]]
    if meta["kind"] == "range":
        return pd.RangeIndex(*meta["range"], name=names[0])
    if meta["kind"] == "multi":
        levels = [labels_from_json(level) for level in meta["levels"]]
        codes = [column.to_numpy() for column in columns]
        return pd.MultiIndex(levels, codes, names=names, verify_integrity=False)
    values = values_from_arrow(columns[0], meta["column"])
    index = pd.Index(values, dtype=values.dtype, name=names[0], copy=False)
    if meta["freq"] is not None:
        index.freq = meta["freq"]
    return index


# ---- indexes as JSON


def labels_to_json(index: pd.Index) -> Json:
    """Return a small index as JSON."""
    columns, meta = index_to_arrow(index)
    table = pa.table(columns, [str(at) for at in range(len(columns))])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return {"index": meta, "data": base64.b64encode(sink.getvalue()).decode()}


def labels_from_json(found: Json) -> pd.Index:
    """Return the index that `labels_to_json` was given."""
    table = pa.ipc.open_stream(pa.py_buffer(base64.b64decode(found["data"]))).read_all()
    return index_from_arrow(table.columns, found["index"])
