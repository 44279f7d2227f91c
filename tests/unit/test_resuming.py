"""What a task run is known by when its flow run is resumed, and what is kept to start it again."""

from __future__ import annotations

import math
from collections import Counter
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr

from daskflow import NO_CACHE, flow
from daskflow.caching.code import CodeDigest
from daskflow.caching.index import Entry
from daskflow.caching.keys import input_parts, make_key, run_identity, run_key
from daskflow.caching.plans import CachePlan, StoreAddress
from daskflow.caching.policy import DEFAULT, FLOW_PARAMETERS, INPUTS, RUN_ID
from daskflow.errors import UsageError
from daskflow.runner import resuming
from daskflow.runner.account import Account
from daskflow.runner.cli.account import account_lines
from daskflow.runner.cluster.protocol import Code
from daskflow.runner.context import FlowInfo, TaskInfo
from daskflow.runner.core.graph import Scope, Stage
from daskflow.runner.core.retries import RetryPolicy
from daskflow.runner.core.states import FLOW_TRANSITIONS, RESUMABLE, TRANSITIONS
from daskflow.runner.earlier import Earlier, EarlierRuns, Past
from daskflow.runner.resuming import Resumption, code_changes
from daskflow.runner.starting import keep_parameters, restore_parameters
from daskflow.runner.store.rows import TaskRunRow
from tests.store import made

digests = st.text("0123456789abcdef", min_size=8, max_size=8)
inputs = st.dictionaries(st.sampled_from(["a", "b", "c d", "custom"]), digests, max_size=3)


def code(digest):
    return CodeDigest(digest, {"etl.py:clean": digest})


# ---- identity


@given(inputs, digests, digests, digests)
def test_the_identity_is_made_of_the_inputs_whatever_else_is_in_the_key(
    given_inputs, one, two, run
):
    keys = [
        make_key("clean", INPUTS, inputs=given_inputs),
        make_key("clean", DEFAULT, inputs=given_inputs, code=code(one)),
        make_key("clean", DEFAULT, inputs=given_inputs, code=code(two)),
        make_key("clean", INPUTS + RUN_ID, inputs=given_inputs, flow_run_id=run),
        make_key(
            "clean", INPUTS + FLOW_PARAMETERS, inputs=given_inputs, flow_parameters={"p": one}
        ),
        run_key(run, "3", input_parts("clean", given_inputs)),
    ]
    assert len({run_identity("clean", key.parts) for key in keys}) == 1


@given(inputs, inputs, st.sampled_from(["clean", "load"]), st.sampled_from(["clean", "load"]))
def test_other_inputs_or_another_task_have_another_identity(one, two, first, second):
    same = run_identity(first, input_parts(first, one)) == run_identity(
        second, input_parts(second, two)
    )
    assert same == ((first, one) == (second, two))


@given(inputs, st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("012")), unique=True))
def test_results_that_only_persist_have_keys_of_their_own(given_inputs, places):
    parts = input_parts("draw", given_inputs)
    assert len({run_key(run, place, parts).key for run, place in places}) == len(places)


def test_a_custom_key_counts_and_no_input_of_that_name():
    custom = make_key("clean", INPUTS, custom="k")
    assert run_identity("clean", custom.parts) != run_identity("clean", {"task": "clean"})
    assert run_identity("clean", custom.parts) != run_identity(
        "clean", input_parts("clean", {"custom": "k"})
    )


# ---- committed runs


def earlier(number, key):
    entry = Entry(key.key, "draw", "json", "d", None, 1, b"1", 0.0, None, 0.1, key.parts, None)
    row = TaskRunRow(
        number, 0, number, None, "Completed", None, 1, 0, None, 1.0, 1.0, 2.0, 1.0, None, None,
        "local", 1, 1, None, f"miss {key.key}",
    )  # fmt: skip
    return Earlier(row, entry, ())


def drawn(n, place):
    return run_key("run", place, input_parts("draw", {"n": str(n)}))


@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 3)), unique=True),
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 3)), unique=True),
)
def test_a_run_with_a_place_finds_its_own_and_nobody_elses(committed, asked):
    known = EarlierRuns()
    for number, (n, place) in enumerate(committed):
        known.add("draw", earlier(number, drawn(n, str(place))))
    for n, place in asked:
        key = drawn(n, str(place))
        found = known.take("draw", key.key, key.parts)
        assert (found is not None) == ((n, place) in committed)
        assert found is None or found.entry.key == key.key


@given(st.lists(st.integers(0, 2)), st.lists(st.integers(0, 2)), st.randoms())
def test_committed_runs_are_handed_out_once_each_in_whatever_order(committed, asked, chance):
    known = EarlierRuns()
    keys = [drawn(n, f"task run {number}") for number, n in enumerate(committed)]
    chance.shuffle(keys)
    for number, key in enumerate(keys):
        known.add("draw", earlier(number, key))
    taken = [known.take("draw", "f" * 64, drawn(n, "0").parts) for n in asked]
    numbers = [each.row.number for each in taken if each is not None]
    assert len(set(numbers)) == len(numbers)
    assert len(numbers) == (Counter(committed) & Counter(asked)).total()


def test_workers_are_offered_what_is_left_and_what_they_find_is_taken():
    known = EarlierRuns()
    first, second, other = drawn(1, "task run 1"), drawn(1, "task run 9"), drawn(2, "task run 2")
    for number, key in enumerate((first, second, other)):
        known.add("draw", earlier(number, key))
    assert sorted(map(len, known.keys("draw", 10).values())) == [1, 2]
    assert len(known.keys("draw", 1)) == 1
    assert known.keys("other", 10) == {}
    assert known.take_key("draw", second.key).row.number == 1
    assert known.take_key("draw", second.key) is None
    assert known.keys("draw", 10) == {
        run_identity("draw", first.parts): (first.key,),
        run_identity("draw", other.parts): (other.key,),
    }


@pytest.mark.parametrize("uptime_s", [0.1, 5_000.3, 33_800.7, 70_000.9])
def test_the_first_runs_are_offered_what_is_committed_whatever_the_clock_says(
    monkeypatch, uptime_s
):
    monkeypatch.setattr(resuming.time, "monotonic", lambda: uptime_s)
    resumption = Resumption(Past(made.flow_run(), (), ()))
    key = drawn(1, "task run 1")
    resumption._earlier.add("draw", earlier(0, key))
    assert resumption.offer("draw") == {run_identity("draw", key.parts): (key.key,)}


def caching_plan(**options):
    address = StoreAddress("memory://")
    plan = CachePlan("clean", DEFAULT, code("new"), None, "r", None, None, False, True, address)
    return plan._replace(**options)


def test_code_that_changed_is_told_by_its_piece_or_by_the_source():
    plan = caching_plan()
    old = {"task": "clean", "input n": "1", "code etl.py:clean": "old"}
    assert code_changes(old, plan, "s1", "s2") == ("code etl.py:clean changed",)
    assert code_changes({**old, "code etl.py:clean": "new"}, plan, "s1", "s2") == ()
    plain = caching_plan(policy=NO_CACHE, code=None)
    assert code_changes({"input n": "1"}, plain, "s1", "s2") == ("code changed",)
    assert code_changes({"input n": "1"}, plain, "s1", "s1") == ()
    assert code_changes({"input n": "1"}, plain, None, "s1") == ()


def test_only_a_flow_run_goes_on_after_its_end():
    assert {state for state in RESUMABLE if FLOW_TRANSITIONS[state] != {"Retrying"}} == set()
    assert FLOW_TRANSITIONS["Running"] == TRANSITIONS["Running"]
    assert not TRANSITIONS["Crashed"]


# ---- parameters

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False)
    | st.floats(allow_infinity=True),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


class Size(BaseModel):
    width: int


class Login(BaseModel):
    user: str
    password: SecretStr


@flow
def typed(
    day: date = date(2026, 1, 1),
    size: Size = Size(width=1),  # noqa: B008
    path: Path = Path("x"),
    price: Decimal = Decimal("0.1"),
    pair: tuple[int, str] = (1, "a"),
    login: Login | None = None,
    anything=None,
    *rest,
    **more,
):
    pass


def kept(**arguments):
    return keep_parameters(typed.fn, typed.signature, arguments)


def same(one, two):
    if isinstance(one, float) and isinstance(two, float) and math.isnan(one):
        return math.isnan(two)
    return type(one) is type(two) and one == two


@given(plain)
def test_what_is_kept_of_a_value_comes_back_as_it_was_or_is_named(value):
    note = kept(anything=value)
    if note["lost"]:
        assert note["lost"] == {"anything": type(value).__qualname__}
        return
    _, named = restore_parameters(typed, note, {})
    args, _ = restore_parameters(typed, note, {})
    assert same(value, named.get("anything", args[-1] if args else None))


def test_values_come_back_by_their_annotation():
    given_values = {
        "day": date(2026, 5, 6),
        "size": Size(width=3),
        "path": Path("/data"),
        "price": Decimal("1.10"),
        "pair": (2, "b"),
    }
    note = kept(**given_values)
    assert set(note["typed"]) == set(given_values)
    args, named = restore_parameters(typed, note, {})
    bound = typed.signature.bind(*args, **named)
    assert bound.arguments == given_values
    assert [type(v) for v in bound.arguments.values()] == [type(v) for v in given_values.values()]


def test_secrets_and_objects_are_not_kept_but_asked_for():
    note = kept(login=Login(user="u", password="hunter2"), anything=object())
    assert "hunter2" not in repr(note)
    assert note["lost"] == {"login": "Login", "anything": "object"}
    with pytest.raises(UsageError, match=r"does not hold login \(a Login\), anything \(a object\)"):
        restore_parameters(typed, note, {})
    args, named = restore_parameters(typed, note, {"login": None, "anything": 3})
    assert typed.signature.bind(*args, **named).arguments["anything"] == 3


def test_a_tuple_without_an_annotation_is_not_taken_for_a_list():
    assert kept(anything=(1, 2))["lost"] == {"anything": "tuple"}
    assert kept(anything=[1, (2,)])["lost"] == {"anything": "list"}


def test_what_does_not_fit_any_more_is_said():
    @flow
    def smaller(day: int):
        pass

    note = kept(day=date(2026, 5, 6))
    with pytest.raises(UsageError, match=r'day="2026-05-06" of flow smaller does not fit it'):
        restore_parameters(smaller, note, {})
    note = kept(size=Size(width=2))
    with pytest.raises(UsageError, match=r"parameter size=.* does not fit it any more"):
        restore_parameters(smaller, note, {})
    with pytest.raises(UsageError, match="has no parameter 'anything'"):
        restore_parameters(smaller, kept(anything=1), {})


# ---- the account


def test_the_account_says_what_ran_again_and_why():
    account = Account()
    account.reused.update(clean=1200)
    account.reused_changed.update(clean=2)
    account.changes["clean"] = {"code etl.py:clean changed"}
    account.gone.update(train=1)
    account.before["train"] = Counter(Crashed=2)
    scope = Scope("run")
    cached = Code("", None, False, TaskInfo("train"), FlowInfo("r", "r", "r"), cache=caching_plan())
    loose = Stage(scope, "loose", RetryPolicy(), code=cached._replace(cache=None))
    train = Stage(scope, "train", RetryPolicy(), code=cached)
    loose.submitted, train.submitted = 4, 3
    account.add([scope])
    assert account_lines(account.as_dict()) == [
        "1,200 task runs reused, 7 executed",
        "  reused    clean 1,200 (2 although code etl.py:clean changed; --rerun-changed runs them "
        "again)",
        "  executed  loose 4: results are not kept (persist_result=True keeps them)",
        "  executed  train 1: stored results are gone or expired (before: 2 Crashed)",
        "  executed  train 2: nothing was committed for these inputs (before: 2 Crashed)",
    ]
