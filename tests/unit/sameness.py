"""`same(a, b)`: whether two values are the same to the last bit that a codec promises to keep.

Stricter than ``==``: types, NaN bits, signs of zero, dtypes, byte order, kinds of index, names,
frequencies, categories with unused ones, levels, attrs and flags all count.
"""

from __future__ import annotations

import dataclasses
import struct
from collections import deque
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

__all__ = ["same"]


def same(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    for kind, check in _CHECKS:
        if isinstance(a, kind):
            return bool(check(a, b))
    if dataclasses.is_dataclass(a):
        return all(same(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))
    if hasattr(a, "__pydantic_fields_set__"):
        parts = (
            "__dict__",
            "__pydantic_fields_set__",
            "__pydantic_extra__",
            "__pydantic_private__",
        )
        return all(same(getattr(a, part), getattr(b, part)) for part in parts)
    return repr(a) == repr(b) and bool(a is b or a == b or a != a)


def _float(a: float, b: float) -> bool:
    return struct.pack("d", a) == struct.pack("d", b)


def _items(a: Any, b: Any) -> bool:
    return len(a) == len(b) and all(map(same, a, b))


def _dict(a: Any, b: Any) -> bool:
    return _items(list(a), list(b)) and _items(list(a.values()), list(b.values()))


def _set(a: Any, b: Any) -> bool:
    order = lambda values: sorted(values, key=lambda v: (type(v).__name__, repr(v)))  # noqa: E731
    return _items(order(a), order(b))


def _array(a: Any, b: Any) -> bool:
    if (a.dtype, a.dtype.str, a.shape) != (b.dtype, b.dtype.str, b.shape):
        return False
    if a.dtype.hasobject:
        return _items(a.ravel().tolist(), b.ravel().tolist())
    return a.tobytes() == b.tobytes() and a.flags.f_contiguous == b.flags.f_contiguous


def _extension(a: Any, b: Any) -> bool:
    return same(a.dtype, b.dtype) and _items(list(a), list(b)) and _masked(a, b)


def _masked(a: Any, b: Any) -> bool:
    return not hasattr(a, "isna") or bool((a.isna() == b.isna()).all())


def _dtype(a: Any, b: Any) -> bool:
    if isinstance(a, pd.CategoricalDtype):
        return a.ordered == b.ordered and same(a.categories, b.categories)
    if isinstance(a, pd.StringDtype):
        return a.storage == b.storage and (a.na_value is pd.NA) == (b.na_value is pd.NA)
    return repr(a) == repr(b) and a == b


def _index(a: Any, b: Any) -> bool:
    if not _items(list(a.names), list(b.names)) or len(a) != len(b):
        return False
    if isinstance(a, pd.RangeIndex):
        return (a.start, a.stop, a.step) == (b.start, b.stop, b.step)
    if isinstance(a, pd.MultiIndex):
        return _items(list(a.levels), list(b.levels)) and _items(list(a.codes), list(b.codes))
    if getattr(a, "freq", None) != getattr(b, "freq", None):
        return False
    return same(_values(a), _values(b))


def _values(a: Any) -> Any:
    return a.to_numpy() if isinstance(a.dtype, np.dtype) else a.array


def _series(a: Any, b: Any) -> bool:
    return (
        same(a.name, b.name)
        and same(a.index, b.index)
        and same(_values(a), _values(b))
        and _beside(a, b)
    )


def _frame(a: Any, b: Any) -> bool:
    return (
        same(a.columns, b.columns)
        and same(a.index, b.index)
        and all(same(_values(a.iloc[:, i]), _values(b.iloc[:, i])) for i in range(a.shape[1]))
        and _beside(a, b)
    )


def _beside(a: Any, b: Any) -> bool:
    flags = a.flags.allows_duplicate_labels == b.flags.allows_duplicate_labels
    return flags and same(dict(a.attrs), dict(b.attrs))


def _table(a: Any, b: Any) -> bool:
    if not a.schema.equals(b.schema, check_metadata=True) or a.num_rows != b.num_rows:
        return False
    return a.equals(b) or _items(a.to_pydict().values(), b.to_pydict().values())


def _polars(a: Any, b: Any) -> bool:
    if isinstance(a, pl.Series):
        a, b = a.to_frame(), b.to_frame()
    return a.schema == b.schema and a.equals(b, null_equal=True)


_CHECKS: list[tuple[Any, Any]] = [
    (np.ndarray, _array),
    (np.generic, lambda a, b: a.dtype == b.dtype and a.tobytes() == b.tobytes()),
    (pd.DataFrame, _frame),
    (pd.Series, _series),
    (pd.Index, _index),
    (pd.api.extensions.ExtensionArray, _extension),
    (pd.api.extensions.ExtensionDtype, _dtype),
    ((pa.Table, pa.RecordBatch), _table),
    ((pl.DataFrame, pl.Series), _polars),
    (int, lambda a, b: a == b),  # its repr has a limit
    (Decimal, lambda a, b: str(a) == str(b)),  # a signalling NaN refuses to be compared
    (float, _float),
    (complex, lambda a, b: _float(a.real, b.real) and _float(a.imag, b.imag)),
    (dict, _dict),
    ((set, frozenset), _set),
    (deque, lambda a, b: a.maxlen == b.maxlen and _items(a, b)),
    ((list, tuple), _items),
]
