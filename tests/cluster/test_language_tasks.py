"""What can be a task, and how graphs grow by plain Python: if, for, while, recursion."""

from __future__ import annotations

import functools
import sys
import types
from typing import Any

import pytest

from daskflow import flow, task, unmapped
from daskflow.errors import UsageError

BASE = 100


class Shop:
    """Tasks that are methods of every kind."""

    rate = 2

    def __init__(self, stock: int) -> None:
        self.stock = stock

    @task
    def price(self, x, extra=0):
        return self.stock + x * self.rate + extra

    @task
    @staticmethod
    def under_static(x):
        return x + 1

    @staticmethod
    @task
    def over_static(x):
        return x + 2

    @task
    @classmethod
    def under_class(cls, x):
        return cls.rate * x

    @task
    async def later(self, x):
        return self.stock + x


class Cheap(Shop):
    rate = 1


class Adder:
    """An object that can be called."""

    def __init__(self, n: int) -> None:
        self.n, self.submit, self.options = n, "not the task's", "nor these"

    def __call__(self, x):
        return self.n + x


class AsyncAdder(Adder):
    async def __call__(self, x):
        return self.n + x


def plain(x, y=0):
    return BASE + x + y


@task
def inc(x):
    return x + 1


@task
def factorial(n, so_far=1):
    return so_far if n < 2 else factorial(n - 1, so_far * n)


def test_anything_that_can_be_called_can_be_a_task(where):
    offset = 7

    @task
    def nested(x):
        def deeper(y):
            return y + offset

        return deeper(x)

    @task
    def keywords(a, /, b, *rest, c=3, **more):
        return (a, b, rest, c, more)

    kinds = {
        "plain": task(plain),
        "nested": nested,
        "lambda": task(lambda x: x * offset),
        "partial": task(functools.partial(plain, y=5)),
        "partial of a lambda": task(functools.partial(lambda x, y: x * y + offset, 2)),
        "object": task(Adder(3)),
        "async object": task(AsyncAdder(4)),
        "builtin": task(abs),
        "a C function": task(int.bit_length),
        "bound method": task(Shop(1).price.fn.__get__(Shop(1))),
    }

    @flow(task_runner=where)
    def every_kind():
        results = {name: each.submit(2).result() for name, each in kinds.items()}
        results["keywords"] = keywords.submit(1, 2, 3, 4, d=5).result()
        results["recursion in a task"] = factorial.submit(5).result()
        results["another task in a task"] = task(lambda x: inc(inc(x))).submit(0).result()
        return results

    assert every_kind() == {
        "plain": 102,
        "nested": 9,
        "lambda": 14,
        "partial": 107,
        "partial of a lambda": 11,
        "object": 5,
        "async object": 6,
        "builtin": 2,
        "a C function": 2,
        "bound method": 5,
        "keywords": (1, 2, (3, 4), 3, {"d": 5}),
        "recursion in a task": 120,
        "another task in a task": 2,
    }


def test_methods_get_their_instance_or_class(where):
    @flow(task_runner=where)
    def methods():
        shop = Shop(10)
        return {
            "instance": shop.price.submit(1).result(),
            "keywords": shop.price.submit(1, extra=5).result(),
            "options": shop.price.with_options(name="dear").submit(1).result(),
            "map": shop.price.map([1, 2]).result(),
            "direct": shop.price(1),
            "async": shop.later.submit(1).result(),
            "static": [Shop.under_static.submit(1).result(), shop.over_static.submit(1).result()],
            "static direct": [shop.under_static(1), Shop.over_static(1)],
            "class": [Shop.under_class.submit(3).result(), Cheap(0).under_class.submit(3).result()],
            "class direct": [Shop.under_class(3), Cheap.under_class(3)],
        }

    assert methods() == {
        "instance": 12,
        "keywords": 17,
        "options": 12,
        "map": [12, 14],
        "direct": 12,
        "async": 11,
        "static": [2, 3],
        "static direct": [2, 3],
        "class": [6, 3],
        "class direct": [6, 3],
    }


@pytest.mark.parametrize("known", [True, False], ids=["registered", "unknown"])
@pytest.mark.parametrize("where", ["processes", "external"], indirect=True)
def test_functions_of_a_module_made_at_run_time_travel_with_their_globals(where, known):
    module = types.ModuleType("made_at_run_time")
    exec(
        "FACTOR = 3\ndef helper(x): return x * FACTOR\ndef body(x): return helper(x)", vars(module)
    )
    if known:
        sys.modules[module.__name__] = module
    try:

        @flow(task_runner=where)
        def notebook():
            return task(vars(module)["body"]).submit(2).result()

        assert notebook() == 6
    finally:
        sys.modules.pop(module.__name__, None)


@pytest.mark.parametrize("importable", [True, False], ids=["importable", "unknown-there"])
def test_modules_beside_the_script_travel_with_functions_arguments_and_results(
    tmp_path, monkeypatch, external_folder, external_address, importable
):
    folder = external_folder if importable else tmp_path  # that one is the workers' own
    (folder / "beside.py").write_text(
        "class Thing:\n    n = 4\nclass Own(Exception): pass\ndef helper(x): return Thing.n * x"
    )
    (folder / "my_tasks.py").write_text(
        "import beside\nfrom beside import helper\n"
        "def body(x): return helper(x) + beside.helper(1)\n"
        "def make(x): thing = beside.Thing(); thing.n = x; return thing\n"
        "def check(thing, *_): return isinstance(thing, beside.Thing)\n"
        "def fail(): raise beside.Own(3)"
    )
    monkeypatch.syspath_prepend(folder)
    import beside  # written above
    import my_tasks

    @flow(task_runner=external_address)
    def script():
        check = task(my_tasks.check)
        return {
            "body": task(my_tasks.body).submit(2).result(),
            "result": task(my_tasks.make).submit(5).result(),
            "argument": check.submit(beside.Thing()).result(),
            "own result": check.submit(task(my_tasks.make).submit(5)).result(),
            "constant": task(my_tasks.check).map(unmapped(beside.Thing()), [1]).result(),
            "error": task(my_tasks.fail).submit().result(raise_on_failure=False),
        }

    try:
        told = script()
    finally:
        for name in ("my_tasks", "beside"):
            sys.modules.pop(name)
    thing, error = told.pop("result"), told.pop("error")
    assert (type(thing), thing.n) == (beside.Thing, 5)
    assert (type(error), error.args) == (beside.Own, (3,))
    assert told == {"body": 12, "argument": True, "own result": True, "constant": [True]}


def test_a_graph_grows_as_the_flow_goes(where):
    @flow(task_runner=where)
    def collatz(n: int):
        steps, value = 0, inc.submit(n - 1)
        while value.result() != 1:
            if value.result() % 2:
                value = task(lambda x: 3 * x + 1).submit(value)
            else:
                value = task(lambda x: x // 2).submit(value)
            steps += 1
        return steps

    @flow(task_runner=where)
    def tree(depth: int):
        def grow(depth: int) -> Any:
            if depth == 0:
                return inc.submit(0)
            return task(sum).submit([grow(depth - 1), grow(depth - 1)])

        future = inc.submit(grow(4))
        for _ in range(30):
            future = inc.submit(future)
        return future

    assert collatz(6) == 8
    assert tree(4) == 47


def test_names_count_per_task_name(where):
    @flow(task_runner=where)
    def names():
        futures = [inc.submit(1), inc.with_options(retries=1).submit(1), inc.submit(1)]
        named = inc.with_options(name="other", task_run_name="x-{x}").submit(5)
        called = inc.with_options(task_run_name=lambda parameters: f"p{parameters['x']}").submit(6)
        return [future.name for future in futures], named.name, called.name

    assert names() == (["inc-0", "inc-1", "inc-2"], "x-5", "p6")


def test_a_direct_call_runs_here_and_returns_the_value(where):
    seen: list[int] = []

    @task(retries=2)
    def flaky(x):
        seen.append(x)
        if len(seen) < 3:
            raise ValueError("not yet")
        return x

    @flow(task_runner=where)
    def calls():
        big = task(lambda: b"x" * 100_000).submit()
        state = inc("text", return_state=True)
        with pytest.raises(TypeError):
            inc("text")
        return flaky(inc(inc.submit(1))), task(len)(big), state.name, inc(1, return_state=True)

    value, length, failed, state = calls()
    assert (value, length, failed) == (3, 100_000, "Failed")
    assert (state.name, state.result()) == ("Completed", 2)
    assert seen == [3, 3, 3]


def test_a_task_runs_outside_of_a_flow_but_is_not_submitted_there():
    assert inc(1) == 2
    assert inc.fn(1) == 2
    for call in (inc.submit, inc.map):
        with pytest.raises(UsageError, match=r"inc\.\w+\(\) was called outside of a flow; call it"):
            call([1])
