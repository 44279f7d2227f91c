"""Arguments into a task run and results out of it: every value arrives as it was."""

from __future__ import annotations

import pickle
import sys
import threading
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from daskflow.runner.cluster.executor.structure import MAX_DEPTH
from daskflow.runner.cluster.executor.values import (
    MissingInput,
    Slot,
    bind,
    bound_value,
    decode_arguments,
    dumps,
    encode_result,
    is_small,
)
from daskflow.runner.cluster.protocol import (
    BOUND_ERROR,
    BOUND_INPUT,
    BOUND_INPUT_BYTES,
    BOUND_LIVE,
    BOUND_LOCAL,
    BOUND_NOTHING,
    BOUND_PICKLED,
    BOUND_PLAIN,
    INLINE_LIMIT,
)

plain = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(),
    st.binary(),
    st.just(b"__main__"),
)
values = st.recursive(
    plain,
    lambda inner: st.one_of(
        st.lists(inner), st.tuples(inner, inner), st.dictionaries(st.text(), inner)
    ),
    max_leaves=20,
)


class _Ref:
    """Pickles as the input of a slot, as futures do."""

    def __init__(self, slot: int) -> None:
        self.slot = slot

    def __reduce__(self) -> Any:
        return bound_value, (self.slot,)


@given(values)
def test_a_result_arrives_as_it_was_returned(value: Any) -> None:
    tag, sent, size = encode_result(value, live=False)
    assert tag in (BOUND_PLAIN, BOUND_PICKLED)
    (back,) = bind([(tag, sent)], (), {})
    assert back == value
    assert type(back) is type(value)
    assert size is None or 0 < size <= INLINE_LIMIT


@given(values)
def test_what_stays_in_the_process_is_the_same_object(value: Any) -> None:
    tag, sent, _ = encode_result(value, live=True)
    assert tag in (BOUND_PLAIN, BOUND_LIVE)
    assert sent is value


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("x" * (INLINE_LIMIT + 1), id="text"),
        pytest.param(b"x" * (INLINE_LIMIT + 1), id="bytes"),
        pytest.param(1 << (8 * INLINE_LIMIT + 8), id="number"),
        pytest.param(list(range(20_000)), id="list"),
        pytest.param([lambda: 1] * 20_000, id="lambdas"),
    ],
)
def test_a_large_result_stays_on_its_worker(value: Any) -> None:
    tag, sent, size = encode_result(value, live=False)
    assert tag == BOUND_INPUT
    assert sent is value
    assert size is not None
    assert size > INLINE_LIMIT
    assert not is_small(value)


def test_a_result_that_looks_small_and_pickles_large_stays_on_its_worker() -> None:
    class Holder:
        def __init__(self) -> None:
            self.data = "x" * (2 * INLINE_LIMIT)

    value = Holder()
    assert encode_result(value, live=False)[:2] == (BOUND_INPUT, value)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(threading.Lock(), id="small"),
        pytest.param([threading.Lock() for _ in range(2_000)], id="large"),
        pytest.param((n for n in [1]), id="generator"),
    ],
)
def test_a_result_that_cannot_be_pickled_is_noticed_here(value: Any) -> None:
    with pytest.raises(TypeError, match="cannot pickle"):
        encode_result(value, live=False)


def test_arrays_are_not_pickled_to_find_out_whether_they_could_be() -> None:
    numpy = pytest.importorskip("numpy")

    class Array(numpy.ndarray):  # type: ignore[misc, name-defined]
        def __reduce_ex__(self, protocol: Any) -> Any:
            raise AssertionError("pickled")

    Array.__module__ = "numpy"
    assert encode_result(numpy.zeros(10_000).view(Array), live=False)[0] == BOUND_INPUT
    with pytest.raises(TypeError, match="cannot pickle"):
        encode_result(numpy.array([threading.Lock()] * 10_000, dtype=object), live=False)


class _Sizeless:
    def __sizeof__(self) -> int:
        raise OSError("no size today")


def test_a_value_whose_size_cannot_be_told_is_pickled_all_the_same() -> None:
    tag, sent, _ = encode_result(_Sizeless(), live=False)
    assert tag == BOUND_PICKLED
    assert type(pickle.loads(sent)) is _Sizeless


def test_a_list_that_contains_itself_arrives() -> None:
    value: list[Any] = [1]
    value.append(value)
    tag, sent, _ = encode_result(value, live=False)
    (back,) = bind([(tag, sent)], (), {})
    assert back[0] == 1
    assert back[1] is back


def test_a_value_nested_too_deeply_to_pickle_is_an_error_and_no_crash() -> None:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises((RecursionError, pickle.PicklingError)):
        encode_result(value, live=False)
    while value:  # taken apart in turn: freeing it at once would recurse
        value = value[0]


def test_what_only_cloudpickle_takes_goes_by_value() -> None:
    base = 40
    assert pickle.loads(dumps(lambda x: x + base))(2) == 42

    class Local:
        pass

    assert type(pickle.loads(dumps(Local()))).__name__ == "Local"


def test_objects_of_the_main_script_do_not_need_it_where_they_are_loaded() -> None:
    main = sys.modules["__main__"]
    kind = type("OfTheScript", (), {"__module__": "__main__"})
    main.OfTheScript = kind  # type: ignore[attr-defined]
    try:
        blob = dumps(kind())
    finally:
        del main.OfTheScript  # type: ignore[attr-defined]
    assert type(pickle.loads(blob)).__name__ == "OfTheScript"


def test_every_kind_of_input_is_bound() -> None:
    local = {5: (BOUND_PLAIN, "local"), 6: (BOUND_LIVE, [6])}
    bindings = [
        (BOUND_PLAIN, 1),
        (BOUND_PICKLED, pickle.dumps([2])),
        (BOUND_INPUT, 1),
        (BOUND_INPUT_BYTES, 0),
        (BOUND_LOCAL, 5),
        (BOUND_LOCAL, 6),
        (BOUND_NOTHING, None),
    ]
    inputs = [pickle.dumps("sent"), "moved"]
    assert bind(bindings, inputs, local) == [1, [2], "moved", "sent", "local", [6], None]
    (error,) = bind([(BOUND_ERROR, pickle.dumps(KeyError("gone")))], (), {})
    assert isinstance(error, KeyError)


def test_an_input_that_did_not_end_well_in_this_parcel_is_missing() -> None:
    with pytest.raises(MissingInput):
        bind([(BOUND_PLAIN, 1), (BOUND_LOCAL, 3)], (), {})


def test_inputs_take_their_places_inside_pickled_arguments() -> None:
    payload = pickle.dumps((([{"deep": (_Ref(1),)}], _Ref(0)), {"again": _Ref(1)}))
    args, kwargs = decode_arguments(payload, ["zero", "one"])
    assert args == ([{"deep": ("one",)}], "zero")
    assert kwargs == {"again": "one"}


def test_arguments_that_unpickle_arguments_do_not_mix_up_their_inputs() -> None:
    class Nested:
        def __reduce__(self) -> Any:
            inner = pickle.dumps(((_Ref(0),), {}))
            return decode_arguments, (inner, ["inner"])

    payload = pickle.dumps(((Nested(), _Ref(0)), {}))
    args, _ = decode_arguments(payload, ["outer"])
    assert args == ((("inner",), {}), "outer")


@pytest.mark.parametrize("depth", [0, 1, MAX_DEPTH])
def test_inputs_take_their_places_inside_live_arguments(depth: int) -> None:
    """As deep as the flow process looks for futures in an argument, and no less."""
    value: Any = Slot(0)
    for _ in range(depth):
        value = [value]
    args, kwargs = decode_arguments(((value,), {"k": value}), ["here"])
    for found in (args[0], kwargs["k"]):
        for _ in range(depth):
            (found,) = found
        assert found == "here"
