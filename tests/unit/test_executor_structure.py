"""replace_inside: every marker at any depth, the caller's objects untouched, no needless copies."""

from __future__ import annotations

import copy
import dataclasses
from collections import OrderedDict, defaultdict
from typing import Any, NamedTuple

import hypothesis.strategies as st
import pydantic
import pytest
from hypothesis import given

from daskflow.runner.cluster.executor.structure import MAX_DEPTH, replace_inside


@dataclasses.dataclass(frozen=True)
class Marker:
    number: int


@dataclasses.dataclass(frozen=True)
class Done:
    number: int


class Pair(NamedTuple):
    left: Any
    right: Any


@dataclasses.dataclass
class Box:
    content: Any


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    content: Any


class Model(pydantic.BaseModel):
    content: Any


def fill(value: Any) -> Any:
    return Done(value.number) if isinstance(value, Marker) else value


def structures(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=4),
            st.tuples(inner, inner),
            st.builds(Pair, inner, inner),
            st.dictionaries(st.text(max_size=3), inner, max_size=3),
            st.dictionaries(st.text(max_size=3), inner, max_size=3).map(OrderedDict),
            st.builds(Box, inner),
            st.builds(Frozen, inner),
            st.builds(lambda content: Model(content=content), inner),
        ),
        max_leaves=12,
    )


plain = st.one_of(st.integers(), st.text(max_size=3), st.none(), st.frozensets(st.integers()))
markers = st.builds(Marker, st.integers())
MIXED = structures(st.one_of(plain, markers))


@given(MIXED)
def test_every_marker_is_replaced_and_nothing_else_changes(value: Any) -> None:
    new = replace_inside(value, fill)
    assert "Marker(" not in repr(new)
    assert repr(new) == repr(value).replace("Marker(", "Done(")
    assert type(new) is type(value) or isinstance(value, Marker)


@given(MIXED)
def test_the_original_is_left_as_it_was(value: Any) -> None:
    before = copy.deepcopy(value)
    replace_inside(value, fill)
    assert value == before


@given(structures(plain))
def test_where_nothing_is_replaced_the_object_itself_goes_on(value: Any) -> None:
    assert replace_inside(value, fill) is value


@given(structures(plain), structures(plain))
def test_parts_without_a_marker_are_not_copied(left: Any, right: Any) -> None:
    new = replace_inside([left, Marker(1), {"k": right}], fill)
    assert new[0] is left
    assert new[2]["k"] is right


@pytest.mark.parametrize("depth", [1, MAX_DEPTH])
def test_looks_as_deep_as_it_says(depth: int) -> None:
    value: Any = Marker(1)
    for _ in range(depth):
        value = [value]
    assert repr(replace_inside(value, fill)).count("Done") == 1
    assert repr(replace_inside([value], fill, depth)).count("Done") == 0


def test_sets_and_keys_are_looked_into() -> None:
    assert replace_inside({Marker(1), 2}, fill) == {Done(1), 2}
    assert replace_inside(frozenset({Marker(1)}), fill) == frozenset({Done(1)})
    assert replace_inside({Marker(1): Marker(2)}, fill) == {Done(1): Done(2)}


def test_a_defaultdict_keeps_its_factory() -> None:
    new = replace_inside(defaultdict(list, a=Marker(1)), fill)
    assert new["a"] == Done(1)
    assert new["b"] == []


def test_a_dataclass_is_not_made_anew() -> None:
    @dataclasses.dataclass
    class Counted:
        content: Any
        scale: dataclasses.InitVar[int]
        made: int = dataclasses.field(init=False, default=0)

        def __post_init__(self, scale: int) -> None:
            self.made += scale

    value = Counted(Marker(1), 3)
    new = replace_inside(value, fill)
    assert (new.content, new.made) == (Done(1), 3)
    assert value.content == Marker(1)


def test_an_object_that_is_met_twice_stays_one_object() -> None:
    shared = [Marker(1)]
    new = replace_inside([shared, {"again": shared}], fill)
    assert new[0] is new[1]["again"]


def test_cycles_with_many_branches_end() -> None:
    nodes: list[Box] = [Box([]) for _ in range(30)]
    for node in nodes:
        node.content = nodes
    assert replace_inside(nodes[0], fill) is nodes[0]


def test_classes_are_values() -> None:
    assert replace_inside([Box, Model, Pair], fill) == [Box, Model, Pair]
