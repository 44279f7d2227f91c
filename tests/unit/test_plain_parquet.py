"""Tables of plain numbers: ordinary Parquet for everybody, read back without Arrow by us."""

from __future__ import annotations

import logging

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from daskflow.caching.index import read_row, read_table, rows_of
from daskflow.caching.store import ResultStore
from daskflow.caching.store_layout import index_path
from daskflow.errors import ResultGone
from daskflow.results import files
from daskflow.results.codecs import decode, encode
from daskflow.results.plain_files import read_plain
from daskflow.results.plain_parquet import is_plain, layout_of
from tests.unit.result_stores import publish

COUNT = 5_000
NUMBERS = np.random.default_rng(0).integers(0, 1 << 62, COUNT)
TIMES = (NUMBERS >> 12).view("M8[us]")
FRAME = pd.DataFrame(
    {
        **{kind: NUMBERS.astype(kind) for kind in ("i4", "i8", "u4", "u8")},
        **{kind: NUMBERS.view("f8").astype(kind) for kind in ("f4", "f8")},
        **{unit: (NUMBERS >> 8).view(f"M8[{unit}]") for unit in ("ms", "us", "ns")},
        "zoned": pd.DatetimeIndex(TIMES, tz="UTC").tz_convert("Asia/Tokyo"),
        "took": (NUMBERS >> 8).view("m8[us]"),
        "ünï ✓": NUMBERS,
    },
    index=pd.Index(NUMBERS[::-1].copy(), name="at"),
)


@pytest.fixture
def store(tmp_path):
    return ResultStore(str(tmp_path / "store"))


@pytest.fixture(params=[1 << 40, 100_000], ids=["one row group", "many row groups"])
def written(tmp_path, request, monkeypatch):
    """Write a frame; return the path and the checksum and size that writing gave."""
    monkeypatch.setattr(files, "ROW_GROUP_BYTES", request.param)

    def write(frame, strong=False):
        path = tmp_path / "t.parquet"
        with path.open("wb") as file:
            return path, files.write_file(encode(frame), file, strong=strong)

    return write


@pytest.mark.parametrize("frame", [FRAME, FRAME["f4"], FRAME.index], ids=lambda f: type(f).__name__)
@pytest.mark.parametrize("strong", [False, True])
def test_values_come_back_and_the_checksum_is_of_every_byte(written, frame, strong):
    path, (checksum, size) = written(frame, strong)
    check = files.new_check(strong=strong)
    found = read_plain(path, check)
    assert (check.hexdigest(), found.size_bytes) == (checksum, size)
    assert files.file_checksum(path, strong=strong) == (checksum, size)
    value = decode(found.encoded("pandas"))
    assert type(value) is type(frame)
    assert value.equals(frame)
    # by Arrow's reader it is the same value
    assert decode(files.read_file("pandas", path)).equals(frame)


def test_others_read_the_same_numbers_and_types(written):
    path, _ = written(FRAME)
    expected = FRAME.reset_index(drop=True)
    table = pq.read_table(path).drop_columns(["__index_0__"])
    pd.testing.assert_frame_equal(table.to_pandas(), expected)
    one = pq.read_table(path, columns=["f8"])["f8"].to_numpy()
    assert one.tobytes() == FRAME["f8"].to_numpy().tobytes()
    for name, kind in (("i4", pl.Int32), ("u8", pl.UInt64), ("us", pl.Datetime("us"))):
        column = pl.read_parquet(path)[name]
        assert column.dtype == kind
        assert (column.to_numpy() == FRAME[name].to_numpy()).all()
    rows = duckdb.sql(f"select u8, us from '{path}'").fetchnumpy()
    assert (rows["u8"] == FRAME["u8"].to_numpy()).all()
    assert (rows["us"] == FRAME["us"].to_numpy()).all()


@pytest.mark.parametrize(
    "table",
    [
        pytest.param({"x": [1, None]}, id="nulls"),
        pytest.param({"x": ["a"]}, id="text"),
        pytest.param({"x": [True]}, id="bools"),
        pytest.param({"x": pa.array([1], pa.int8())}, id="narrow integers"),
        pytest.param({"x": pa.array([], pa.int64())}, id="no rows"),
        pytest.param({"x": pa.array([1], pa.timestamp("s"))}, id="seconds, which Parquet lacks"),
    ],
)
def test_other_columns_are_left_to_arrow(table):
    assert not is_plain(pa.table(table))


def test_columns_that_compress_well_are_left_to_arrow(tmp_path):
    path = tmp_path / "t.parquet"
    with path.open("wb") as file:
        _, size = files.write_file(encode(pd.DataFrame({"x": [1] * 100_000})), file, strong=False)
    assert size < 100_000
    assert read_plain(path, files.new_check(strong=False)) is None


def test_slices_and_chunks_are_written_as_one(written):
    table = pa.table({"x": pa.chunked_array([NUMBERS[:2100], NUMBERS[2100:]])}).slice(3, 4000)
    path, _ = written(table)
    found = read_plain(path, files.new_check(strong=False))
    assert decode(found.encoded("arrow")).equals(table)


def test_no_flipped_bit_and_no_cut_gives_another_value(store, caplog):
    """Wherever it is: in a column, a header, the footer, the place of the footer."""
    caplog.set_level(logging.CRITICAL)
    frame = FRAME[["i8", "f8"]][:2100]
    entry = publish(store, 1, frame)
    path = store.storage.local_root / "blobs" / entry.blob[:2] / f"{entry.blob}.parquet"
    whole = path.read_bytes()
    assert read_plain(path, files.new_check(strong=False)) is not None
    places = {*range(0, len(whole), 97), *range(len(whole) - 120, len(whole))}
    for place in sorted(places):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        for damaged in (bytes(flipped), whole[:place]):
            path.write_bytes(damaged)
            with pytest.raises(ResultGone):
                store.load(entry)
    path.write_bytes(whole)
    assert store.load(entry).equals(frame)


def test_what_was_loaded_is_private_and_outlives_its_file(store):
    entry = publish(store, 1, FRAME)
    path = store.storage.local_root / "blobs" / entry.blob[:2] / f"{entry.blob}.parquet"
    first = store.load(entry)
    first.iloc[0, 0] = -1
    second = store.load(entry)
    assert second.equals(FRAME)
    path.write_bytes(b"")
    assert second.equals(FRAME)


@pytest.mark.parametrize(
    "plain",
    [
        pytest.param([[10, 4]], id="a column too few"),
        pytest.param([[10, 4, 50]], id="columns that overlap"),
        pytest.param([[0, 4, 200]], id="a group of no rows"),
        pytest.param([[1 << 60, 4, 1 << 63]], id="beyond the end"),
    ],
)
def test_a_layout_that_cannot_be_is_refused(plain):
    with pytest.raises(ValueError, match="column"):
        layout_of({"plain": plain}, [8, 8], 1000)


@pytest.mark.parametrize("value", ["small", FRAME], ids=["in the row", "in a blob"])
def test_a_row_is_read_from_its_footer_as_from_its_columns(store, value):
    entry = publish(store, 1, value, expires_unix=4e9)
    data = (store.storage.local_root / index_path(entry.key)).read_bytes()
    assert read_row(data) == rows_of(read_table(data))[0] == entry


def test_a_row_without_a_footer_of_ours_is_read_from_its_columns(store):
    """Rows were written so before the footer had a copy."""
    entry = publish(store, 1, "small")
    data = (store.storage.local_root / index_path(entry.key)).read_bytes()
    sink = pa.BufferOutputStream()
    pq.write_table(pq.read_table(pa.BufferReader(data)), sink, store_schema=False)
    assert read_row(sink.getvalue().to_pybytes()) == entry


def test_no_flipped_bit_and_no_cut_of_a_row_gives_another_entry(store, caplog):
    caplog.set_level(logging.CRITICAL)
    entry = publish(store, 1, "small")
    path = store.storage.local_root / index_path(entry.key)
    whole = path.read_bytes()
    found = 0
    for place in range(0, len(whole), 5):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        for damaged in (bytes(flipped), whole[:place]):
            path.write_bytes(damaged)
            store.forget()
            got = store.lookup([entry.key]).get(entry.key)
            assert got in (None, entry)
            found += got is not None
    assert found <= 3  # a flip in the name of the footer's copy: the columns are right


def test_a_row_may_hold_what_its_checksum_stands_for(store):
    value = ["-" * 16, '["----------------", 2]']
    entry = publish(store, 1, value, task=value[1])
    store.forget()
    assert store.load(store.lookup([entry.key])[entry.key]) == value


def test_columns_that_arrow_reads_are_in_memory_of_the_systems(store):
    """Its own allocator keeps twice as much of a value; the process's choice stays what it was."""
    pool = pa.default_memory_pool()
    entry = publish(store, 1, FRAME.assign(flag=NUMBERS > 0))
    before = pool.bytes_allocated()
    kept = store.load(entry)
    assert kept["flag"].sum() == COUNT
    assert pa.default_memory_pool().backend_name == pool.backend_name
    assert pool.bytes_allocated() - before < kept.memory_usage().sum() / 4
