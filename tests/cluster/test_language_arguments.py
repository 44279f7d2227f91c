"""What a task gets: futures at any depth, constants, failures that are allowed, large values."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict, defaultdict
from typing import Any, NamedTuple

import pydantic
import pytest

from daskflow import allow_failure, flow, quote, task, unmapped
from daskflow.errors import UpstreamFailed, UsageError

ELSEWHERE = pytest.mark.parametrize("where", ["processes", "external"], indirect=True)


class Pair(NamedTuple):
    left: Any
    right: Any


@dataclasses.dataclass(frozen=True)
class Box:
    content: Any
    label: str = "box"


class Model(pydantic.BaseModel):
    content: Any


class Tree:
    """Knows its parent, so that it contains itself."""

    def __init__(self, child: Any) -> None:
        self.child, self.parent = child, self


@task
def inc(x):
    return x + 1


@task
def echo(*args, **kwargs):
    return args[0] if args and not kwargs else (args, kwargs)


@task
def fail(text="no"):
    raise ValueError(text)


@task
def kinds(*values):
    return [type(value).__name__ for value in values]


def test_futures_are_found_in_every_container_and_inside_each_other(where):
    shapes = {
        "alone": lambda a, b: a,
        "list": lambda a, b: [a, b, 0],
        "tuple": lambda a, b: (a, b),
        "namedtuple": lambda a, b: Pair(a, b),
        "set": lambda a, b: {a, b},
        "frozenset": lambda a, b: frozenset({a, b}),
        "dict value": lambda a, b: {"a": a, "b": b},
        "dict key": lambda a, b: {a: "a"},
        "ordered": lambda a, b: OrderedDict(x=a),
        "defaultdict": lambda a, b: defaultdict(list, x=a),
        "dataclass": lambda a, b: Box(a),
        "pydantic": lambda a, b: Model(content=b),
        "each other": lambda a, b: [{"k": Box((a, Model(content={"deep": Pair([b], a)})))}],
        "same twice": lambda a, b: [a, a, (a,)],
    }

    @flow(task_runner=where)
    def nest():
        a, b = inc.submit(0), inc.submit(1)
        futures = {name: echo.submit(shape(a, b)) for name, shape in shapes.items()}
        named = echo.submit(1, key=[a])
        return {name: future.result() for name, future in futures.items()}, named.result()

    results, named = nest()

    assert results == {name: shape(1, 2) for name, shape in shapes.items()}
    assert {name: type(value) for name, value in results.items()} == {
        name: type(shape(1, 2)) for name, shape in shapes.items()
    }
    assert named == ((1,), {"key": [1]})


def test_the_callers_containers_stay_as_they_are(where):
    @flow(task_runner=where)
    def keep():
        future = inc.submit(0)
        given = {"list": [future], "box": Box(future)}
        assert echo.submit(given).result() == {"list": [1], "box": Box(1)}
        return given["list"][0] is future and given["box"].content is future

    assert keep()


def test_an_argument_that_contains_itself_is_handed_on(where):
    loop: list[Any] = [1]
    loop.append(loop)

    @flow(task_runner=where)
    def cyclic():
        return echo.submit(loop).result(), echo.submit(Tree(1)).result()

    same, tree = cyclic()
    assert same[1] is same or same[1][1] is same[1]
    assert tree.parent is tree


def test_map_takes_lists_constants_texts_and_futures(where):
    @flow(task_runner=where)
    def mapped():
        numbers = echo.submit([1, 2])
        maps = {
            "lists": echo.map([1, 2], b=(3, 4)),
            "constant": echo.map([1, 2], b=9),
            "text": echo.map([1, 2], b="ab"),
            "bytes": echo.map([1, 2], b=b"ab"),
            "unmapped": echo.map([1, 2], b=unmapped([7, 8])),
            "unmapped future": echo.map([1, 2], b=unmapped(numbers)),
            "future": echo.map(numbers),
            "futures": echo.map([inc.submit(1), 5]),
            "dict": echo.map({"k": 1, "m": 2}),
            "generator": echo.map(x * 10 for x in range(2)),
            "range": echo.map(range(2)),
            "quote": echo.map(quote([[1], [2]])),
            "empty": echo.map([]),
            "nested": echo.map([[1, 2], [inc.submit(1)]]),
        }
        return {name: futures.result() for name, futures in maps.items()}

    assert mapped() == {
        "lists": [((1,), {"b": 3}), ((2,), {"b": 4})],
        "constant": [((1,), {"b": 9}), ((2,), {"b": 9})],
        "text": [((1,), {"b": "ab"}), ((2,), {"b": "ab"})],
        "bytes": [((1,), {"b": b"ab"}), ((2,), {"b": b"ab"})],
        "unmapped": [((1,), {"b": [7, 8]}), ((2,), {"b": [7, 8]})],
        "unmapped future": [((1,), {"b": [1, 2]}), ((2,), {"b": [1, 2]})],
        "future": [1, 2],
        "futures": [2, 5],
        "dict": ["k", "m"],
        "generator": [0, 10],
        "range": [0, 1],
        "quote": [[1], [2]],
        "empty": [],
        "nested": [[1, 2], [2]],
    }


def test_map_refuses_what_does_not_fit():
    @flow(task_runner="sync")
    def uneven():
        echo.map([1, 2], b=[1, 2, 3], c=5)

    @flow(task_runner="sync")
    def nothing():
        echo.map("text", b=unmapped([1]))

    with pytest.raises(UsageError, match=r"argument 0 has 2, argument 'b' has 3; make them equal"):
        uneven()
    with pytest.raises(UsageError, match=r"echo\.map\(\) got nothing to iterate over"):
        nothing()


def test_a_failed_input_stops_its_dependents_unless_it_is_allowed(where):
    @flow(task_runner=where)
    def allowing():
        bad, good = fail.submit("first cause"), inc.submit(1)
        stopped = inc.submit(inc.submit([bad]))
        got = {
            "single": kinds.submit(allow_failure(bad), good).result(),
            "inside": kinds.submit(*[allow_failure(bad)]).result(),
            "list": echo.submit(allow_failure([good, bad])).result(),
            "map": kinds.map(allow_failure([bad, good])).result(),
            "unmapped": kinds.map([1, 2], unmapped(allow_failure(bad))).result(),
            "order only": echo.submit(5, wait_for=[allow_failure(bad)]).result(),
        }
        state = stopped.wait() or stopped.state
        with pytest.raises(UpstreamFailed) as caught:
            stopped.result()
        waiting = echo.submit(5, wait_for=[bad])
        waiting.wait()
        return got, [state.name, waiting.state.name], state.message, caught.value

    got, states, message, error = allowing()
    assert got.pop("list")[0] == 2
    assert got == {
        "single": ["ValueError", "int"],
        "inside": ["ValueError"],
        "map": [["ValueError"], ["int"]],
        "unmapped": [["int", "ValueError"]] * 2,
        "order only": 5,
    }
    assert states == ["NotReady", "NotReady"]
    assert message == "fail-0 ended Failed: ValueError: first cause"
    assert "fail-0 ended Failed: ValueError: first cause" in str(error)


def test_wait_for_only_orders(where, tmp_path):
    trace = tmp_path / "trace"

    @task
    def note(text, *_):
        with trace.open("a") as file:
            file.write(text)

    @flow(task_runner=where)
    def ordered():
        first = note.map(["a", "b"])
        second = note.submit("c", wait_for=[first])
        third = note.submit("d", wait_for=second if isinstance(second, list) else [second])
        third.result()

    ordered()
    assert trace.read_text() in ("abcd", "bacd")


def test_wait_for_takes_futures_only():
    @flow(task_runner="sync")
    def wrong():
        echo.submit(1, wait_for=[7])

    with pytest.raises(UsageError, match="wait_for takes futures, not 7"):
        wrong()


@pytest.mark.parametrize("where", ["threads", "sync"], indirect=True)
def test_quote_hands_a_future_over_as_it_is(where):
    @flow(task_runner=where)
    def quoting():
        future = inc.submit(1)
        return kinds.submit(quote(future), quote([future])).result()

    assert quoting() == ["TaskFuture", "list"]


def test_a_quoted_future_cannot_leave_the_process(cluster):
    @flow(task_runner=cluster)
    def quoting():
        echo.submit(quote([inc.submit(1)]))

    with pytest.raises(UsageError, match="a future cannot be pickled"):
        quoting()
