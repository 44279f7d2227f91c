"""Values whose digests are written down: they must never change while the format is the same."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import pathlib
import re
import types
import uuid
import zoneinfo
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pydantic

from daskflow.caching.code import code_digest
from daskflow.caching.hashing import content_digest
from daskflow.caching.keys import make_key
from daskflow.caching.policy import DEFAULT, FLOW_PARAMETERS, RUN_ID


class Point(NamedTuple):
    x: int
    y: int


class Color(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Config:
    name: str = "a"
    sizes: Any = (1, 2)


class Model(pydantic.BaseModel):
    name: str = "a"
    config: Any = None


class Plain:
    def __init__(self) -> None:
        self.b, self.a = {"k": [1]}, None


def cycle() -> list[Any]:
    made: list[Any] = [1]
    made.append(made)
    return made


NOON = dt.datetime(2026, 3, 1, 12, 30, 15, 7)


def plain_values() -> dict[str, Any]:
    return {
        "atoms": [0, -1, 2**70, True, None, 0.1, -0.0, float("inf"), 1j, "a\u00e9\ud800", b"\x00"],
        "containers": [(1, "a"), {"b": 1, "a": [2]}, {1, 2}, frozenset({"x", "y"}), {(1, 2): 3}],
        "sets": {("a", n) for n in range(50)},
        "mixed keys": {1: "a", "b": 2, None: 3, (4,): 5},
        "collections": [
            *(collections.OrderedDict(b=1, a=2), collections.deque([1], 3)),
            *(collections.Counter("abca"), collections.defaultdict(list, a=[1])),
            *(types.MappingProxyType({"a": 1}), types.SimpleNamespace(a=1)),
        ],
        "times": [
            *(NOON, NOON.date(), NOON.time(), dt.timedelta(1, 2, 3), NOON.replace(tzinfo=dt.UTC)),
            NOON.replace(tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"), fold=1),
        ],
        "numbers": [decimal.Decimal("1.50"), fractions.Fraction(2, 6), range(1, 9, 2), slice(3)],
        "words": [
            *(uuid.UUID(int=7), pathlib.PurePosixPath("a/b"), re.compile("a+", re.I)),
            *(bytearray(b"ab"), memoryview(b"ab"), ..., NotImplemented),
        ],
        "classes": [Point(1, 2), Color.RED, Config(), Model(config=Config()), Plain()],
        "cycle": cycle(),
        "large text": "ab" * 4000,
        "large bytes": bytes(range(256)) * 12_289,
        "long list": list(range(5000)),
    }


def array_values() -> dict[str, Any]:
    grid = np.arange(12, dtype="<f8").reshape(3, 4)
    pairs = np.zeros(3, dtype=np.dtype([("a", "u1"), ("b", "<f8")], align=True))
    return {
        "arrays": [grid, grid.T, grid[::2], np.arange(3, dtype=">i4"), np.array(5), np.array([])],
        "array dtypes": [np.arange(3).astype(c) for c in ("?", "b", "<i4", "<f2", "<c8", "S3")],
        "array times": np.array(["2026-01-01", "NaT"], dtype="<M8[D]"),
        "structured": pairs,
        "objects": np.array([1, "a", None, [2]], dtype=object),
        "masked": np.ma.masked_array([1, 2, 3], mask=[0, 1, 0], dtype="<i8"),
        "scalars": [np.float32(1.5), np.int64(3), np.datetime64("2026-01-01"), np.str_("a")],
        "large array": np.arange(1 << 18, dtype="<i8"),
        "large strided": np.arange(1 << 21, dtype="<i8")[::2],
    }


def table_values() -> dict[str, Any]:
    day = pd.Timestamp("2026-01-01", tz="UTC")
    frame = pd.DataFrame(
        {
            "int": pd.array([1, None, 3], dtype="Int64"),
            "float": np.array([1.5, np.nan, -0.0]),
            "text": pd.array(["a", None, "c"], dtype="string[python]"),
            "arrow": pd.array([1, None, 3], dtype="int32[pyarrow]"),
            "category": pd.Categorical(["b", "a", "b"], categories=["b", "a", "c"], ordered=True),
            "time": pd.Series([day, pd.NaT, day]).astype("datetime64[us, UTC]"),
            "period": pd.period_range("2026-01", periods=3, freq="M"),
            "interval": pd.IntervalIndex.from_breaks([0, 1, 2, 3]).array,
            "sparse": pd.arrays.SparseArray([0, 0, 1], dtype=pd.SparseDtype("int64", 0)),
            "object": pd.Series([1, "a", (2,)], dtype=object),
        }
    )
    frame.attrs["unit"] = "m"
    table = pa.table(
        {
            "int": pa.array([1, None, 3], pa.int16()),
            "text": ["a", None, "c"],
            "list": pa.array([[1], None, [2, 3]], pa.list_(pa.int64())),
            "struct": pa.array([{"x": 1}, None, {"x": 2}], pa.struct([("x", pa.int8())])),
            "map": pa.array([[("a", 1)], None, []], pa.map_(pa.string(), pa.int8())),
            "words": pa.array(["a", "b", "a"]).dictionary_encode(),
            "time": pa.array([1, None, 3], pa.timestamp("us", "UTC")),
            "flag": [True, None, False],
            "sum": pa.array([decimal.Decimal("1.5"), None, None], pa.decimal128(9, 2)),
        },
        metadata={"made": "here"},
    )
    more = pl.DataFrame({"a": [1, None], "b": ["x", "y"], "c": [[1.5], []]})
    return {
        "frame": frame,
        "series": frame["float"],
        "indexes": [pd.RangeIndex(3), pd.Index([0, 1, 2]), frame.set_index(["int", "text"]).index],
        "moments": [day, pd.Timedelta(1, "s"), pd.Period("2026-01"), pd.NaT, pd.NA],
        "table": table,
        "batch": table.combine_chunks().to_batches()[0],
        "column": table["list"],
        "schema": table.schema,
        "polars": [more, more["b"], pl.Series("e", ["u"], dtype=pl.Categorical)],
    }


WIDTH = 3


def helper(text: str) -> str:
    return f"{text.strip()[:WIDTH]!r:>5} {text=}"


def flow(texts: list[str], *, limit: int = 5) -> list[str]:
    """Docstrings do not count."""
    found = {helper(text) for text in texts if (size := len(text)) < limit and size}
    try:
        match sorted(found):
            case [first, *_]:
                return [first, *(lambda *more: more)(*found)]
    except* ValueError:
        raise
    return [np.char.upper(text) for text in found]


class Cleaner(Plain):
    suffix: str = "."

    @property
    def end(self) -> str:
        return self.suffix

    def clean(self, text: str) -> str:
        return helper(text) + self.end


def codes() -> dict[str, Callable[..., Any]]:
    return {"function": flow, "class": Cleaner, "dataclass": Config, "enum": Color}


def digests() -> Iterator[tuple[str, str]]:
    for name, value in {**plain_values(), **array_values(), **table_values()}.items():
        yield name, content_digest(value)
    yield "blake3", content_digest(plain_values()["large bytes"], algorithm="blake3")
    values = {**plain_values(), **array_values(), **table_values(), "atom": 1}
    for name in ("atom", "atoms", "containers", "large array", "frame", "table"):
        yield f"blake3 {name}", content_digest(values[name], algorithm="blake3")
    for name, function in codes().items():
        yield f"code of a {name}", code_digest(function).digest
    key = make_key(
        "load",
        DEFAULT + RUN_ID + FLOW_PARAMETERS,
        code=code_digest(helper),
        inputs={"a": content_digest(1)},
        flow_run_id="r",
        flow_parameters={"day": content_digest("x")},
    )
    yield "key", key.key if key else ""
    for algorithm in ("sha256", "blake3"):
        inputs = {"a": content_digest(1, algorithm=algorithm)}
        key = make_key(
            "load", DEFAULT, code=code_digest(helper), inputs=inputs, algorithm=algorithm
        )
        yield f"usual key with {algorithm}", key.key if key else ""
