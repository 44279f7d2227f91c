"""Content digests of arrays, frames and tables: layout does not count, everything else does."""

from __future__ import annotations

import copy
import itertools
import pickle
import threading
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from daskflow.caching.hashing import content_digest
from daskflow.errors import Uncacheable

GRID = np.arange(12.0).reshape(3, 4)
PADDED = np.dtype([("a", "u1"), ("b", "<f8")], align=True)


def padded(junk: int) -> np.ndarray[Any, Any]:
    made = np.frombuffer(bytes([junk]) * PADDED.itemsize * 2, PADDED).copy()
    made["a"], made["b"] = 1, 2.0
    return made


def under_null(junk: int) -> pa.Array:
    """Return [1, null, 3] with `junk` in the slot of the null."""
    data = np.array([1, junk, 3], dtype="<i8")
    return pa.Array.from_buffers(
        pa.int64(), 3, [pa.py_buffer(b"\x05"), pa.py_buffer(data.tobytes())]
    )


def text_under_null(junk: str) -> pa.Array:
    data = f"a{junk}c".encode()
    offsets = np.array([0, 1, 1 + len(junk), len(data)], dtype="<i4")
    buffers = [pa.py_buffer(b"\x05"), pa.py_buffer(offsets.tobytes()), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.string(), 3, buffers)


def masked_frame(junk: int) -> pd.DataFrame:
    array = pd.arrays.IntegerArray(np.array([1, junk]), np.array([False, True]))
    return pd.DataFrame({"a": array})


BLOCKS = pd.DataFrame({"a": [1, 2], "b": [3, 4]})
BUILT = pd.DataFrame({"a": [1, 2]})
BUILT["b"] = [3, 4]
LEVELS = pd.MultiIndex.from_tuples([("a", 1), ("b", 2), ("c", 3)])
EQUAL = {
    "order in memory": (GRID, np.asfortranarray(GRID)),
    "strides": (GRID[::2, 1:3], GRID[::2, 1:3].copy()),
    "negative strides": (GRID[::-1], GRID[::-1].copy()),
    "read only": (GRID, np.frombuffer(GRID.tobytes()).reshape(3, 4)),
    "large and strided": (np.arange(3 << 20)[::3], np.arange(3 << 20)[::3].copy()),
    "large and transposed": (np.ones((1500, 900)).T, np.ones((900, 1500))),
    "gaps between fields": (padded(0), padded(255)),
    "what a mask hides": (
        np.ma.masked_array([1, 2], mask=[0, 1]),
        np.ma.masked_array([1, 9], mask=[0, 1]),
    ),
    "no mask and an empty one": (
        np.ma.masked_array([1, 2]),
        np.ma.masked_array([1, 2], mask=[0, 0]),
    ),
    "blocks": (BLOCKS, BUILT),
    "frame made of rows": (pd.DataFrame(GRID), pd.DataFrame({n: GRID[:, n] for n in range(4)})),
    "slice of a frame": (BLOCKS[:1], BLOCKS.head(1).copy()),
    "what an NA hides": (masked_frame(5), masked_frame(7)),
    "unused levels": (LEVELS[:2], pd.MultiIndex.from_tuples([("a", 1), ("b", 2)])),
    "junk under a null": (under_null(5), under_null(7)),
    "text under a null": (text_under_null("x"), text_under_null("yy")),
    "chunks of polars": (
        pl.DataFrame({"a": ["x", "y"]}),
        pl.concat([pl.DataFrame({"a": ["x"]}), pl.DataFrame({"a": ["y"]})], rechunk=False),
    ),
}


@pytest.mark.parametrize(("one", "other"), EQUAL.values(), ids=EQUAL.keys())
def test_layout_does_not_count(one, other):
    assert content_digest(one) == content_digest(other)


def frame(values: Any, **more: Any) -> pd.DataFrame:
    return pd.DataFrame({"a": values}, **more)


def with_attrs() -> pd.DataFrame:
    made = frame([1, 2])
    made.attrs["unit"] = "m"
    return made


DAY = pd.Timestamp("2026-01-01")
DIFFERENT: dict[str, list[Any]] = {
    "arrays": [
        *(GRID, GRID.T, GRID.reshape(4, 3), GRID.astype("f4"), GRID.astype(">f8"), -GRID, GRID[:2]),
        *(np.array(1), np.array([1]), np.array([[1]]), np.int64(1), 1, np.array(1.0)),
        *(np.array([]), np.array([], dtype="i4"), np.array([[]]), np.zeros((0, 5)), [], np.nan),
        *(np.array(["a"]), np.array(["a"], dtype="U2"), np.array([b"a"]), np.array(["a"], "O")),
        *(np.array([0.0]), np.array([-0.0]), np.array([np.nan]), np.array([False])),
        *(np.array(["2026"], "M8[D]"), np.array(["2026"], "M8[s]"), np.array([1], "m8[s]")),
        *(np.zeros(1, [("a", "i4")]), np.zeros(1, [("b", "i4")]), np.zeros(1, [("a", "f4")])),
        *(np.array([1, "1"], "O"), np.array([1, 1], "O"), np.array([1, None], "O")),
        *(np.ma.masked_array([1, 2], mask=[0, 1]), np.ma.masked_array([1, 2], mask=[1, 0])),
        *(np.ma.masked_array([1, 2]), np.array([1, 2]), np.rec.array([(1,)], [("a", "i4")])),
        *(np.dtype("i4"), np.dtype("i8"), np.float64, np.add, np.random.default_rng(1)),
        *(np.random.default_rng(2), np.array(["a"], dtype=np.dtypes.StringDType())),
    ],
    "frames": [
        *(frame([1, 2]), frame([1, 3]), frame([1.0, 2.0]), frame([True, False]), frame(["1", "2"])),
        *(frame([1, 2], index=["x", "y"]), frame([1, 2], index=[0, 1]), with_attrs()),
        *(frame([1, 2]).rename_axis("i"), frame([1, 2]).rename_axis("c", axis=1), frame([])),
        *(frame([1, 2]).rename(columns={"a": "b"}), frame([1, 2])["a"], frame([1, 2]).index),
        *(frame(pd.array([1, 2], dtype="Int64")), frame(pd.array([1, 2], dtype="int64[pyarrow]"))),
        *(frame(pd.array([1, None], dtype="Int64")), frame([1, None]), frame([1, "2"])),
        *(frame(pd.Categorical([1, 2])), frame(pd.Categorical([1, 2], ordered=True))),
        *(frame(pd.Categorical([1, 2], [2, 1])), frame(pd.Categorical([1, 2], [1, 2, 3]))),
        *(frame(pd.array(["1", "2"], dtype=f"string[{s}]")) for s in ("python", "pyarrow")),
        *(frame(pd.Series(["1", "2"], dtype=object)), frame([DAY, DAY]), frame([DAY, pd.NaT])),
        *(frame([DAY.tz_localize(zone)] * 2) for zone in ("UTC", "Europe/Berlin")),
        *(frame(pd.arrays.SparseArray([1, 2])), frame(pd.arrays.SparseArray([1, 2], fill_value=1))),
        *(frame(pd.period_range("2026", periods=2, freq=f)) for f in ("M", "D")),
        *(frame(pd.IntervalIndex.from_breaks([0, 1, 2], closed=c)) for c in ("left", "right")),
        *(pd.DataFrame({"a": [1, 2], "b": [3, 4]}), pd.DataFrame({"b": [3, 4], "a": [1, 2]})),
        frame([1, 2]).set_flags(allows_duplicate_labels=False),
    ],
    "objects in a frame": [
        frame(np.array([missing, 1], dtype=object))
        for missing in (None, np.nan, pd.NA, pd.NaT, 0, (), [])
    ],
    "indexes": [
        *(pd.RangeIndex(3), pd.Index([0, 1, 2]), pd.Index([0, 1, 2], name="a"), LEVELS, LEVELS[:2]),
        *(LEVELS.set_names(["x", "y"]), LEVELS.swaplevel(), pd.Index([0.0, 1.0, 2.0])),
        *(pd.date_range("2026", periods=3), pd.date_range("2026", periods=3, tz="UTC")),
        *(pd.CategoricalIndex(["a"]), pd.Index(["a"]), pd.Index(["a"], dtype=object)),
    ],
    "moments": [
        *(DAY, DAY.tz_localize("UTC"), DAY.as_unit("ns"), DAY.to_pydatetime(), DAY.date()),
        *(pd.Timedelta(1), pd.Period("2026"), pd.Period("2026-01"), pd.NaT, pd.NA, np.nan, None),
        *(pd.Interval(0, 1), pd.Interval(0, 1, "left"), pd.offsets.Day(1), pd.offsets.Day(2)),
        *(pd.CategoricalDtype(["a"]), pd.CategoricalDtype(["b"]), pd.Int64Dtype()),
    ],
    "tables": [
        *(pa.table({"a": [1]}), pa.table({"a": [2]}), pa.table({"b": [1]}), pa.table({"a": [1.0]})),
        *(pa.table({"a": [1, None]}), pa.table({"a": [None, 1]}), pa.table({"a": [1, 0]})),
        *(pa.table({"a": pa.array([1], pa.int32())}), pa.table({"a": ["1"]}), pa.table({})),
        *(pa.table({"a": [1]}, metadata={"k": "v"}), pa.record_batch({"a": [1]})),
        *(pa.table({"a": pa.array(["1"], pa.large_string())}), pa.table({"a": [b"1"]})),
        *(pa.table({"a": [["x"], ["y"]]}), pa.table({"a": [["x", "y"], []]})),
        *(pa.table({"a": [["x", "y"], None]}), pa.table({"a": ["ab", "c"]})),
        *(pa.table({"a": ["a", "bc"]}), pa.array([1]), pa.chunked_array([[1]]), pa.scalar(1)),
        *(pa.table({"a": [{"x": 1}]}), pa.table({"a": [{"x": None}]}), pa.table({"a": [None]})),
        *(pa.array([None], pa.struct([("x", pa.int64())])), pa.array([{"x": None}]), pa.int64()),
        *(pa.array([None], pa.list_(pa.int64())), pa.array([[]], pa.list_(pa.int64()))),
        *(pa.array(["a", "b"]).dictionary_encode(), pa.array(["a", "b"]), pa.schema([])),
        *(pa.table({"a": [1]}, pa.schema([pa.field("a", pa.int64(), nullable=False)])),),
        *(pa.array([True, None]), pa.array([True, False]), pa.scalar(None, pa.int64()), pa.int32()),
    ],
    "polars": [
        *(pl.DataFrame({"a": [1]}), pl.DataFrame({"b": [1]}), pl.DataFrame({"a": [2]})),
        *(pl.DataFrame({"a": [1.0]}), pl.Series("a", [1]), pl.Series("b", [1]), pl.DataFrame()),
        *(pl.Series("a", [1], dtype=pl.Int8), pl.Series("a", ["x"]), pl.Int64, pl.Int64()),
        *(pl.Series("a", ["x"], dtype=d) for d in (pl.Categorical, pl.Enum(["x"]), pl.Enum("xy"))),
    ],
}


@pytest.mark.parametrize("values", DIFFERENT.values(), ids=DIFFERENT.keys())
def test_different_values_have_different_digests(values):
    digests = [content_digest(value) for value in values]
    same = [
        (values[a], values[b])
        for a, b in itertools.combinations(range(len(values)), 2)
        if digests[a] == digests[b]
    ]
    assert same == []


TRAVELLERS = [value for values in DIFFERENT.values() for value in values]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda v: pickle.loads(pickle.dumps(v, 5))],
                         ids=["deepcopy", "pickle"])  # fmt: skip
def test_a_copy_has_the_digest_of_its_original(copied):
    lost = [v for v in TRAVELLERS if content_digest(v) != content_digest(copied(v))]
    assert lost == []


REFUSED = {
    "objects of an array": (np.array([1, threading.Lock()], dtype=object), r"data\[1\]"),
    "objects of a frame": (frame([1, threading.Lock()]), r"data\['a'\]\[1\]"),
    "attrs": (with_attrs(), r"data\.attrs\['lock'\]"),
    "objects of polars": (pl.DataFrame({"a": pl.Series([object()], dtype=pl.Object)}), "data.'a'"),
    "lazy frame": (pl.DataFrame({"a": [1]}).lazy(), r"data is a polars\.LazyFrame"),
}
REFUSED["attrs"][0].attrs["lock"] = threading.Lock()


@pytest.mark.parametrize(("value", "where"), REFUSED.values(), ids=REFUSED.keys())
def test_a_part_without_content_is_named(value, where):
    with pytest.raises(Uncacheable, match=where):
        content_digest(value, name="data")


NESTED = pa.table(
    {
        "int": [1, None, 3, 4],
        "text": ["a", None, "", "dd"],
        "flag": [True, None, False, True],
        "list": [[1], None, [], [2, 3]],
        "big": pa.array([["a"], None, [], ["b", None]], pa.large_list(pa.large_string())),
        "view": pa.array(["a", None, "", "d" * 20], pa.string_view()),
        "list view": pa.array([[1], None, [], [2, 3]], pa.list_view(pa.int64())),
        "struct": [{"x": 1, "y": "a"}, None, {"x": None, "y": "b"}, {"x": 4, "y": None}],
        "map": pa.array([[("a", 1)], None, [], [("b", 2)]], pa.map_(pa.string(), pa.int64())),
        "pair": pa.array([[1, 2], None, [3, 4], [5, 6]], pa.list_(pa.int8(), 2)),
        "word": pa.array(["a", "b", None, "a"]).dictionary_encode(),
        "null": pa.nulls(4),
        "sum": pa.array([1, None, 3, 4]).cast(pa.decimal128(19, 0)),
        "fixed": pa.array([b"ab", None, b"cd", b"ef"], pa.binary(2)),
        "run": pa.array([1, 1, 2, 2]).cast(pa.int64()),
        "union": pa.UnionArray.from_sparse(
            pa.array([0, 1, 0, 1], pa.int8()), [pa.array([1, 2, 3, 4]), pa.array(list("abcd"))]
        ),
    }
)


@pytest.mark.parametrize("name", NESTED.column_names)
def test_chunks_and_slices_of_a_column_do_not_count(name):
    column = NESTED[name]
    pieces = [column.slice(0, 1), column.slice(1, 2), column.slice(3)]
    again = pa.chunked_array([c for piece in pieces for c in piece.chunks], column.type)
    assert content_digest(again) == content_digest(column)
    part = column.slice(1, 2).chunk(0)
    compact = pa.concat_arrays([part, part]).slice(0, 2)
    assert content_digest(part) == content_digest(compact)
    if name != "null":  # where one slice is like another
        assert content_digest(column.slice(0, 2)) != content_digest(column.slice(1, 2))


def test_hashing_changes_nothing():
    data = frame([3, 1, 2])
    before = pickle.dumps(data)
    content_digest(data)
    assert pickle.dumps(data) == before


def test_memory_mapped_arrays_count_as_arrays(tmp_path):
    np.save(tmp_path / "a.npy", GRID)
    assert content_digest(np.load(tmp_path / "a.npy", mmap_mode="r")) == content_digest(GRID)
