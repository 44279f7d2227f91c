"""What lies in a result store, for everybody else: its layout, and tables that anyone can read."""

from __future__ import annotations

import hashlib
import json
import re

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import xxhash

from daskflow.caching.index import FORMAT
from daskflow.caching.store import ResultStore
from tests.unit.result_stores import key, new, publish

COUNT = 20_000
COLUMNS = {
    "carrier": pd.Categorical(np.resize(["AA", "DL", "UA"], COUNT)),
    "delay": np.arange(COUNT) / 2,
    "at": pd.date_range("2024", periods=COUNT, freq="min", tz="UTC"),
    "tail": [f"N{i}" for i in range(COUNT)],
}
FRAME = pd.DataFrame(COLUMNS)
TABLES = {
    "pandas": FRAME,
    "arrow": pa.table({name: FRAME[name].array for name in ("delay", "at", "tail")}),
    "polars": pl.DataFrame({"delay": FRAME["delay"].to_numpy(), "tail": COLUMNS["tail"]}),
}


@pytest.fixture
def store(tmp_path):
    return ResultStore(str(tmp_path / "store"))


def test_the_layout_is_the_documented_one(store):
    """A change here is another format version."""
    publish(store, 1, {"loss": 0.5}, expires_unix=4e9)
    blob = publish(store, 2, FRAME).blob
    store.publish_many([new(3, 3), new(4, 4)])
    root = store.storage.local_root
    paths = sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())
    fixed = ["_format.json", f"blobs/{blob[:2]}/{blob}.parquet"]
    rows = [f"index/{key(n)[:2]}/{key(n)}.parquet" for n in (1, 2)]
    (pack,) = set(paths) - {*fixed, *rows}
    assert re.fullmatch(r"packs/\d{13}-[0-9a-f]{32}\.parquet", pack)
    assert json.loads((root / "_format.json").read_text()) == {
        "daskflow": "result store",
        "format": FORMAT,
        "hash": "sha256",
        "hmac_key_id": None,
    }
    data, content = (root / fixed[1]).read_bytes(), new(2, FRAME).content_digest
    checksum = xxhash.xxh3_128_hexdigest(data)
    named = f"daskflow blob {len(data)} {checksum} {content} pandas"
    assert hashlib.sha256(named.encode()).hexdigest() == blob
    for path in (*rows, pack):
        assert [f"{f.name} {f.type}" for f in pq.read_schema(root / path)] == [
            *("format int16", "key string", "task string", "codec string", "content string"),
            *("blob string", "bytes int64", "payload binary", "created timestamp[us, tz=UTC]"),
            *("expires timestamp[us, tz=UTC]", "duration_s double", "parts string"),
            *("schema string", "seal string"),
        ]


def test_with_a_secret_a_blob_is_named_by_its_sha256(tmp_path):
    sealed = ResultStore(str(tmp_path / "sealed"), secret=b"s3cret")
    blob = publish(sealed, 1, FRAME).blob
    path = sealed.storage.local_root / "blobs" / blob[:2] / f"{blob}.parquet"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == blob


def test_a_store_of_format_2_is_still_read(store):
    """The bytes of an entry as they were written when the format was made."""
    entry = publish(store, 1, {"loss": 0.5, "at": (1, 2)})
    assert entry.payload == b'{"loss":0.5,"at":{"$":["tuple",[1,2]]}}'
    assert entry.seal == ("sha256:47e54507156a7852336a92e1838c1c8ff4ce7327e669caf4d3af92de0d673281")


@pytest.mark.parametrize("kind", sorted(TABLES))
def test_a_table_result_is_read_by_pyarrow_pandas_and_duckdb(store, kind):
    blob = publish(store, kind, TABLES[kind]).blob
    path = store.storage.local_root / "blobs" / blob[:2] / f"{blob}.parquet"
    arrow, frame = pq.read_table(path), pd.read_parquet(path)
    assert arrow.num_rows == len(frame) == COUNT
    assert list(arrow.column_names) == list(frame.columns) == list(TABLES[kind].columns) or (
        kind == "arrow" and arrow.column_names == TABLES[kind].column_names
    )
    assert arrow["tail"].to_pylist() == frame["tail"].tolist() == COLUMNS["tail"]
    everything = f"SELECT count(*), sum(delay), min(tail) FROM '{path.parent.parent}/**/*.parquet'"
    assert duckdb.sql(everything).fetchall() == [(COUNT, FRAME["delay"].sum(), "N0")]


MORE = {
    "series": FRAME["delay"],
    "polars series": pl.Series("delay", FRAME["delay"].to_numpy()),
    "batch": TABLES["arrow"].select(["delay"]).combine_chunks().to_batches()[0],
    "dataset": ds.dataset(TABLES["arrow"].select(["delay", "tail"])),
    "nested": pa.table(
        {
            "delay": FRAME["delay"].to_numpy(),
            "list": [[i, None] for i in range(COUNT)],
            "struct": [{"x": i} for i in range(COUNT)],
            "sum": pa.array(range(COUNT)).cast(pa.decimal128(21, 2)),
            "flag": [i % 2 == 0 for i in range(COUNT)],
        }
    ),
}


@pytest.mark.parametrize("kind", MORE)
def test_other_results_of_columns_are_read_by_everybody_too(store, kind):
    blob = publish(store, kind, MORE[kind]).blob
    path = store.storage.local_root / "blobs" / blob[:2] / f"{blob}.parquet"
    name = next(n for n in pq.read_schema(path).names if "delay" in n)
    total = FRAME["delay"].sum()
    assert pc.sum(pq.read_table(path)[name]).as_py() == total
    assert pd.read_parquet(path)[name].sum() == total
    assert duckdb.sql(f"SELECT sum(\"{name}\") FROM '{path}'").fetchall() == [(total,)]
    if kind == "nested":
        rows = duckdb.sql(f"SELECT list[1], struct.x, sum FROM '{path}' LIMIT 2").fetchall()
        assert [(a, b, int(c)) for a, b, c in rows] == [(0, 0, 0), (1, 1, 1)]


def test_categories_and_labels_are_words_in_the_file(store):
    blob = publish(store, 1, FRAME.set_index("tail")).blob
    path = store.storage.local_root / "blobs" / blob[:2] / f"{blob}.parquet"
    question = f"SELECT carrier, count(*) FROM '{path}' GROUP BY 1 ORDER BY 1"
    assert duckdb.sql(question).fetchall() == [("AA", 6667), ("DL", 6667), ("UA", 6666)]
    assert duckdb.sql(f"SELECT \"__index_0__\" FROM '{path}' LIMIT 1").fetchall() == [("N0",)]


def test_the_index_is_a_table_of_its_own(store):
    publish(store, 1, {"loss": 0.5})
    publish(store, 2, FRAME)
    store.publish_many([new(3, 3), new(4, 4)])
    root = store.storage.local_root
    question = (
        "SELECT task, codec, count(*), sum(duration_s) "
        f"FROM read_parquet(['{root}/index/**/*.parquet', '{root}/packs/*.parquet']) "
        "GROUP BY 1, 2 ORDER BY 2"
    )
    assert duckdb.sql(question).fetchall() == [
        ("clean", "json", 3, 1.5),
        ("clean", "pandas", 1, 0.5),
    ]
    values = (
        f"SELECT decode(payload) ->> 'loss' FROM '{root}/index/**/*.parquet' WHERE blob IS NULL"
    )
    assert duckdb.sql(values).fetchall() == [("0.5",)]


def test_a_large_table_is_cut_into_row_groups(store, monkeypatch):
    monkeypatch.setattr("daskflow.results.files.ROW_GROUP_BYTES", 100_000)
    blob = publish(store, 1, FRAME).blob
    path = store.storage.local_root / "blobs" / blob[:2] / f"{blob}.parquet"
    assert pq.ParquetFile(path).num_row_groups > 5
