"""Functions that a process knows: unpickled once, not for ever, never kept for a dead flow."""

from __future__ import annotations

import gc
import pickle
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from daskflow.runner.cluster.executor import functions
from daskflow.runner.cluster.executor.functions import (
    function_of,
    imported_function,
    register_function,
)
from tests.unit.parcels import code_of, live_code

loads: list[str] = []


def body(x: Any) -> Any:
    return x


def make(name: str) -> Any:
    loads.append(name)
    return lambda: name


class Recipe:
    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self) -> Any:
        return make, (self.name,)


class Decorated:
    """A task object stands where the function was."""

    fn = staticmethod(body)


decorated = Decorated()


@pytest.fixture(autouse=True)
def _forget() -> None:
    functions._unpickled.clear()
    loads.clear()


def test_a_function_is_unpickled_once() -> None:
    code = code_of(pickle.dumps(Recipe("a")), "once")
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: function_of(code), range(32)))
    assert len(set(map(id, found))) == 1
    assert loads == ["a"]


def test_functions_unused_for_longest_are_forgotten_and_come_again() -> None:
    kept = code_of(pickle.dumps(Recipe("kept")), "kept")
    function_of(kept)
    for number in range(2 * functions._REMEMBERED):
        function_of(code_of(pickle.dumps(Recipe("other")), f"other-{number}"))
        function_of(kept)
    assert len(functions._unpickled) == functions._REMEMBERED
    assert loads.count("kept") == 1
    assert function_of(code_of(pickle.dumps(Recipe("other")), "other-0"))() == "other"


def test_a_function_of_this_process_is_not_kept_beyond_its_flow() -> None:
    def local() -> int:
        return 1

    register_function("digest-of-local", local)
    code = live_code(local)._replace(digest="digest-of-local", function=None)
    assert function_of(code) is local
    gone = weakref.ref(local)
    del local
    gc.collect()
    assert gone() is None


def test_a_callable_without_weak_references_is_known_too() -> None:
    class Slotted:
        __slots__ = ()

        def __call__(self) -> int:
            return 1

        def __bool__(self) -> bool:
            return False

    function = Slotted()
    register_function("digest-of-slotted", function)
    assert function_of(live_code(function)._replace(digest="digest-of-slotted")) is function
    known = live_code(function)._replace(digest="digest-of-slotted", function=None)
    assert function_of(known) is function
    del functions._live_always["digest-of-slotted"]


def test_a_function_in_the_order_itself_needs_no_registry() -> None:
    assert function_of(live_code(body)) is body


def test_a_function_that_fails_to_load_is_tried_again() -> None:
    code = code_of(b"not a pickle", "broken")
    for _ in range(2):
        with pytest.raises(pickle.UnpicklingError):
            function_of(code)


def test_loading_a_function_may_load_another_one() -> None:
    inner = code_of(pickle.dumps(Recipe("inner")), "inner")

    class Outer:
        def __reduce__(self) -> Any:
            return function_of, (inner,)

    code = code_of(pickle.dumps(Recipe("warm-up")), "warm-up")
    function_of(code)
    done = threading.Event()

    def load() -> None:
        import cloudpickle

        function_of(code_of(cloudpickle.dumps(Outer()), "outer"))
        done.set()

    threading.Thread(target=load, daemon=True).start()
    assert done.wait(10)


def test_by_name_means_the_function_under_the_task() -> None:
    assert imported_function(__name__, "body") is body
    assert imported_function(__name__, "decorated") is body
    assert imported_function(__name__, "Decorated.fn") is body
