"""Laws of content digests for generated values of every family, here and in another process."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daskflow.caching.hashing import content_digest
from tests.unit.test_hashing_properties import KEYS, TYPES, VALUES, arrays, frames, frozen

ROOT = Path(__file__).resolve().parents[2]
few = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))


@st.composite
def tables(draw: Any) -> pa.Table:
    rows = draw(st.integers(1, 5))
    kinds = draw(st.lists(st.sampled_from(list(TYPES)), min_size=1, max_size=3))
    columns = [
        pa.array(draw(st.lists(TYPES[kind] | st.none(), min_size=rows, max_size=rows)), kind)
        for kind in kinds
    ]
    return pa.table(columns, names=[f"c{at}" for at in range(len(kinds))])


POLARS: dict[Any, st.SearchStrategy[Any]] = {
    pl.Int32: st.integers(-5, 5),
    pl.Float64: st.floats(allow_nan=False),
    pl.Boolean: st.booleans(),
    pl.String: st.text("abä", max_size=20),
    pl.Binary: st.binary(max_size=3),
    pl.Datetime("us", "UTC"): st.datetimes(),
    pl.Categorical: st.sampled_from("abc"),
    pl.List(pl.Int8): st.lists(st.integers(0, 3), max_size=3),
    pl.Struct({"a": pl.Int8}): st.fixed_dictionaries({"a": st.integers(0, 3)}),
}


@st.composite
def polars_frames(draw: Any) -> pl.DataFrame:
    rows = draw(st.integers(1, 5))
    kinds = draw(st.lists(st.sampled_from(list(POLARS)), min_size=1, max_size=4))
    columns = [draw(st.lists(POLARS[k] | st.none(), min_size=rows, max_size=rows)) for k in kinds]
    named = zip(kinds, columns, strict=True)
    return pl.DataFrame([polars_series(f"c{at}", *column) for at, column in enumerate(named)])


def polars_series(name: str, kind: Any, values: list[Any]) -> pl.Series:
    if isinstance(kind, pl.Datetime):
        return pl.Series(name, values, pl.Datetime("us")).dt.replace_time_zone("UTC")
    return pl.Series(name, values, kind)


FAMILIES: dict[str, st.SearchStrategy[Any]] = {
    "plain": VALUES,
    "numpy": arrays(),
    "pandas": frames(),
    "arrow": tables(),
    "polars": polars_frames(),
    "nested": st.recursive(
        st.one_of(arrays(), frames(), tables(), polars_frames(), VALUES),
        lambda inner: st.one_of(
            st.lists(inner, max_size=2), st.dictionaries(KEYS, inner, max_size=2)
        ),
        max_leaves=3,
    ),
}


@pytest.fixture(scope="module")
def elsewhere():
    """Hash in a process with another hash seed."""
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.unit.hashing_child"],
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": seed},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )

    def digest(value: Any) -> str:
        assert child.stdin is not None
        assert child.stdout is not None
        pickle.dump(value, child.stdin, 5)  # older ones lose the byte order of an array
        child.stdin.flush()
        return child.stdout.readline().decode().strip()

    yield digest
    child.communicate()


@pytest.mark.parametrize("family", FAMILIES)
@few
@given(data=st.data())
def test_a_copy_and_another_process_find_the_same_digest(family, elsewhere, data):
    value = data.draw(FAMILIES[family])
    digest = content_digest(value)
    assert content_digest(copy.deepcopy(value)) == digest
    assert content_digest(pickle.loads(pickle.dumps(value, 5))) == digest
    assert elsewhere(value) == digest
    assert content_digest(value) == digest


@few
@given(polars_frames(), st.data())
def test_chunks_of_a_polars_frame_do_not_count_and_each_value_does(frame, data):
    digest = content_digest(frame)
    cut = data.draw(st.integers(0, len(frame)))
    pieces = pl.concat([frame[:cut], frame[cut:]], rechunk=False)
    doubled = pl.concat([frame, frame], rechunk=False)
    for same in (pieces, pieces.rechunk(), doubled[: len(frame)], doubled[len(frame) :]):
        assert content_digest(same) == digest
    name = data.draw(st.sampled_from(frame.columns))
    row = data.draw(st.integers(0, len(frame) - 1))
    kind = frame.schema[name]
    (strategy,) = [found for key, found in POLARS.items() if key == kind]
    values = frame[name].to_list()
    values[row] = data.draw(strategy | st.none())
    if isinstance(kind, pl.Datetime):
        values = [each and each.replace(tzinfo=None) for each in values]
    edited = frame.with_columns(polars_series(name, kind, values))
    unchanged = repr(edited[name].to_list()) == repr(frame[name].to_list())  # 0.0 is not -0.0
    assert (content_digest(edited) == digest) == unchanged
    assert content_digest(frame.rename({name: "other"})) != digest


@settings(few, max_examples=100)
@given(VALUES, st.data())
def test_any_single_change_inside_of_containers_is_seen(value, data):
    leaf = data.draw(VALUES)
    other = with_one_leaf(value, leaf, data)
    assert (content_digest(other) == content_digest(value)) == (frozen(other) == frozen(value))


def with_one_leaf(value: Any, leaf: Any, data: Any) -> Any:
    """Return a copy in which one place somewhere inside holds `leaf`."""
    if isinstance(value, (list, tuple)) and value:
        at = data.draw(st.integers(0, len(value) - 1))
        items = [*value]
        items[at] = with_one_leaf(value[at], leaf, data)
        return type(value)(items)
    if isinstance(value, dict) and value:
        at = data.draw(st.sampled_from(list(value)))
        return value | {at: with_one_leaf(value[at], leaf, data)}
    return leaf


@few
@given(tables(), st.data())
def test_a_table_is_the_same_however_it_is_cut(table, data):
    digest = content_digest(table)
    cut = data.draw(st.integers(0, len(table)))
    pieces = pa.concat_tables([table.slice(0, cut), table.slice(cut)])
    doubled = pa.concat_tables([table, table])
    for same in (pieces, doubled.slice(len(table)), pa.Table.from_batches(table.to_batches(1))):
        assert same.schema == table.schema
        assert content_digest(same) == digest
    assert content_digest(table.append_column("one", [[1] * len(table)])) != digest
    assert content_digest(pd.DataFrame({"a": [1]})) != content_digest(pa.table({"a": [1]}))
