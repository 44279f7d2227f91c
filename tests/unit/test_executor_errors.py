"""Exceptions between worker and flow process: whatever user code does, one arrives."""

from __future__ import annotations

import pickle
import sys
import traceback
from typing import Any

import cloudpickle
import pytest

from daskflow.errors import TaskFailed
from daskflow.runner.cluster.executor.errors import (
    RemoteTraceback,
    annotate,
    load_error,
    pickle_error,
)


class Custom(Exception):
    pass


class TwoArguments(Exception):
    """What plain pickling cannot load: `args` holds one argument, `__init__` wants two."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code


class OwnFileError(FileNotFoundError):
    def __init__(self, path: str) -> None:
        super().__init__(2, "gone", path)


class OwnReduce(Exception):
    def __init__(self, code: int) -> None:
        super().__init__("reduced", code)
        self.code = code

    def __reduce__(self) -> Any:
        return OwnReduce, (self.code,)


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class ExitsWhenPrinted(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


class ExitsWhenPickled(Exception):
    def __reduce__(self) -> Any:
        raise SystemExit(3)


class BecomesText(Exception):
    def __reduce__(self) -> Any:
        return str, ("not an exception",)


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def travelled(error: BaseException) -> BaseException:
    return load_error(pickle_error(raised(error), "flow-1"), "flow-1")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("wrong", 3),
        Custom("of a module"),
        KeyboardInterrupt(),
        SystemExit(4),
        ExceptionGroup("several", [ValueError("a"), Custom("b")]),
        BaseExceptionGroup("several", [KeyboardInterrupt(), ValueError("a")]),
        ExceptionGroup("several", [TwoArguments(1, "inner")]),
        TwoArguments(7, "text"),
        OwnFileError("/there"),
        OwnReduce(7),
        UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_exception_arrives_as_it_was_raised(error: BaseException) -> None:
    back = travelled(error)
    assert type(back) is type(error)
    assert repr(back.args) == repr(error.args)
    assert str(back) == str(error)
    assert vars(back) == vars(error)


def test_dask_in_the_process_changes_nothing() -> None:
    """distributed registers reducers for all exceptions that are there when it is imported."""
    import distributed.utils

    assert distributed.utils.tblib
    test_an_exception_arrives_as_it_was_raised(
        BaseExceptionGroup("several", [KeyboardInterrupt(), ValueError("a")])
    )
    error = ValueError("travels")
    error.__cause__ = Custom(sys._getframe())
    assert type(travelled(error)) is ValueError


def test_its_traceback_and_notes_come_along() -> None:
    error = ValueError("wrong")
    error.add_note("and a note")
    back = travelled(error)
    cause = back.__cause__
    assert isinstance(cause, RemoteTraceback)
    assert "in raised" in str(cause)
    assert "and a note" in str(cause)
    assert back.__notes__ == ["and a note"]
    assert "in raised" in "".join(traceback.format_exception(back))


def test_the_cause_of_an_exception_is_in_its_text() -> None:
    error = ValueError("wrong")
    error.__cause__ = raised(Custom("the reason"))
    assert "the reason" in str(travelled(error).__cause__)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (ExitsWhenPickled("text"), "ExitsWhenPickled: text"),
        (BecomesText("text"), "BecomesText: text"),
        (Custom(sys._getframe()), "Custom: <frame"),
        (Custom("x" * 3_000_000), "characters left out"),
        (ExceptionGroup("several", [Custom(sys._getframe())]), "several"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_one_that_cannot_travel_is_told(error: BaseException, says: str) -> None:
    blob = pickle_error(raised(error), "flow-1")
    assert len(blob) < 1_500_000
    back = load_error(blob, "flow-1")
    assert isinstance(back, TaskFailed)
    assert back.task_run_id == "flow-1"
    assert says in str(back)
    assert "in raised" in str(back.__cause__)


@pytest.mark.parametrize(
    "error", [Unprintable(), ExitsWhenPrinted()], ids=lambda e: type(e).__name__
)
def test_one_that_cannot_be_printed_arrives(error: BaseException) -> None:
    back = travelled(error)
    assert type(back) is type(error)
    assert type(error).__name__ in str(back.__cause__)


def test_a_recursion_error_deep_in_user_code_arrives() -> None:
    def deeper() -> None:
        deeper()

    try:
        deeper()
    except RecursionError as error:
        back = load_error(pickle_error(error, "flow-1"), "flow-1")
    assert isinstance(back, RecursionError)
    assert "deeper" in str(back.__cause__)


def test_one_whose_class_is_not_here_is_told_with_its_last_line() -> None:
    module = type(sys)("only_on_the_worker")
    kind = type("Missing", (Exception,), {"__module__": module.__name__})
    module.Missing = kind  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    try:
        blob = pickle_error(raised(kind("text")), "flow-1")
    finally:
        del sys.modules[module.__name__]
    back = load_error(blob, "flow-1")
    assert isinstance(back, TaskFailed)
    assert "only_on_the_worker.Missing: text" in str(back)
    assert "ModuleNotFoundError" in str(back)


def test_one_that_loads_as_something_else_is_told() -> None:
    blob = pickle.dumps((cloudpickle.dumps("text"), "Traceback\nCustom: text\n"))
    back = load_error(blob, "flow-1")
    assert isinstance(back, TaskFailed)
    assert "Custom: text" in str(back)


def test_a_class_that_takes_no_notes_is_left_alone() -> None:
    class Stubborn(Exception):
        def add_note(self, note: str) -> None:
            raise RuntimeError("no notes")

    annotate(Stubborn(), "note")
    error = ValueError()
    annotate(error, "note")
    annotate(error, "note")
    assert error.__notes__ == ["note"]
