"""Keys: what they are made of, what changes them, and how they say what changed."""

from __future__ import annotations

import inspect
import itertools
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskflow.caching.binding import bind_inputs
from daskflow.caching.code import CodeDigest
from daskflow.caching.keys import Change, explain, make_key
from daskflow.caching.policy import (
    DEFAULT,
    FLOW_PARAMETERS,
    INPUTS,
    NO_CACHE,
    RUN_ID,
    TASK_SOURCE,
)
from daskflow.errors import UsageError

CODE = CodeDigest("c0", {"flows.py:load": "c1", "clean.py:strip": "c2"})
EDITED = CodeDigest("c9", {"flows.py:load": "c1", "clean.py:strip": "c8"})
GIVEN = {
    "code": CODE,
    "inputs": {"x": "d1", "threshold": "d2"},
    "flow_run_id": "r1",
    "flow_parameters": {"day": "p1"},
}
CHANGES = {
    "code": EDITED,
    "inputs": {"x": "d1", "threshold": "d3"},
    "flow_run_id": "r2",
    "flow_parameters": {"day": "p2"},
}
ASKS = {
    "code": TASK_SOURCE,
    "inputs": INPUTS,
    "flow_run_id": RUN_ID,
    "flow_parameters": FLOW_PARAMETERS,
}
POLICIES = [
    sum(some, start=NO_CACHE)
    for count in range(1, 5)
    for some in itertools.combinations(ASKS.values(), count)
]


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
@pytest.mark.parametrize("custom", [None, "k"])
def test_keys_of_two_hash_algorithms_never_meet_even_without_inputs(policy, custom):
    given = {**GIVEN, "inputs": {}, "custom": custom}
    usual = make_key("load", policy, **given)
    assert usual == make_key("load", policy, **given, algorithm="sha256")
    assert usual.key != make_key("load", policy, **given, algorithm="blake3").key


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
@pytest.mark.parametrize("what", CHANGES)
def test_a_key_changes_exactly_with_what_its_policy_asks_for(policy, what):
    before = make_key("load", policy, **GIVEN)
    after = make_key("load", policy, **{**GIVEN, what: CHANGES[what]})
    assert (before.key != after.key) == (ASKS[what] in policy)
    assert bool(explain(before.parts, after.parts)) == (ASKS[what] in policy)


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
@pytest.mark.parametrize("what", CHANGES)
def test_without_what_its_policy_asks_for_there_is_no_key(policy, what):
    made = make_key("load", policy, **{**GIVEN, what: None})
    assert (made is None) == (ASKS[what] in policy)


def test_keys_of_different_policies_differ():
    keys = [make_key("load", policy, **GIVEN).key for policy in POLICIES]
    assert len(set(keys)) == len(keys)


def test_no_cache_has_no_key():
    assert make_key("load", NO_CACHE, **GIVEN) is None


def test_tasks_of_different_names_have_different_keys():
    assert make_key("a", INPUTS, **GIVEN).key != make_key("b", INPUTS, **GIVEN).key


def test_an_argument_that_is_left_out_does_not_count():
    policy = DEFAULT - "threshold"
    before = make_key("load", policy, **GIVEN)
    after = make_key("load", policy, **{**GIVEN, "inputs": CHANGES["inputs"]})
    assert before == after
    assert "input threshold" not in before.parts
    assert before.key != make_key("load", DEFAULT, **GIVEN).key


def test_the_order_of_inputs_does_not_count():
    one = make_key("load", INPUTS, inputs={"a": "1", "b": "2"})
    assert one == make_key("load", INPUTS, inputs={"b": "2", "a": "1"})
    assert one.key != make_key("load", INPUTS, inputs={"a": "2", "b": "1"}).key


def test_a_custom_key_takes_the_place_of_the_policy():
    one = make_key("a", DEFAULT, custom="k", **GIVEN)
    assert one == make_key("b", NO_CACHE, custom="k")
    assert one.parts == {"custom": "k"}
    assert one.key != make_key("a", DEFAULT, custom="l", **GIVEN).key


def test_a_custom_key_is_a_string():
    with pytest.raises(UsageError, match="cache_key_fn returned 5; return a string"):
        make_key("a", DEFAULT, custom=5, **GIVEN)


NAMES = st.from_regex(r"[a-z]{1,3}", fullmatch=True)
DIGESTS = st.from_regex(r"[0-9a-f]{4}", fullmatch=True)


@given(st.text(), st.text(), st.dictionaries(NAMES, DIGESTS))
def test_no_text_can_pass_for_another_part(name, run, inputs):
    """A line break in a name must not read as the next part."""
    policy = INPUTS + RUN_ID
    key = make_key(name, policy, inputs=inputs, flow_run_id=run).key
    assert key != make_key(name + "\ninput zzzz 0000", policy, inputs=inputs, flow_run_id=run).key
    assert key != make_key(name, policy, inputs={**inputs, "zzzz": "0"}, flow_run_id=run).key
    assert key != make_key(name, policy, inputs=inputs, flow_run_id=run + "\n").key


def test_changes_are_named_the_likeliest_cause_first():
    before = make_key("load", sum(ASKS.values(), start=NO_CACHE), **GIVEN)
    after = make_key("load", sum(ASKS.values(), start=NO_CACHE), **CHANGES)
    found = explain(before.parts, after.parts)
    assert [str(change) for change in found] == [
        "argument threshold changed",
        "code clean.py:strip changed",
        "flow parameter day changed",
        "run changed",
    ]
    assert found[1] == Change("code", "clean.py:strip", "changed")


def test_parts_that_came_or_went_are_named():
    changes = explain({"input a": "1", "task": "t"}, {"input b": "1", "task": "t"})
    assert [str(change) for change in changes] == ["argument a removed", "argument b added"]
    assert explain({"input a": "1"}, {"input a": "1"}) == []


# ---- binding


def plain(x, y=2, *, z=3): ...
def positional(x, /, y=2): ...
def variable(x, *rest, z=3, **more): ...
def clash(x, /, **more): ...


@pytest.mark.parametrize(
    ("function", "calls", "bound"),
    [
        (plain, [((1,), {}), ((), {"x": 1}), ((1, 2), {"z": 3}), ((), {"z": 3, "y": 2, "x": 1})],
         {"x": 1, "y": 2, "z": 3}),
        (positional, [((1,), {}), ((1,), {"y": 2}), ((1, 2), {})], {"x": 1, "y": 2}),
        (variable, [((1,), {}), ((), {"x": 1})], {"x": 1, "rest": (), "z": 3}),
        (variable, [((1, 2, 3), {"b": 5, "a": 4}), ((1, 2, 3), {"a": 4, "z": 3, "b": 5})],
         {"x": 1, "rest": (2, 3), "z": 3, "a": 4, "b": 5}),
        (clash, [((1,), {"x": 2})], {"x": 1, "**x": 2}),
    ],
)  # fmt: skip
def test_every_way_to_give_an_argument_is_the_same(function, calls, bound):
    signature = inspect.signature(function)
    for args, kwargs in calls:
        assert bind_inputs(signature, args, kwargs) == bound


@pytest.mark.parametrize(
    ("function", "args", "kwargs"),
    [
        (plain, (), {}),
        (plain, (1, 2, 3), {}),
        (plain, (1,), {"x": 1}),
        (plain, (1,), {"other": 1}),
        (plain, (1, 2), {"y": 2}),
        (positional, (), {"x": 1}),
        (variable, (), {"z": 1}),
    ],
)
def test_a_call_that_does_not_fit_is_an_error(function, args, kwargs):
    with pytest.raises(TypeError):
        bind_inputs(inspect.signature(function), args, kwargs)


def test_the_parts_of_a_key_are_a_mapping_that_travels():
    """They are put together when somebody looks, here or where they were pickled to."""
    key = make_key("clean", DEFAULT, code=CODE, inputs={"b": "1" * 64, "a": "2" * 64})
    parts = {"task": "clean", "input a": "2" * 64, "input b": "1" * 64}
    parts |= {f"code {name}": digest for name, digest in CODE.parts.items()}
    assert pickle.loads(pickle.dumps(key)) == key
    assert dict(key.parts) == parts == key.parts
    assert pickle.loads(pickle.dumps(key)).parts == parts
    assert repr(key.parts) == repr(parts)
