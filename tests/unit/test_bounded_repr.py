"""Parameters of any size are shown in a bounded time and text."""

from __future__ import annotations

import dataclasses
import json
import tracemalloc
from typing import Any

import numpy as np
import pandas as pd
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskflow.runner.bounded_repr import bounded, bounded_repr
from daskflow.runner.record import as_json


class Frame:
    """As large as a frame, and its repr must not be asked for."""

    shape = (10**9, 3)

    def __repr__(self) -> str:
        raise AssertionError("looked at all of it")


class Rows:
    def __len__(self) -> int:
        return 10**9

    def __repr__(self) -> str:
        raise AssertionError("looked at all of it")


class Odd:
    def __repr__(self) -> str:
        raise RuntimeError


class Settled:
    def __repr__(self) -> str:
        return "s" * 10_000


@dataclasses.dataclass
class Job:
    name: str
    data: Any
    hidden: Any = dataclasses.field(default=None, repr=False)


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    name: str
    data: Frame


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Frame(), "<Frame of shape (1000000000, 3)>"),
        (Rows(), "<Rows of 1000000000 items>"),
        (Odd(), "<Odd whose repr raises RuntimeError>"),
        (Job("a", Frame(), Frame()), "Job(name='a', data=<Frame of shape (1000000000, 3)>)"),
        (Model(name="a", data=Frame()), "Model(name='a', data=<Frame of shape (1000000000, 3)>)"),
        ([Frame(), (1,)], "[<Frame of shape (1000000000, 3)>, (1,)]"),
        ({"a": Frame()}, "{'a': <Frame of shape (1000000000, 3)>}"),
        ({1, 2}, "{1, 2}"),
        (frozenset({3}), "frozenset({3})"),
        ((), "()"),
        (set(), "set()"),
        (np.arange(3), "array([0, 1, 2])"),
        (np.float64(1.5), "np.float64(1.5)"),
        (np.zeros((400, 500)), "<ndarray of shape (400, 500)>"),
        (pd.DataFrame({"a": range(1000)}), "<DataFrame of shape (1000, 1)>"),
        (range(10**9), "<range of 1000000000 items>"),
        (2**100_000, "<int of 100001 bits>"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_is_large_is_named_by_its_size(value, text):
    assert bounded_repr(value) == text


def test_a_text_that_is_too_long_is_cut():
    assert bounded_repr(Settled()) == "s" * 499 + "…"
    assert len(bounded_repr(b"x" * 10**7)) == 500


def test_a_large_container_is_cut_and_counted():
    tracemalloc.start()
    try:
        values = {"many": list(range(10**6)), "text": "t" * 10**6, "few": [1, {"a": (2,)}]}
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        shown = json.loads(as_json(values))
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert shown["many"][:3] == [0, 1, 2]
    assert shown["many"][1000:] == ["… 999000 more"]
    assert shown["text"].endswith("… 980000 more characters")
    assert shown["few"] == [1, {"a": [2]}]
    assert peak < 1_000_000


def test_keys_that_json_lacks_are_shown():
    assert as_json({"a": {(1, "x"): 2}}) == '{"a": {"(1, \'x\')": 2}}'


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
)


@given(PLAIN)
def test_plain_values_are_written_as_they_are(value):
    assert as_json(value) == json.dumps(value, ensure_ascii=False)


@given(st.from_type(type).flatmap(st.from_type) | PLAIN)
def test_any_value_has_a_short_repr_that_raises_nothing(value):
    assert len(bounded_repr(value)) <= 500
    assert bounded(3) == 3
