"""Scalars, containers, records and other objects: what comes back is what went in."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import math
import pathlib
import uuid
import zoneinfo
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskflow.errors import PickleRefused, ResultGone, StoreError, UsageError
from daskflow.results.codecs import codecs, decode, encode, get_codec
from daskflow.results.files import read_payload, write_payload
from tests.unit.sameness import same


def stored(value: Any, allow_pickle: bool = False) -> Any:
    encoded = encode(value, allow_pickle=allow_pickle)
    back = read_payload(encoded.codec, write_payload(encoded))
    return decode(back, allow_pickle=allow_pickle)


class Colour(enum.Enum):
    RED = "r"
    BLUE = ("b", 1)


class Level(enum.IntEnum):
    LOW = 1


class Rights(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()


class Point(NamedTuple):
    x: float
    y: float = 0.0


@dataclasses.dataclass
class Run:
    name: str
    scores: list[float]
    frame: Any = None
    hidden: int = dataclasses.field(init=False, default=3)

    def __post_init__(self) -> None:
        Run.made += 1


Run.made = 0  # type: ignore[attr-defined]


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    where: pathlib.Path
    point: Point


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    name: str
    limit: float = 1.0
    _cache: dict[str, int] = pydantic.PrivateAttr(default_factory=dict)


class Plain:
    """A class that only pickle can hold."""

    def __init__(self, x: Any) -> None:
        self.x = x

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plain) and same(self.x, other.x)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return "Plain"


class LoudList(list):  # type: ignore[type-arg]
    """A subclass of a container that JSON knows."""


ZONES = (None, dt.UTC, dt.timezone(dt.timedelta(hours=-3), "BRT"), zoneinfo.ZoneInfo("Asia/Tokyo"))
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.complex_numbers(),
    st.text(),
    st.binary(),
    st.binary().map(bytearray),
    st.decimals(),
    st.fractions(),
    st.uuids(allow_nil=True),
    st.dates(),
    st.timedeltas(),
    st.datetimes(timezones=st.sampled_from(ZONES)),
    st.times(timezones=st.sampled_from((None, dt.UTC))),
    st.sampled_from([*Colour, *Level, Rights(0), Rights.READ | Rights.WRITE]),
    st.floats(width=32).map(np.float32),
    st.integers(-128, 127).map(np.int8),
)
KEYS = st.one_of(st.text(), st.integers(), st.booleans(), st.none(), st.binary(), st.dates())
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.lists(inner, max_size=4).map(collections.deque),
        st.dictionaries(KEYS, inner, max_size=4),
        st.dictionaries(st.text(), inner, max_size=4).map(collections.OrderedDict),
        st.sets(KEYS, max_size=4),
        st.frozensets(KEYS, max_size=4),
        st.builds(Run, st.text(), st.lists(st.floats(), max_size=3), inner),
        st.builds(Point, inner, inner),
        st.builds(lambda x: Model(name="m", more=x), inner),
    ),
    max_leaves=12,
)


@given(VALUES)
def test_any_nested_value_comes_back_exactly_without_pickle(value):
    assert same(stored(value), value)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param({"$": ["tuple", [1]]}, id="a-dict-that-looks-like-a-tag"),
        pytest.param({"$x": 1}, id="a-key-that-begins-like-a-tag"),
        pytest.param({1: "a", "1": "b", (1,): "c", None: "d", 1.5: "e"}, id="keys-of-many-types"),
        pytest.param([True, 1, 1.0, "1", b"1"], id="equal-but-not-the-same"),
        pytest.param([0.0, -0.0, math.inf, -math.inf, math.nan], id="floats"),
        pytest.param("\ud800 lone surrogate", id="surrogate"),
        pytest.param(10**5000, id="huge-int"),
        pytest.param([2**63 - 1, 2**63, -(2**63), -(2**63) - 1], id="ints-around-64-bits"),
        pytest.param(decimal.Decimal("-0.00"), id="decimal-negative-zero"),
        pytest.param(decimal.Decimal("sNaN12"), id="decimal-signalling-nan"),
        pytest.param(fractions.Fraction(1, 3), id="fraction"),
        pytest.param(uuid.UUID(int=5), id="uuid"),
        pytest.param(dt.datetime(2020, 10, 25, 2, 30, fold=1), id="fold"),
        pytest.param(dt.timezone(dt.timedelta(0), "GMT"), id="named-utc"),
        pytest.param(pathlib.PureWindowsPath("c:/x"), id="windows-path"),
        pytest.param([range(0, 9, 2), slice(1, None), ...], id="range-slice-ellipsis"),
        pytest.param(collections.deque([1], 3), id="deque-with-maxlen"),
        pytest.param([pd.Timestamp("2020", tz="Asia/Tokyo"), pd.NaT, pd.NA], id="pandas-scalars"),
        pytest.param([pd.Timestamp("2020").as_unit("s"), pd.Timedelta("1ns")], id="pandas-units"),
        pytest.param(
            [np.datetime64("2020", "D"), np.bool_(True), np.float16(1)], id="numpy-scalars"
        ),
        pytest.param(Frozen(pathlib.Path("a"), Point(1.0)), id="frozen-slots-dataclass"),
        pytest.param({"f": pd.DataFrame({"a": [1]}), "n": (np.zeros(2),)}, id="frame-in-dict"),
        pytest.param(Run("r", [1.0], pd.Series([1.5])), id="series-in-dataclass"),
        pytest.param([np.zeros((0, 3)), b"", ""], id="empty-parts"),
    ],
)
def test_a_value_comes_back_exactly_without_pickle(value):
    assert same(stored(value), value)


def test_a_set_is_stored_alike_whatever_its_order():
    texts = {encode(set(order)).payload for order in (["a", "b", "c"], ["c", "a", "b"])}
    assert len(texts) == 1


def test_a_record_is_filled_without_running_its_code():
    made = Run("r", [1.0])
    count = Run.made
    assert same(stored(made), made)
    assert count == Run.made


def test_private_and_extra_parts_of_a_model_come_back():
    model = Model(name="m", more=[1])
    model._cache["a"] = 1
    back = stored(model)
    assert same(back, model)
    assert (back._cache, back.more, back.model_fields_set) == ({"a": 1}, [1], {"name", "more"})


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(Plain(1), id="object"),
        pytest.param(LoudList([1]), id="subclass-of-list"),
        pytest.param({"x": (Plain(np.arange(3.0)), 1)}, id="object-in-containers"),
        pytest.param(np.array([Plain(1), "x"], dtype=object), id="object-array"),
        pytest.param(pd.DataFrame({"a": [Plain(1)]}), id="objects-in-a-frame"),
        pytest.param(np.ma.masked_array([1, 2], [True, False]), id="masked-array"),
    ],
)
def test_what_no_codec_holds_is_pickled_or_refused(value):
    encoded = encode(value)
    assert encoded.codec.split("+")[-1] == "pickle"
    assert repr(stored(value, allow_pickle=True)) == repr(value)
    with pytest.raises(PickleRefused, match="allow_pickle is false"):
        encode(value, allow_pickle=False)
    with pytest.raises(PickleRefused, match="allow_pickle is false"):
        decode(encoded, allow_pickle=False)


def test_objects_that_are_shared_stay_shared():
    one = Plain(1)
    back = stored({"a": one, "b": [one, 1]}, allow_pickle=True)
    assert back["a"] is back["b"][0]


def test_a_value_that_contains_itself_comes_back():
    loop: list[Any] = []
    loop.append(loop)
    back = stored(loop, allow_pickle=True)
    assert back[0] is back


def test_an_instance_with_more_than_its_fields_is_pickled():
    run = Run("r", [])
    run.extra = 1  # type: ignore[attr-defined]
    assert encode(run).codec == "pickle"
    assert stored(run, allow_pickle=True).extra == 1


def test_buffers_inside_an_object_come_back_writable():
    back = stored(Plain(np.arange(1e5)), allow_pickle=True)
    back.x[0] = 5.0
    assert back.x[0] == 5.0


def test_what_not_even_pickle_holds_is_an_error_with_the_reason():
    with pytest.raises(StoreError, match=r"generator cannot be stored.*return plain data"):
        encode(x for x in [1])


def test_a_class_that_lost_a_field_makes_its_results_gone(monkeypatch):
    encoded = encode(Run("r", [1.0]))
    monkeypatch.setattr("tests.unit.test_codec_values.Run", dataclasses.make_dataclass("Run", "a"))
    with pytest.raises(ResultGone, match=r"has changed: its fields were .*'hidden'"):
        decode(encoded)


def test_a_class_that_is_gone_makes_its_results_gone(monkeypatch):
    encoded = encode([Colour.RED, Point(1)])
    monkeypatch.delattr("tests.unit.test_codec_values.Point")
    with pytest.raises(ResultGone, match="Point"):
        decode(encoded)


def test_an_enum_member_with_another_value_makes_its_results_gone(monkeypatch):
    encoded = encode(Colour.RED)
    monkeypatch.setattr(
        "tests.unit.test_codec_values.Colour", enum.Enum("Colour", {"RED": "other"})
    )
    with pytest.raises(ResultGone, match="has changed"):
        decode(encoded)


def test_a_type_path_never_runs_what_is_no_record_class():
    with pytest.raises(ResultGone, match="no class any more"):
        decode(read_payload("json", b'{"$":["dataclass","os:system",{"command":"true"}]}'))
    with pytest.raises(ResultGone, match="it is no dataclass"):
        decode(read_payload("json", b'{"$":["dataclass","subprocess:Popen",{"args":"true"}]}'))


def test_an_unknown_codec_is_named_with_those_that_exist():
    with pytest.raises(UsageError, match="no codec named 'tiff'; have arrow, numpy, pandas"):
        get_codec("tiff")


@pytest.mark.parametrize("name", sorted(codecs))
def test_each_codec_says_what_it_keeps(name):
    assert len(get_codec(name).exact) > 20


@given(st.integers(0, 60_000), st.integers(0, 3))
def test_bytes_of_any_size_survive_being_cut_into_chunks(size, more):
    from daskflow.results.parts import parts_from_table, parts_table

    parts = [bytes(size), *(b"x" * n for n in range(more))]
    assert [bytes(p) for p in parts_from_table(parts_table(parts))] == parts
