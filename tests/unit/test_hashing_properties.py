"""Laws of content digests, for generated values: copies are equal, any single change is not."""

from __future__ import annotations

import copy
import datetime as dt
import decimal
import math
import pickle
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from daskflow.caching.hashing import content_digest

quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

ATOMS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.binary(),
    st.complex_numbers(),
    st.decimals(allow_nan=False),
    st.dates(),
    st.datetimes(timezones=st.none() | st.just(dt.UTC)),
    st.timedeltas(),
    st.uuids(),
)
KEYS = st.one_of(st.text(), st.integers(), st.tuples(st.integers(), st.text()), st.none())
VALUES = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(KEYS, inner, max_size=4),
        st.frozensets(KEYS, max_size=4),
        st.sets(KEYS, max_size=4),
    ),
    max_leaves=12,
)


def form(value: Any) -> Any:
    """Return what type-strict equality of plain values compares, with NaN equal to itself."""
    kind = type(value).__name__
    if isinstance(value, list | tuple):
        return kind, [form(each) for each in value]
    if isinstance(value, dict):
        return kind, frozenset((frozen(key), frozen(item)) for key, item in value.items())
    if isinstance(value, set | frozenset):
        return kind, frozenset(map(frozen, value))
    if isinstance(value, float | complex | decimal.Decimal):
        return kind, repr(value)
    return kind, value


def frozen(value: Any) -> str:
    made = form(value)
    if isinstance(made[1], frozenset):
        return repr((made[0], sorted(made[1])))
    if isinstance(value, list | tuple):
        return repr((made[0], [frozen(each) for each in value]))
    return repr(made)


@quick
@given(VALUES)
def test_a_copy_of_a_value_has_its_digest(value):
    digest = content_digest(value)
    assert content_digest(copy.deepcopy(value)) == digest
    assert content_digest(pickle.loads(pickle.dumps(value))) == digest
    assert content_digest([value, value]) == content_digest([value, copy.deepcopy(value)])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(VALUES, VALUES)
def test_digests_are_equal_exactly_when_values_are(one, other):
    assert (content_digest(one) == content_digest(other)) == (frozen(one) == frozen(other))


@quick
@given(VALUES, VALUES)
def test_structure_cannot_be_faked_by_content(one, other):
    shapes: list[Any] = [
        *([one, other], [[one], other], [one, [other]], [[one, other]], (one, other)),
        *([one, other, None], {"a": one, "b": other}, {"a": [one, other]}),
    ]
    assert len(set(map(content_digest, shapes))) == len(shapes)


@quick
@given(st.dictionaries(KEYS, ATOMS, min_size=1), st.randoms(use_true_random=False))
def test_the_order_of_a_dict_and_of_a_set_does_not_count(value, chance):
    items = list(value.items())
    chance.shuffle(items)
    assert content_digest(dict(items)) == content_digest(value)
    assert content_digest({key for key, _ in items}) == content_digest(set(value))


# ---- arrays, frames, tables

DTYPES = ["?", "i1", "<i4", ">i8", "u2", "<f4", "<f8", "c16", "M8[s]", "m8[D]", "S3", "U2"]


@st.composite
def arrays(draw: Any) -> np.ndarray[Any, Any]:
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    size = math.prod(shape)
    numbers = draw(st.lists(st.integers(0, 99), min_size=size, max_size=size))
    made = np.array(numbers, dtype="i8")
    return (made.astype("S3") if dtype.kind in "SU" else made).astype(dtype).reshape(shape)


@quick
@given(arrays(), st.data())
def test_the_layout_of_an_array_does_not_count_and_each_element_does(array, data):
    digest = content_digest(array)
    wide = np.repeat(array, 2, axis=0)[::2]
    for same in (np.asfortranarray(array), wide, array[::-1][::-1], copy.deepcopy(array)):
        assert content_digest(same) == digest
    at = data.draw(st.integers(0, array.size - 1))
    other = array.copy()
    other.reshape(-1)[at] = 0 if array.reshape(-1)[at] else 1
    assume(other.tobytes() != array.tobytes())
    assert content_digest(other) != digest


COLUMNS: dict[str, st.SearchStrategy[Any]] = {
    "int64": st.integers(-5, 5),
    "float64": st.floats(width=32) | st.none(),
    "Int64": st.integers(-5, 5) | st.none(),
    "boolean": st.booleans() | st.none(),
    "string[python]": st.text(max_size=3) | st.none(),
    "string[pyarrow]": st.text(max_size=3) | st.none(),
    "object": st.text(max_size=3) | st.none() | st.integers(),
    "datetime64[us, UTC]": st.integers(0, 10**9) | st.none(),
    "category": st.sampled_from("abc"),
    "int32[pyarrow]": st.integers(-5, 5) | st.none(),
}


WORDS = pd.CategoricalDtype(list("abc"))


@st.composite
def frames(draw: Any) -> pd.DataFrame:
    rows = draw(st.integers(1, 6))
    names = draw(st.lists(st.sampled_from(list(COLUMNS)), min_size=1, max_size=4, unique=True))
    made = {
        name: pd.Series(
            draw(st.lists(COLUMNS[name], min_size=rows, max_size=rows)),
            dtype={"category": WORDS}.get(name, "object" if "datetime" in name else name),
        )
        for name in names
    }
    frame = pd.DataFrame(made)
    for name in names:
        if "datetime" in name:
            frame[name] = pd.to_datetime(frame[name], utc=True, unit="s").astype(name)
    return frame


@settings(quick, max_examples=30)
@given(frames(), st.data())
def test_the_blocks_of_a_frame_do_not_count_and_each_cell_does(frame, data):
    digest = content_digest(frame)
    grown = pd.concat([frame, frame], ignore_index=True)[: len(frame)]
    built = pd.DataFrame(index=frame.index)
    for name in frame:
        built[name] = frame[name].copy()
    built.columns = frame.columns
    for same in (frame.copy(), pickle.loads(pickle.dumps(frame)), grown, built):
        pd.testing.assert_frame_equal(same, frame)
        assert content_digest(same) == digest
    column = data.draw(st.sampled_from(list(frame.columns)))
    row = data.draw(st.integers(0, len(frame) - 1))
    value = data.draw(COLUMNS[column])
    if "datetime" in column:
        value = pd.NaT if value is None else pd.Timestamp(value, unit="s", tz="UTC")
    other = frame.copy()
    other.isetitem(frame.columns.get_loc(column), changed(frame[column], row, value))
    assert (content_digest(other) == digest) == other.equals(frame)


def changed(column: pd.Series[Any], row: int, value: Any) -> pd.Series[Any]:
    values = column.astype(object).tolist()
    values[row] = value
    return pd.Series(values, dtype=column.dtype)


TYPES: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.int32(): st.integers(-5, 5),
    pa.float64(): st.floats(allow_nan=False),
    pa.bool_(): st.booleans(),
    pa.string(): st.text(max_size=4),
    pa.large_binary(): st.binary(max_size=4),
    pa.timestamp("us"): st.integers(0, 99),
    pa.decimal128(9, 2): st.decimals(-99, 99, places=2),
    pa.list_(pa.string()): st.lists(st.text(max_size=2) | st.none(), max_size=3),
    pa.struct([("a", pa.int8()), ("b", pa.string())]): st.fixed_dictionaries(
        {"a": st.integers(0, 3) | st.none(), "b": st.text(max_size=2) | st.none()}
    ),
    pa.map_(pa.string(), pa.int8()): st.dictionaries(st.text(max_size=2), st.integers(0, 3)).map(
        lambda items: list(items.items())
    ),
    pa.list_(pa.int8(), 2): st.lists(st.integers(0, 3), min_size=2, max_size=2),
    pa.string_view(): st.text(max_size=20),
}


@pytest.mark.parametrize("kind", TYPES, ids=str)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_the_chunks_of_a_column_do_not_count_and_each_value_does(kind, data):
    values = data.draw(st.lists(TYPES[kind] | st.none(), min_size=1, max_size=8))
    whole = pa.array(values, kind)
    digest = content_digest(pa.chunked_array([whole]))
    cut = data.draw(st.integers(0, len(values)))
    pieces = pa.chunked_array([whole.slice(0, cut), whole.slice(cut)], kind)
    assert content_digest(pieces) == digest
    padded = pa.concat_arrays([whole, whole]).slice(len(values) - cut, len(values) + cut)
    again = pa.array([*values, *values], kind).slice(len(values) - cut, len(values) + cut)
    rebuilt = pa.array(padded.to_pylist(), kind)
    assert content_digest(padded) == content_digest(again) == content_digest(rebuilt)
    at = data.draw(st.integers(0, len(values) - 1))
    other = [*values]
    other[at] = data.draw(TYPES[kind] | st.none())
    edited = pa.chunked_array([pa.array(other, kind)])
    assert (content_digest(edited) == digest) == (edited.to_pylist() == whole.to_pylist())
