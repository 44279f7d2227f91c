"""Tables, frames and arrays come back exactly, from their own columns and not from pickle."""

from __future__ import annotations

import datetime as dt
import decimal
import io
import zoneinfo

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from daskflow.caching.hashing import content_digest
from daskflow.results.codecs import decode, encode
from daskflow.results.files import file_checksum, read_file, read_payload, write_file, write_payload
from tests.unit.sameness import same

NS = dt.timezone(dt.timedelta(hours=5, minutes=30), "IST")
ROME = zoneinfo.ZoneInfo("Europe/Rome")


def stored(value, codec=None, tmp_path=None):
    """Send a value through the bytes that a store would keep; never by pickle."""
    encoded = encode(value, allow_pickle=False)
    assert codec in (None, encoded.codec)
    if tmp_path is None:
        return decode(read_payload(encoded.codec, write_payload(encoded)), allow_pickle=False)
    path = tmp_path / "blob"
    with open(path, "wb") as file:
        written = write_file(encoded, file, strong=False)
    assert written == file_checksum(path, strong=False)
    assert written[1] == path.stat().st_size
    return decode(read_file(encoded.codec, path), allow_pickle=False)


def frame(values, dtype=None, **options):
    return pd.DataFrame({"a": pd.Series(values, dtype=dtype)}, **options)


def with_attrs(value):
    value.attrs = {"source": "station 7", "limits": (0, 1.5)}
    return value


def unique(value):
    return value.set_flags(allows_duplicate_labels=False)


def indexed(index):
    return pd.DataFrame({"v": np.arange(float(len(index)))}, index=index)


FRAMES = {
    "empty": pd.DataFrame(),
    "rows-without-columns": pd.DataFrame(index=pd.RangeIndex(3)),
    "no-rows": pd.DataFrame({"a": np.empty(0), "b": np.empty(0, "i4")}),
    "floats": frame([1.5, np.nan, -0.0, np.inf]),
    "float32": frame([1.5, np.nan], "f4"),
    "float16": frame([1.5, np.nan], "f2"),
    "ints": pd.DataFrame({str(t): np.arange(3, dtype=t) for t in ("i1", "i2", "i4", "u1", "u8")}),
    "bool": frame([True, False]),
    "complex": frame([1 + 2j, complex(np.nan, -0.0)]),
    "strings": frame(["a", None, "é"]),
    "strings-na": frame(["a", None], pd.StringDtype("pyarrow")),
    "strings-python": frame(["a", None], pd.StringDtype("python")),
    "object-strings": frame(["a", None, "b"], object),
    "object-strings-nan": frame(["a", np.nan], object),
    "object-mixed": frame(["a", 1, 2.5, None, b"x", True, dt.date(2020, 1, 1)], object),
    "object-bytes": frame([b"a", None], object),
    "object-dates": frame([dt.date(2020, 1, 1), None], object),
    "object-ints": frame([1, 2**70, None], object),
    "object-none": frame([None, None], object),
    "timestamps-ns": frame(np.array(["2020-01-01", "NaT"], "M8[ns]")),
    "timestamps-s": frame(np.array(["2020-01-01", "NaT", "9999-01-01"], "M8[s]")),
    "timestamps-us": frame(np.array(["2020-01-01T00:00:00.000001"], "M8[us]")),
    "timedeltas": frame(np.array([1, "NaT"], "m8[ns]")),
    "timedeltas-s": frame(np.array([1, "NaT"], "m8[s]")),
    "zoned": frame(pd.date_range("2020-10-25", periods=5, freq="h", tz=ROME)),
    "zoned-utc": frame(pd.date_range("2020-10-25", periods=5, freq="h", tz="UTC")),
    "zoned-offset": frame(pd.date_range("2020-10-25", periods=2, tz=NS)),
    "zoned-s": frame(pd.date_range("2020-10-25", periods=2, tz=ROME, unit="s")),
    "masked": pd.DataFrame(
        {t: pd.array([1, None], dtype=t) for t in ("Int8", "UInt64", "Float32", "Float64")}
    ),
    "masked-bool": frame([True, None, False], "boolean"),
    "period": frame(pd.period_range("2020-01", periods=3, freq="M")),
    "period-quarter": frame(pd.PeriodIndex(["2020Q1", "NaT"], freq="Q-NOV")),
    "interval": frame(pd.interval_range(0, 3)),
    "interval-time": frame(pd.interval_range(pd.Timestamp(0), periods=2, closed="left")),
    "category": frame(pd.Categorical(["b", None, "a"], ["c", "b", "a"])),
    "category-ordered": frame(pd.Categorical(["b", "a"], ["b", "a", "z"], ordered=True)),
    "category-ints": frame(pd.Categorical([3, 1, None], [3, 2, 1])),
    "category-times": frame(pd.Categorical(pd.to_datetime(["2020-01-01", "2020-01-02"]))),
    "category-intervals": frame(pd.cut([1, 2, 3], 2)),
    "category-empty": frame(pd.Categorical([], ["a"])),
    "arrow-list": frame(pd.array([[1], None], pd.ArrowDtype(pa.list_(pa.int64())))),
    "arrow-decimal": frame(pd.array([decimal.Decimal("1.50")], pd.ArrowDtype(pa.decimal128(9, 2)))),
    "arrow-time-s": frame(pd.array([dt.time(1)], pd.ArrowDtype(pa.time32("s")))),
    "arrow-dictionary": frame(
        pd.array(["a", "b"], pd.ArrowDtype(pa.dictionary(pa.int8(), pa.string())))
    ),
    "labels-int": pd.DataFrame([[1, 2]], columns=[0, 1]),
    "labels-range": pd.DataFrame([[1, 2]]),
    "labels-same": pd.DataFrame([[1, 2]], columns=["a", "a"]),
    "labels-case": pd.DataFrame([[1, 2]], columns=["a", "A"]),
    "labels-odd": pd.DataFrame([[1, 2, 3]], columns=["", "__index_0__", "x y"]),
    "labels-mixed": pd.DataFrame([[1, 2, 3]], columns=pd.Index(["a", 1, None], dtype=object)),
    "labels-times": pd.DataFrame([[1, 2]], columns=pd.date_range("2020", periods=2, name="day")),
    "labels-multi": pd.DataFrame(
        [[1, 2]], columns=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["x", None])
    ),
    "labels-category": pd.DataFrame([[1, 2]], columns=pd.CategoricalIndex(["b", "a"])),
    "index-range": indexed(pd.RangeIndex(2, 10, 3, name="n")),
    "index-int32": indexed(pd.Index([1, 2], dtype="i4")),
    "index-text": indexed(pd.Index(["a", "b"], name=("x", 1))),
    "index-object": indexed(pd.Index(["a", 1], dtype=object)),
    "index-daily": indexed(pd.date_range("2020", periods=3, freq="D", name="day")),
    "index-business": indexed(pd.date_range("2020", periods=3, freq="2BME", tz=ROME)),
    "index-no-freq": indexed(pd.DatetimeIndex(["2020", "2022"])),
    "index-delta": indexed(pd.timedelta_range("1h", periods=3, freq="h")),
    "index-period": indexed(pd.period_range("2020", periods=2, freq="W-WED")),
    "index-interval": indexed(pd.interval_range(0, 2, closed="both")),
    "index-category": indexed(pd.CategoricalIndex(["b", "a"], ["a", "b", "c"])),
    "index-multi": indexed(
        pd.MultiIndex.from_product([["b", "a"], pd.date_range("2020", periods=2)], names=["k", "d"])
    ),
    "index-multi-unused": indexed(pd.MultiIndex.from_product([["b", "a"], [1, 2]]).delete([0, 1])),
    "attrs": with_attrs(frame([1])),
    "flags": unique(frame([1])),
}
SERIES = {
    "series": pd.Series([1.5, 2.5], name="x"),
    "series-no-name": pd.Series([1, 2], index=["a", "b"]),
    "series-tuple-name": pd.Series([1], name=("a", 2)),
    "series-attrs": with_attrs(pd.Series([1])),
    "range-index": pd.RangeIndex(5, name="r"),
    "date-index": pd.date_range("2020", periods=3, freq="MS"),
    "multi-index": pd.MultiIndex.from_tuples([(1, "a"), (2, None)]),
    "text-index": pd.Index(["a", None]),
}


@pytest.mark.parametrize("value", [pytest.param(v, id=k) for k, v in (FRAMES | SERIES).items()])
def test_a_pandas_value_comes_back_exactly(value):
    before = value.copy(deep=True)
    assert same(stored(value, "pandas"), before)
    assert same(value, before), "encoding changed it"


ARROW = {
    "scalars": pa.table({"a": [1, None], "b": ["x", None], "c": [1.5, float("nan")]}),
    "seconds": pa.table({"t": pa.array([1, None], pa.timestamp("s", "Europe/Rome"))}),
    "time-seconds": pa.table({"t": pa.array([1, None], pa.time32("s"))}),
    "date64": pa.table({"t": pa.array([86_400_000, None], pa.date64())}),
    "durations": pa.table({"t": pa.array([1, None], pa.duration("s"))}),
    "dictionary": pa.table({"d": pa.array(["a", None, "a"]).dictionary_encode()}),
    "dictionary-unused": pa.table(
        {"d": pa.DictionaryArray.from_arrays(pa.array([1]), pa.array(["a", "b"]))}
    ),
    "dictionary-ints": pa.table({"d": pa.array([7, 8, 7]).dictionary_encode()}),
    "nested": pa.table({"n": [{"a": [1, 2], "b": None}, None, {"a": [], "b": "x"}]}),
    "fixed-list": pa.table({"n": pa.array([[1, 2], None], pa.list_(pa.int8(), 2))}),
    "views": pa.table({"v": pa.array(["x" * 20, None], pa.string_view())}),
    "map": pa.table({"m": pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int8()))}),
    "run-end": pa.table({"r": pa.RunEndEncodedArray.from_arrays(pa.array([2, 3]), [1, 2])}),
    "interval": pa.table({"i": pa.array([(1, 2, 3)], pa.month_day_nano_interval())}),
    "empty-struct": pa.table({"s": pa.array([{}, None], pa.struct([]))}),
    "null": pa.table({"n": pa.nulls(3)}),
    "decimal": pa.table({"d": pa.array([decimal.Decimal("1.50")], pa.decimal256(50, 2))}),
    "half": pa.table({"h": pa.array(np.array([1.5], "f2"))}),
    "uuid": pa.table({"u": pa.array([b"0123456789abcdef"], pa.uuid())}),
    "no-columns": pa.table({}),
    "no-rows": pa.schema([("a", pa.int8()), ("b", pa.string())]).empty_table(),
    "same-names": pa.Table.from_arrays([pa.array([1]), pa.array(["x"])], ["a", "a"]),
    "metadata": pa.table({"a": [1]}).replace_schema_metadata({"daskflow": "mine", "k": "v"}),
    "field-metadata": pa.table(
        [pa.array([1])], schema=pa.schema([pa.field("a", pa.int64(), False, {"unit": "m"})])
    ),
    "chunks": pa.concat_tables([pa.table({"a": [1, 2]}), pa.table({"a": [3]})]),
    "slice": pa.table({"a": list(range(10)), "s": [str(i) for i in range(10)]}).slice(3, 4),
    "batch": pa.record_batch({"a": [1, None], "b": ["x", "y"]}),
    "batch-empty": pa.RecordBatch.from_arrays([pa.array([], pa.int8())], ["a"]),
}


@pytest.mark.parametrize("value", [pytest.param(v, id=k) for k, v in ARROW.items()])
def test_an_arrow_table_comes_back_exactly(value):
    assert same(stored(value, "arrow"), value)


def test_a_dataset_comes_back_as_one_of_the_same_rows(tmp_path):
    table = pa.table({"a": [1, None, 3], "s": ["x", "y", None]})
    for name, part in (("1", table.slice(0, 2)), ("2", table.slice(2))):
        pq.write_table(part, tmp_path / f"{name}.parquet")
    for value in (pads.dataset(tmp_path), pads.dataset(table)):
        back = stored(value, "arrow")
        assert isinstance(back, pads.Dataset)
        assert back.to_table().equals(table)
        assert content_digest(back) == content_digest(value) != content_digest(table)
    pq.write_table(table.slice(1), tmp_path / "2.parquet")
    assert content_digest(pads.dataset(tmp_path)) != content_digest(pads.dataset(table))


POLARS = {
    "scalars": pl.DataFrame({"a": [1, None], "b": ["x", None], "c": [1.5, float("nan")]}),
    "times": pl.DataFrame({"t": [dt.datetime(2020, 1, 1), None], "d": [dt.date(2020, 1, 1)] * 2}),
    "zoned": pl.DataFrame({"t": pl.Series([0]).cast(pl.Datetime("ms", "Europe/Rome"))}),
    "duration": pl.DataFrame({"t": [dt.timedelta(1)], "u": [dt.time(1, 2)]}),
    "enum": pl.DataFrame({"e": pl.Series(["a"], dtype=pl.Enum(["b", "a"]))}),
    "categorical": pl.DataFrame({"c": pl.Series(["a", None, "b"], dtype=pl.Categorical)}),
    "nested": pl.DataFrame({"l": [[1, 2], None], "s": [{"x": 1}, {"x": None}]}),
    "array": pl.DataFrame({"a": pl.Series([[1, 2]], dtype=pl.Array(pl.Int8, 2))}),
    "decimal": pl.DataFrame({"d": [decimal.Decimal("1.50")]}),
    "int128": pl.DataFrame({"i": pl.Series([2**100], dtype=pl.Int128)}),
    "null": pl.DataFrame({"n": [None, None]}),
    "empty": pl.DataFrame(),
    "no-rows": pl.DataFrame(schema={"a": pl.Int8, "b": pl.String}),
    "series": pl.Series("x", [1, None], dtype=pl.UInt8),
    "binary": pl.Series("x", [b"1", None]),
}


@pytest.mark.parametrize("value", [pytest.param(v, id=k) for k, v in POLARS.items()])
def test_a_polars_value_comes_back_exactly(value):
    assert same(stored(value, "polars"), value)


@given(
    npst.arrays(
        st.one_of(
            npst.scalar_dtypes(),
            npst.byte_string_dtypes(),
            npst.unicode_string_dtypes(),
            npst.array_dtypes(npst.scalar_dtypes()),
        ),
        npst.array_shapes(min_dims=0, min_side=0, max_dims=3, max_side=4),
    ),
    st.booleans(),
)
def test_any_array_comes_back_exactly_and_writable(value, transposed):
    value = value.T if transposed else value
    back = stored(value, "numpy")
    assert same(back, np.array(value, order="K", copy=True))
    assert back.flags.writeable


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(np.arange(10)[::-2], id="negative-stride"),
        pytest.param(np.broadcast_to(np.arange(3), (4, 3)), id="broadcast"),
        pytest.param(np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2), id="neither-order"),
        pytest.param(np.arange(5, dtype=">i4"), id="big-endian"),
        pytest.param(np.zeros(3, [("a", "i4"), ("b", "U5")]), id="structured"),
    ],
)
def test_an_array_that_is_a_view_comes_back_by_value(value):
    assert same(stored(value, "numpy"), value.copy(order="C"))


# ---- any frame

CELLS = st.one_of(
    st.floats(width=64), st.integers(-(2**63), 2**63 - 1), st.text(), st.booleans(), st.none()
)


@given(
    st.lists(st.tuples(st.text(max_size=5), st.lists(CELLS, min_size=3, max_size=3)), max_size=4),
    st.lists(st.integers() | st.text(max_size=3), min_size=3, max_size=3),
)
def test_any_frame_comes_back_exactly(columns, index):
    labels = [name for name, _ in columns]
    value = pd.DataFrame(dict(enumerate(cells for _, cells in columns)), index=index)
    value.columns = pd.Index(labels, dtype=object)
    assert same(decode(encode(value)), value)


# ---- large ones


def test_a_table_of_many_row_groups_comes_back_exactly(tmp_path, monkeypatch):
    monkeypatch.setattr("daskflow.results.files.ROW_GROUP_BYTES", 10_000)
    monkeypatch.setattr("daskflow.results.parts.CHUNK_BYTES", 1000)
    count = 5000
    value = pd.DataFrame(
        {
            "n": np.random.default_rng(0).random(count),
            "c": pd.Categorical(["b", "a"] * (count // 2), ["z", "a", "b"]),
            "b": np.arange(count) % 3 == 0,
            "t": pd.date_range("2020", periods=count, freq="s", tz="UTC"),
            "s": [str(i % 700) for i in range(count)],
        }
    )
    assert same(stored(value, "pandas", tmp_path), value)
    array = np.random.default_rng(0).random((300, 7))
    assert same(stored(array, "numpy", tmp_path), array)
    assert same(stored(pa.table(value), "arrow", tmp_path), pa.table(value))


def test_numbers_of_a_hit_are_its_own_and_can_be_changed(tmp_path):
    value = pd.DataFrame({"a": np.arange(3.0), "b": [True, False, True], "c": [1, 2, 3]})
    for back in (stored(value), stored(value, tmp_path=tmp_path)):
        back.iloc[0, 0] = 9.0
        back["c"].to_numpy(copy=True)[:] = 0
        back.loc[1, "b"] = True
        assert back["a"].tolist() == [9.0, 1.0, 2.0]
    assert value.iloc[0, 0] == 0.0


def test_the_schema_of_a_table_result_is_recorded():
    assert encode(pa.table({"a": [1], "b": ["x"]})).schema == "a: int64\nb: string"
    assert encode(pd.DataFrame({"a": [1.5]})).schema == "a: double"
    assert encode(pl.DataFrame({"a": [1]})).schema == "a: Int64"
    assert encode(np.zeros((2, 3))).schema == "float64 [2, 3]"
    assert encode([1]).schema is None


def test_a_stored_table_is_a_plain_parquet_file():
    sink = io.BytesIO(write_payload(encode(pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}))))
    assert pd.read_parquet(sink).to_dict("list") == {"a": [1, 2], "b": ["x", "y"]}
