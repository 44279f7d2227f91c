"""Policies add, leave arguments out, compare, travel; anything else is refused at once."""

from __future__ import annotations

import pickle

import pytest

from daskflow import (
    DEFAULT,
    FLOW_PARAMETERS,
    INPUTS,
    NO_CACHE,
    RUN_ID,
    STRICT,
    TASK_SOURCE,
    CachePolicy,
)
from daskflow.errors import UsageError

NAMED = [INPUTS, TASK_SOURCE, RUN_ID, FLOW_PARAMETERS, NO_CACHE, DEFAULT]


def test_the_default_is_inputs_and_source():
    assert DEFAULT == INPUTS + TASK_SOURCE == TASK_SOURCE + INPUTS
    assert INPUTS in DEFAULT
    assert RUN_ID not in DEFAULT


def test_adding_twice_or_nothing_changes_nothing():
    assert DEFAULT + INPUTS == DEFAULT + NO_CACHE == DEFAULT
    assert NO_CACHE + RUN_ID == RUN_ID


def test_arguments_are_left_out_one_by_one_or_together():
    assert INPUTS - "a" - "b" == INPUTS - ("b", "a") == INPUTS - ["a", "b"]
    assert (INPUTS - "a") + TASK_SOURCE == DEFAULT - "a"
    assert (INPUTS - "a") + (INPUTS - "b") == INPUTS - ("a", "b")
    assert DEFAULT - "a" != DEFAULT


def test_only_the_empty_policy_does_not_cache():
    assert [policy.caches for policy in NAMED] == [True, True, True, True, False, True]


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (DEFAULT, "INPUTS + TASK_SOURCE"),
        (NO_CACHE, "NO_CACHE"),
        (RUN_ID + INPUTS, "INPUTS + RUN_ID"),
        (INPUTS - "b" - "a", "INPUTS - 'a' - 'b'"),
        (DEFAULT - "a", "(INPUTS + TASK_SOURCE) - 'a'"),
        (STRICT + INPUTS, "INPUTS + STRICT"),
        (INPUTS - "a" + STRICT, "(INPUTS + STRICT) - 'a'"),
    ],
)
def test_a_policy_reads_like_what_makes_it(policy, words):
    assert repr(policy) == words
    names = {str(each): each for each in (INPUTS, TASK_SOURCE, RUN_ID, NO_CACHE, STRICT)}
    assert eval(words, names) == policy


@pytest.mark.parametrize("policy", [*NAMED, DEFAULT - "a"], ids=repr)
def test_a_policy_travels_and_is_a_value(policy):
    again = pickle.loads(pickle.dumps(policy))
    assert again == policy
    assert hash(again) == hash(policy)
    with pytest.raises(AttributeError):
        policy.components = frozenset()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: INPUTS + "x", "cannot add 'x' to the cache policy INPUTS"),
        (lambda: "x" + INPUTS, "cannot add the cache policy INPUTS to 'x'"),
        (lambda: sum([INPUTS, RUN_ID]), "cannot add the cache policy INPUTS to 0"),
        (lambda: INPUTS - RUN_ID, "cannot take RUN_ID away from the cache policy INPUTS"),
        (lambda: INPUTS - 5, "cannot take 5 away"),
        (lambda: INPUTS - "not a name", "cannot take 'not a name' away"),
        (lambda: TASK_SOURCE - "x", "it does not look at the inputs"),
        (lambda: NO_CACHE - "x", "it does not look at the inputs"),
        (lambda: CachePolicy(frozenset({"SOURCE"})), "no component 'SOURCE'; have INPUTS"),
        (lambda: "INPUTS" in DEFAULT, "contains policies, not 'INPUTS'"),
    ],
)
def test_a_mistake_is_named(make, message):
    with pytest.raises(UsageError, match=message):
        make()
