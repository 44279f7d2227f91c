"""Content digests: pairs that must be equal, pairs that must differ, and what has no content."""

from __future__ import annotations

import array
import asyncio
import collections
import concurrent.futures
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import functools
import io
import itertools
import math
import operator
import pathlib
import re
import socket
import sqlite3
import threading
import types
import uuid
import weakref
import zoneinfo
from typing import Any, NamedTuple

import pydantic
import pytest
from dask import delayed

from daskflow.caching.hashing import content_digest, register_hash
from daskflow.errors import Uncacheable, UsageError


class Point(NamedTuple):
    x: int
    y: int


class Place(NamedTuple):
    x: int
    y: int


class Color(enum.Enum):
    RED = 1
    BLUE = 2


class Level(enum.IntEnum):
    LOW = 1


class Mode(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass
class Config:
    name: str = "a"
    limit: float = 0.5
    inner: Any = None


@dataclasses.dataclass
class Other:
    name: str = "a"
    limit: float = 0.5
    inner: Any = None


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    x: int = 1
    y: Any = None


class Model(pydantic.BaseModel):
    name: str = "a"
    limit: float = 0.5
    inner: Any = None
    _hidden: int = pydantic.PrivateAttr(default=0)


class Plain:
    def __init__(self, **state: Any) -> None:
        self.__dict__.update(state)

    @functools.cached_property
    def total(self) -> int:
        return 7


class Slots:
    __slots__ = ("__hidden", "x")

    def __init__(self, x: Any, hidden: Any = 0) -> None:
        self.x = x
        self.__hidden = hidden


class Words(str):
    pass


class Items(list[Any]):
    pass


class Stateful:
    """Gives its state to pickle without what cannot travel."""

    def __init__(self, x: int) -> None:
        self.x = x
        self.lock = threading.Lock()

    def __getstate__(self) -> dict[str, int]:
        return {"x": self.x}


class Hooked:
    def __init__(self, version: int) -> None:
        self.version = version
        self.lock = threading.Lock()

    def __daskflow_hash__(self) -> object:
        return self.version


def cycle(value: Any) -> list[Any]:
    made: list[Any] = [value]
    made.append(made)
    return made


def with_total() -> Plain:
    made = Plain(x=1)
    assert made.total == 7
    return made


def filled(*keys: str) -> set[str]:
    """Give a set another history, so it iterates in another order."""
    made = {f"x{n}" for n in range(200)}
    made.update(keys)
    made.intersection_update(keys)
    return made


shared = [1, "a"]
EQUAL = {
    "dict order": ({"a": 1, "b": [2]}, {"b": [2], "a": 1}),
    "dict order with keys of several types": ({1: 2, "b": 3, None: 4}, {None: 4, "b": 3, 1: 2}),
    "dict order with keys that are tuples": ({(1, 2): 3, (4,): 5}, {(4,): 5, (1, 2): 3}),
    "set history": ({"a", "b", "c", "d"}, filled("d", "c", "b", "a")),
    "set of mixed types": ({1, "a", (2, 3)}, {(2, 3), "a", 1}),
    "one object twice, two equal objects": ([shared, shared], [[1, "a"], [1, "a"]]),
    "interned or not": ("ab" * 50, "".join(["ab"] * 50)),
    "not a number": ([math.nan], [float("nan")]),
    "cycles": (cycle(1), cycle(1)),
    "cached property": (Plain(x=1), with_total()),
    "dataclass": (Config(inner=[1]), Config(inner=[1])),
    "slotted dataclass": (Slotted(y=[1]), Slotted(y=[1])),
    "model": (Model(inner={"a": 1}), Model(inner={"a": 1})),
    "state without the lock": (Stateful(1), Stateful(1)),
    "hook": (Hooked(1), Hooked(1)),
    "bound method": (Plain(x=1).__class__, Plain),
    "partial": (functools.partial(int, base=2), functools.partial(int, base=2)),
    "counter order": (collections.Counter("ab"), collections.Counter("ba")),
    "generic alias": (list[int], list[int]),
}


@pytest.mark.parametrize(("one", "other"), EQUAL.values(), ids=EQUAL.keys())
def test_equal_values_have_equal_digests(one, other):
    assert content_digest(one) == content_digest(other)


UTC, BERLIN = dt.UTC, zoneinfo.ZoneInfo("Europe/Berlin")
NOON = dt.datetime(2026, 3, 1, 12)
# Within a group every value differs from every other one.
DIFFERENT: dict[str, list[Any]] = {
    "numbers": [
        *(0, 1, -1, 2**31, 2**63, 2**64, True, False, 0.0, -0.0, 1.0, 1j, math.nan, math.inf),
        *(-math.inf, None, "", "1", b"", b"1", decimal.Decimal(1), decimal.Decimal("1.0")),
        *(fractions.Fraction(1), fractions.Fraction(1, 3), Ellipsis, NotImplemented, Level.LOW),
    ],
    "sequences": [
        *([], (), set(), frozenset(), {}, [1], (1,), {1}, frozenset({1}), {1: 1}, [1, 1], [[1]]),
        *(((1,),), [(1,)], ([1],), [1, [2, 3]], [[1, 2], 3], [1, 2, 3], [1, [2], 3], [], ["1"]),
        *([1.0], [True], [b"1"], [None], [[]], [()], [{}], collections.deque([1])),
        *(collections.deque([1], maxlen=2), Items([1]), range(1), range(2), slice(1), slice(0, 1)),
        *(bytearray(b"1"), memoryview(b"1"), array.array("b", [1]), array.array("h", [1])),
    ][1:],
    "mappings": [
        *({"a": 1}, {"a": "1"}, {"a": None}, {"b": 1}, {1: 2}, {"1": 2}, {1: "2"}, {(1,): 2}),
        *({"a": {"b": 1}}, {"a": {}, "b": 1}, [("a", 1)], {"a": [1]}, {b"a": 1}, {True: 2}),
        *(collections.OrderedDict(a=1, b=2), collections.OrderedDict(b=2, a=1), {"a": 1, "b": 2}),
        *(collections.defaultdict(list, a=1), collections.defaultdict(int, a=1)),
        *(collections.Counter(a=1), types.MappingProxyType({"a": 1}), types.SimpleNamespace(a=1)),
    ],
    "texts": [
        *("a", b"a", "á", "a\u0301", Words("a"), "\ud800", "a" * 5000, "a" * 5001, b"a" * 5000),
        *(bytearray(b"a" * 5000), b"a" * (1 << 20), b"a" * ((1 << 20) + 1), re.compile("a")),
        *(re.compile("a", re.I), re.compile(b"a"), pathlib.PurePosixPath("a")),
        *(pathlib.PureWindowsPath("a"), pathlib.Path("a"), uuid.UUID(int=1), uuid.UUID(int=2)),
    ],
    "times": [
        *(NOON, NOON.replace(microsecond=1), NOON.replace(tzinfo=UTC), NOON.replace(fold=1)),
        *(NOON.replace(tzinfo=BERLIN), NOON.replace(tzinfo=zoneinfo.ZoneInfo("Europe/Paris"))),
        *(NOON.replace(tzinfo=dt.timezone(dt.timedelta(hours=1))), NOON.date(), NOON.time()),
        *(NOON.time().replace(tzinfo=UTC), dt.timedelta(1), dt.timedelta(seconds=1), UTC, BERLIN),
        *(dt.timezone(dt.timedelta(hours=1)), dt.timezone(dt.timedelta(hours=1), "CET")),
        *(NOON.isoformat(), str(NOON)),
    ],
    "classes": [
        *(Point(1, 2), Place(1, 2), (1, 2), Point(2, 1), Config(), Other(), Config("b"), Model()),
        *(Config(inner=[1]), Config(inner=(1,)), Model(name="b"), Model(inner=Config())),
        *(Slotted(), Slotted(2), Slotted(y=Slotted()), Plain(x=1), Plain(x=2), Plain(y=1), Plain()),
        *(Slots(1), Slots(2), Slots(1, 2), Stateful(1), Stateful(2), Hooked(1), Hooked(2)),
        *(Color.RED, Color.BLUE, Level.LOW, Mode.READ, Mode.WRITE, Mode.READ | Mode.WRITE),
        *(1, Config, Model, Plain, Color, dataclasses.asdict(Config())),
    ],
    "callables": [
        *(len, max, "abc".join, "abd".join, operator.itemgetter(1), operator.itemgetter(2)),
        *(functools.partial(max, 1), functools.partial(max, 2), functools.partial(max, key=len)),
        *(functools.partial(min, 1), int, Point, list[int], list[str]),
    ],
    "cycles": [cycle(1), cycle(2), [1, [1, []]], [1, cycle(1)]],
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


def test_an_attribute_beside_the_fields_of_a_dataclass_counts():
    plain, more = Config(), Config()
    more.extra = 1  # type: ignore[attr-defined]
    assert content_digest(plain) != content_digest(more)


def test_private_attributes_of_a_model_count():
    plain, more = Model(), Model()
    more._hidden = 1
    assert content_digest(plain) != content_digest(more)


def lines():
    yield 1


async def later():
    return 1


REFUSED = {
    "generator": lines,
    "lock": threading.Lock,
    "event": threading.Event,
    "object()": object,
    "map": lambda: map(int, "1"),
    "iterator": lambda: iter([1]),
    "file": lambda: open("/dev/null"),
    "bytes stream": io.BytesIO,
    "module": lambda: math,
    "weak reference": lambda: weakref.ref(Point),
    "thread": threading.Thread,
    "loop": asyncio.new_event_loop,
    "socket": socket.socket,
    "database": lambda: sqlite3.connect(":memory:"),
    "dask graph": lambda: delayed(len)("a"),
    "future": concurrent.futures.Future,
}


@pytest.mark.parametrize("make", REFUSED.values(), ids=REFUSED.keys())
def test_what_has_no_content_is_refused_by_name(make):
    value = make()
    try:
        with pytest.raises(Uncacheable, match=r"cfg\.inner\['k'\]\[1\]"):
            content_digest(Config(inner={"k": [0, value]}), name="cfg")
    finally:
        if hasattr(value, "close"):
            value.close()


def test_a_coroutine_is_refused():
    coroutine = later()
    with pytest.raises(Uncacheable, match=r"job is a builtins\.coroutine"):
        content_digest(coroutine, name="job")
    coroutine.close()


def test_the_path_of_a_part_reads_like_python():
    session = Plain(_lock=threading.Lock())
    with pytest.raises(Uncacheable, match=r"^cfg\.session\._lock is a _thread\.lock, which has no"):
        content_digest(Plain(session=session), name="cfg")


def test_hashing_consumes_nothing():
    numbers = (n for n in range(3))
    with pytest.raises(Uncacheable):
        content_digest([numbers])
    assert list(numbers) == [0, 1, 2]


class Broken:
    def __daskflow_hash__(self) -> object:
        raise OSError("no such table")


def test_a_class_that_fails_to_say_what_counts_is_refused():
    with pytest.raises(Uncacheable, match="cfg could not be hashed: OSError: no such table"):
        content_digest([Broken()], name="cfg")


def test_a_registered_type_is_hashed_by_what_counts():
    class Client:
        def __init__(self, url: str) -> None:
            self.url = url
            self.lock = threading.Lock()

    class Special(Client):
        pass

    with pytest.raises(Uncacheable):
        content_digest(Special("a"))
    register_hash(Client)(lambda client: client.url)
    assert content_digest(Client("a")) == content_digest(Client("a"))
    assert len({content_digest(v) for v in (Client("a"), Client("b"), Special("a"), "a")}) == 4


def test_register_hash_takes_a_type_and_a_function():
    with pytest.raises(UsageError, match="takes a type, not 5"):
        register_hash(5)
    with pytest.raises(UsageError, match="is a function, not 3"):
        register_hash(Plain)(3)


def test_what_is_nested_too_deeply_is_refused():
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(Uncacheable, match="nested too deeply"):
        content_digest(value)
    while value:  # or its destructor recurses as deeply
        value = value[0]


def test_shared_parts_cost_nothing():
    value: Any = [1.5]
    for _ in range(100):
        value = [value, value]
    assert len(content_digest(value)) == 64


def test_a_web_of_cycles_is_refused_rather_than_walked_for_ever():
    nodes = [Plain() for _ in range(12)]
    for node in nodes:
        node.others = nodes
        node.pairs = [list(nodes) for _ in nodes]
    with pytest.raises(Uncacheable, match="too many cycles"):
        content_digest(nodes)


@pytest.mark.parametrize("size", [0, 1, 4096, 4097, 1 << 20, (1 << 20) + 1, 5 << 20, (9 << 20) + 5])
def test_the_digest_does_not_depend_on_the_number_of_threads(size):
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    assert content_digest(data, threads=1) == content_digest(data, threads=3)
