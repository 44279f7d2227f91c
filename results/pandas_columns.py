"""pandas columns as native Arrow columns, one at a time, exactly.

`column_to_arrow` returns an Arrow array and JSON that says how to come back; whatever would not
be exact raises `Unencodable`, and the whole value is pickled.  Numbers come back in memory that
nobody else shares.  Categories, which need an index, are in `pandas_indexes`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from daskflow.results.arrays import dtype_from_json, dtype_to_json
from daskflow.results.encoded import Unencodable
from daskflow.results.tagged import Untagged, dump_json, load_json, zone_from_json, zone_to_json

__all__ = ["adopted", "array_of", "column_from_arrow", "column_to_arrow"]

Json = dict[str, Any]
_NONE = type(None)
# exact types of the cells of an object column -> Arrow type that holds them, null for None
_OBJECTS = {str: pa.large_string(), bytes: pa.large_binary(), bool: pa.bool_(), date: pa.date32()}
_MASKED = frozenset(
    [f"{sign}Int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)]
    + ["Float32", "Float64", "boolean"]
)


def column_to_arrow(values: Any) -> tuple[pa.Array, Json]:
    """Return the values of a column (a numpy or pandas array) as Arrow and as JSON."""
    dtype = values.dtype
    if isinstance(dtype, np.dtype):
        return _numpy(np.asarray(values), dtype)
    for kind, write in _EXTENSIONS.items():
        if type(dtype) is kind:
            return write(values, dtype)
    if str(dtype) in _MASKED:
        return pa.array(values), {"kind": "masked", "dtype": str(dtype)}
    raise Unencodable(f"pandas dtype {dtype} has no column type here")


def column_from_arrow(column: pa.ChunkedArray, meta: Json) -> Any:
    """Return what `column_to_arrow` was given, in fresh memory."""
    return _READERS[meta["kind"]](column, meta)


def array_of(values: Any) -> Any:
    """Return the values of a Series or Index as a numpy array, or pandas' own where it has one."""
    return values.to_numpy() if isinstance(values.dtype, np.dtype) else values.array


# ---- numpy dtypes


def _numpy(values: np.ndarray[Any, Any], dtype: np.dtype[Any]) -> tuple[pa.Array, Json]:
    if dtype.kind == "O":
        return _objects(values)
    if dtype.kind in "mM":
        unit = np.datetime_data(dtype)[0]
        if unit not in ("s", "ms", "us", "ns") or not dtype.isnative:
            raise Unencodable(f"numpy dtype {dtype} has no column type here")
        kind = pa.timestamp(unit) if dtype.kind == "M" else pa.duration(unit)
        return _ticks(values.view("i8"), kind), {"kind": "ticks", "dtype": dtype.str}
    if dtype.kind not in "biuf" or not dtype.isnative or dtype.itemsize > 8:
        if dtype.kind == "c":
            raw = np.ascontiguousarray(values)
            cells = pa.py_buffer(raw.view(np.uint8).data if raw.nbytes else b"")
            kind = pa.binary(dtype.itemsize)
            made = pa.FixedSizeBinaryArray.from_buffers(kind, len(raw), [None, cells])
            return made, {"kind": "bits", "dtype": dtype_to_json(dtype)}
        raise Unencodable(f"numpy dtype {dtype} has no column type here")
    return pa.array(values, from_pandas=False), {"kind": "numpy", "dtype": dtype.str}


def _ticks(ticks: np.ndarray[Any, Any], kind: pa.DataType) -> pa.Array:
    # NaT is the smallest int64; for Arrow it is a null
    mask = ticks == np.iinfo("i8").min
    return pa.array(ticks, pa.int64(), mask=mask if mask.any() else None).view(kind)


def _objects(values: np.ndarray[Any, Any]) -> tuple[pa.Array, Json]:
    cells = values.tolist()
    kinds = set(map(type, cells))
    for kind, arrow in _OBJECTS.items():
        if kinds <= {kind, _NONE}:
            return _strict(cells, arrow), {"kind": "object", "dtype": "none"}
        if kinds == {kind, float} and all(c is np.nan for c in cells if type(c) is float):
            return _strict([None if c is np.nan else c for c in cells], arrow), {
                "kind": "object",
                "dtype": "nan",
            }
    if not kinds <= _SIMPLE:
        raise Unencodable("an object column holds objects that no column type has")
    try:
        texts = [dump_json(cell).decode() for cell in cells]
    except Untagged as error:
        raise Unencodable(str(error)) from error
    return pa.array(texts, pa.large_string()), {"kind": "json"}


# cells that tagged JSON holds without any doubt about identity: nothing in them can be changed
_SIMPLE = {*(str, bytes, bool, int, float, complex, _NONE, date)} | {
    type(made) for made in (pd.Timestamp(0).to_pydatetime(), pd.Timedelta(0).to_pytimedelta())
}


def _strict(cells: list[Any], kind: pa.DataType) -> pa.Array:
    try:
        return pa.array(cells, kind)
    except (pa.ArrowException, UnicodeEncodeError, OverflowError) as error:
        raise Unencodable(f"an object column does not fit {kind}: {error}") from error


# ---- pandas' own dtypes


def _zoned(values: Any, dtype: Any) -> tuple[pa.Array, Json]:
    try:
        zone = zone_to_json(dtype.tz)
    except Untagged as error:
        raise Unencodable(str(error)) from error
    kind = pa.timestamp(dtype.unit, str(dtype.tz))
    return _ticks(values.asi8, kind), {"kind": "zoned", "unit": dtype.unit, "zone": zone}


def _period(values: Any, dtype: Any) -> tuple[pa.Array, Json]:
    return _ticks(values.asi8, pa.int64()), {"kind": "period", "dtype": str(dtype)}


def _strings(values: Any, dtype: Any) -> tuple[pa.Array, Json]:
    missing = "NA" if dtype.na_value is pd.NA else "nan"
    array = pa.array(values, pa.large_string())
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    return array, {"kind": "string", "storage": dtype.storage, "missing": missing}


def _interval(values: Any, dtype: Any) -> tuple[pa.Array, Json]:
    left, left_meta = column_to_arrow(array_of(values.left))
    right, _ = column_to_arrow(array_of(values.right))
    array = pa.StructArray.from_arrays([left, right], ["left", "right"])
    return array, {"kind": "interval", "closed": dtype.closed, "side": left_meta}


def _arrow(values: Any, dtype: Any) -> tuple[pa.Array, Json]:
    # the type travels with the table's schema, through Parquet by `restore_table`
    array = pa.array(values)
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    return array, {"kind": "arrow"}


_EXTENSIONS: dict[type, Callable[[Any, Any], tuple[pa.Array, Json]]] = {
    pd.DatetimeTZDtype: _zoned,
    pd.PeriodDtype: _period,
    pd.StringDtype: _strings,
    pd.IntervalDtype: _interval,
    pd.ArrowDtype: _arrow,
}


# ---- back


def _own(column: pa.ChunkedArray, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Return a column without nulls as a fresh writable array of the same width."""
    made = np.empty(len(column), dtype)
    start = 0
    for chunk in column.chunks:
        end = start + len(chunk)
        if dtype.kind == "b":
            made[start:end] = chunk.to_numpy(zero_copy_only=False)
        elif len(chunk):
            cells = np.frombuffer(chunk.buffers()[1], dtype, len(chunk) + chunk.offset)
            made[start:end] = cells[chunk.offset :]
        start = end
    return made


def adopted(column: pa.ChunkedArray, meta: Json) -> np.ndarray[Any, Any] | None:
    """Return a column of numbers in Arrow's own memory, where nobody else has it; else None."""
    if meta["kind"] not in ("numpy", "ticks") or column.num_chunks != 1 or column.null_count:
        return None
    (chunk,) = column.chunks
    buffer, dtype = chunk.buffers()[1], np.dtype(meta["dtype"])
    if dtype.kind == "b" or not len(chunk) or chunk.offset or not buffer.is_mutable:
        return None
    return np.frombuffer(buffer, dtype, len(chunk))


def _read_numpy(column: pa.ChunkedArray, meta: Json) -> Any:
    return _own(column, np.dtype(meta["dtype"]))


def _read_ticks(column: pa.ChunkedArray, meta: Json) -> Any:
    return _ticks_of(column).view(meta["dtype"])


def _ticks_of(column: pa.ChunkedArray) -> np.ndarray[Any, Any]:
    numbers = pa.chunked_array([chunk.view(pa.int64()) for chunk in column.chunks], pa.int64())
    if numbers.null_count:
        numbers = numbers.fill_null(int(np.iinfo("i8").min))
    return _own(numbers, np.dtype("i8"))


def _read_bits(column: pa.ChunkedArray, meta: Json) -> Any:
    return _own(column, dtype_from_json(meta["dtype"]))


def _read_object(column: pa.ChunkedArray, meta: Json) -> Any:
    made = np.empty(len(column), object)
    made[:] = column.to_pylist()
    if meta["dtype"] == "nan":
        made[[cell is None for cell in made]] = np.nan
    return made


def _read_json(column: pa.ChunkedArray, meta: Json) -> Any:
    made = np.empty(len(column), object)
    for at, text in enumerate(column.to_pylist()):
        made[at] = load_json(text.encode())
    return made


def _read_masked(column: pa.ChunkedArray, meta: Json) -> Any:
    made = pd.api.types.pandas_dtype(meta["dtype"]).__from_arrow__(column)
    return made.copy()  # its data may be Arrow's own, which is read-only


def _read_zoned(column: pa.ChunkedArray, meta: Json) -> Any:
    ticks = _ticks_of(column).view(f"M8[{meta['unit']}]")
    zone = zone_from_json(meta["zone"])
    return pd.DatetimeIndex(ticks, tz="UTC").tz_convert(zone).array


def _read_period(column: pa.ChunkedArray, meta: Json) -> Any:
    return pd.arrays.PeriodArray(_ticks_of(column), dtype=pd.api.types.pandas_dtype(meta["dtype"]))


def _read_string(column: pa.ChunkedArray, meta: Json) -> Any:
    dtype = pd.StringDtype(meta["storage"], pd.NA if meta["missing"] == "NA" else np.nan)
    return dtype.__from_arrow__(column)


def _read_interval(column: pa.ChunkedArray, meta: Json) -> Any:
    sides = [
        column_from_arrow(
            pa.chunked_array([c.field(side) for c in column.chunks], column.type.field(side).type),
            meta["side"],
        )
        for side in (0, 1)
    ]
    return pd.arrays.IntervalArray.from_arrays(*sides, closed=meta["closed"])


def _read_arrow(column: pa.ChunkedArray, meta: Json) -> Any:
    return pd.ArrowDtype(column.type).__from_arrow__(column)


_READERS: dict[str, Callable[[pa.ChunkedArray, Json], Any]] = {
    "numpy": _read_numpy,
    "ticks": _read_ticks,
    "bits": _read_bits,
    "object": _read_object,
    "json": _read_json,
    "masked": _read_masked,
    "zoned": _read_zoned,
    "period": _read_period,
    "string": _read_string,
    "interval": _read_interval,
    "arrow": _read_arrow,
}
