"""Errors: drawn as they are defined, and they travel between processes with all they carry."""

from __future__ import annotations

import inspect
import pickle
import re

import cloudpickle
import pytest

from daskflow import errors

EVERY = [getattr(errors, name) for name in errors.__all__]


def example(error: type[errors.DaskflowError]) -> errors.DaskflowError:
    if issubclass(error, errors.FlowFailed):
        return error("ab" * 16, "2 task runs failed: clean-3, clean-7", ["ab-3", "ab-7"])
    if issubclass(error, (errors.TaskError, errors.FlowCancelled)):
        return error("ab-3", "clean-3 was lost with its worker 4 times")
    return error("something happened with 'x', do y")


@pytest.mark.parametrize("error", EVERY)
@pytest.mark.parametrize("dumps", [pickle.dumps, cloudpickle.dumps], ids=["pickle", "cloudpickle"])
def test_an_error_travels_with_its_type_its_words_and_its_data(error, dumps):
    sent = example(error)
    got = pickle.loads(dumps(sent))
    assert type(got) is error
    assert (str(got), vars(got)) == (str(sent), vars(sent))


def test_a_subclass_defined_elsewhere_is_held_to_the_same_promise():
    known = {error.__name__ for error in EVERY}
    pending, found = [errors.DaskflowError], set()
    while pending:
        for sub in (children := pending.pop().__subclasses__()):
            if sub.__module__.startswith("daskflow."):
                found.add(sub.__name__)
        pending.extend(children)
    assert found <= known, "errors that users may meet live in daskflow/errors.py"


def test_the_tree_in_the_docstring_is_the_tree_of_classes():
    drawn: dict[str, str] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if match := re.match(r"    ((?:[│ ]   |├── |└── )*)([A-Z]\w+)(?:  |$)", line):
            depth = len(match[1]) // 4
            del above[depth:]
            if above:
                drawn[match[2]] = above[-1]
            above.append(match[2])
    assert drawn == {
        e.__name__: e.__base__.__name__ for e in EVERY if e is not errors.DaskflowError
    }


def test_every_public_error_class_is_exported():
    defined = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, Exception)
    }
    assert defined == set(errors.__all__)


def test_a_task_error_says_which_run_it_is_about():
    assert str(errors.TaskFailed("ab-3", "it raised")) == "it raised (task run ab-3)"
    assert str(errors.FlowFailed("ab", "1 task run failed")) == "1 task run failed (flow run ab)"
