"""Functions on their way to workers: by name where that works, else by value with what they use."""

from __future__ import annotations

import functools
import json
import os
import pickle
import subprocess
import sys
import threading
import types

import cloudpickle
import pytest

from daskflow import task
from daskflow.errors import UsageError
from daskflow.runner.code import function_bytes, source_digest, travelling_modules

_lock = threading.Lock()


def uses_a_lock(x):
    with _lock:
        return x


@task
def decorated(x):
    return uses_a_lock(x) + 1


def sent(function, *, same_machine=True):
    return function_bytes(function, task_name="t", same_machine=same_machine)[1]


def test_a_function_of_this_machine_goes_by_name_and_leaves_globals_alone():
    assert pickle.loads(sent(uses_a_lock)) is uses_a_lock
    assert pickle.loads(sent(decorated.fn)) is decorated.fn
    assert len(sent(uses_a_lock)) < 200


def test_an_installed_function_goes_by_name_to_other_machines_too():
    assert pickle.loads(sent(json.dumps, same_machine=False)) is json.dumps
    assert len(sent(json.dumps, same_machine=False)) < 200


def test_the_digest_is_the_same_for_the_same_function_only():
    def make(n):
        return lambda x: x + n

    one, two = make(1), make(2)
    digest = [function_bytes(f, task_name="t", same_machine=True)[0] for f in (one, one, two)]
    assert digest[0] == digest[1] != digest[2]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        pytest.param(lambda lock: lambda: lock, "uses 'lock', and a lock", id="closure"),
        pytest.param(
            lambda lock: functools.partial(max, lock), "uses argument 0, and a lock", id="partial"
        ),
        pytest.param(
            lambda lock: functools.partial(max, key=lock), "uses argument 'key'", id="keyword"
        ),
    ],
)
def test_what_cannot_be_pickled_is_named(make, text):
    with pytest.raises(UsageError) as caught:
        sent(make(threading.Lock()))
    assert text in str(caught.value)
    assert "create it inside the task, pass plain data" in str(caught.value)


def test_an_attribute_of_a_callable_object_is_named():
    class Holder:
        def __init__(self):
            self.guard = threading.Lock()

        def __call__(self):
            return 1

    with pytest.raises(UsageError, match="uses its attribute 'guard'"):
        sent(Holder())


def test_a_module_made_at_run_time_travels_along(monkeypatch):
    module = types.ModuleType("made_up")
    exec("N = 5\ndef body(): return N", vars(module))
    monkeypatch.setitem(sys.modules, "made_up", module)
    blob = sent(vars(module)["body"])
    program = "import sys, pickle; print(pickle.loads(sys.stdin.buffer.read())())"
    done = subprocess.run([sys.executable, "-c", program], input=blob, capture_output=True)
    assert done.stdout.strip() == b"5", done.stderr
    assert module not in cloudpickle.list_registry_pickle_by_value()


def test_looking_for_modules_that_travel_asks_the_file_system_once(monkeypatch):
    def outside(x):
        return x

    found = travelling_modules(outside, same_machine=False)
    looked: list[str] = []
    lstat = os.lstat
    monkeypatch.setattr(os, "lstat", lambda path: looked.append(path) or lstat(path))
    assert travelling_modules(outside, same_machine=False) == found
    assert sys.modules[__name__] in found
    assert len(looked) < len(sys.modules) / 2  # the paths of a module's file have 5 to 10 parts


def test_source_digests_follow_the_source():
    def one():
        return 1

    def two():
        return 2

    made = eval("lambda: 1"), eval("lambda: 2")
    assert source_digest(one) == source_digest(one) != source_digest(two)
    assert source_digest(made[0]) != source_digest(made[1])
    assert source_digest(functools.partial(one)) == source_digest(one)
    assert source_digest(abs) is None
