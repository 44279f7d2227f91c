"""What goes wrong in a task arrives as the user wrote it, and never takes the worker along."""

from __future__ import annotations

import os
import sys
import threading
import traceback

import pytest

from daskflow import allow_failure, flow, task
from daskflow.errors import TaskCrashed, TaskFailed

ELSEWHERE = pytest.mark.parametrize("where", ["processes", "external"], indirect=True)


class Demanding(Exception):
    """Takes more than its message: the kind that breaks naive pickling."""

    def __init__(self, code, *, reason):
        super().__init__(f"{code}: {reason}")
        self.code, self.reason = code, reason


class Positional(Exception):
    def __init__(self, code, reason):
        super().__init__(code, reason)
        self.code, self.reason = code, reason


class Holding(Exception):
    """Holds what cannot be pickled."""

    def __init__(self, text):
        super().__init__(text)
        self.lock = threading.Lock()


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("cannot be shown")


def fails_deep_inside():
    def inner():
        return {}["missing key"]

    return inner()


def chained():
    try:
        raise KeyError("first")
    except KeyError as error:
        raise Positional(7, "second") from error


def endless(n=0):
    return endless(n + 1)


@task
def pid(_=None):
    return os.getpid()


def outcome(where, body):
    """Run `body` as a task; its exception and its state."""

    @flow(task_runner=where)
    def one():
        future = task(body).submit()
        future.wait()
        return [future.result(raise_on_failure=False)], {"state": future.state}

    (error,), told = one()
    return error, told["state"]


def test_an_exception_arrives_as_it_was_raised(where):
    error, state = outcome(where, chained)
    assert type(error) is Positional
    assert (error.code, error.reason) == (7, "second")
    assert (state.name, state.message) == ("Failed", "Positional: (7, 'second')")
    assert state.is_failed()


def test_the_traceback_shows_the_users_lines_and_the_cause(where):
    error, _ = outcome(where, chained)
    shown = "".join(traceback.format_exception(error))
    assert "in chained" in shown
    assert "KeyError: 'first'" in shown
    assert 'raise Positional(7, "second") from error' in shown

    error, _ = outcome(where, fails_deep_inside)
    shown = "".join(traceback.format_exception(error))
    assert 'return {}["missing key"]' in shown
    assert "in fails_deep_inside" in shown


@ELSEWHERE
@pytest.mark.parametrize(
    ("make", "text"),
    [
        pytest.param(lambda: Demanding(3, reason="why"), "Demanding: 3: why", id="keyword-init"),
        pytest.param(lambda: Holding("locked"), "Holding: locked", id="holds-a-lock"),
        pytest.param(Mute, "Mute", id="cannot-be-shown"),
    ],
)
def test_an_exception_that_cannot_travel_is_replaced_by_one_that_tells(where, make, text):
    def body():
        raise make()

    error, state = outcome(where, body)
    assert isinstance(error, TaskFailed) or type(error).__name__ == text.partition(":")[0]
    assert text in "".join(traceback.format_exception(error))
    assert state.name == "Failed"


@pytest.mark.parametrize("where", ["threads", "sync"], indirect=True)
def test_in_one_process_any_exception_is_itself(where):
    def body():
        raise Demanding(3, reason="why")

    error, _ = outcome(where, body)
    assert isinstance(error, Demanding)
    assert error.reason == "why"


@ELSEWHERE
def test_a_result_that_cannot_travel_fails_and_says_so(where):
    error, state = outcome(where, threading.Lock)
    assert state.name == "Failed"
    shown = "".join(traceback.format_exception(error))
    assert "cannot be pickled, so it cannot leave its worker" in shown


def test_recursion_without_end_is_an_error_like_any_other(where):
    error, state = outcome(where, endless)
    assert isinstance(error, RecursionError)
    assert state.name == "Failed"


@pytest.mark.parametrize("where", ["processes", "threads", "external"], indirect=True)
@pytest.mark.parametrize(
    ("body", "text"),
    [
        pytest.param(lambda: sys.exit(3), "SystemExit: 3", id="exit"),
        pytest.param(lambda: sys.exit(), "SystemExit", id="exit-without-code"),
        pytest.param(
            lambda: (_ for _ in ()).throw(KeyboardInterrupt()), "KeyboardInterrupt", id="interrupt"
        ),
    ],
)
def test_a_task_that_ends_its_process_crashes_and_the_worker_lives(where, body, text):
    @flow(task_runner=where)
    def lives():
        before = _pids()
        future = task(body, retries=5).submit()
        future.wait()
        return future.result(raise_on_failure=False), future.state, before, _pids()

    error, state, before, after = lives()
    assert isinstance(error, TaskCrashed)
    assert text in str(error)
    assert (state.name, state.message) == ("Crashed", text)
    assert after <= before


def _pids():
    """Of the workers that the flow has; enough runs to meet them all."""
    return set(pid.map([None] * 16).result())


def test_exit_under_sync_ends_the_flow():
    @flow(task_runner="sync")
    def exits():
        task(lambda: sys.exit(3)).submit()

    state = exits(return_state=True)
    assert (state.name, state.message) == ("Crashed", "SystemExit: 3")
    with pytest.raises(SystemExit):
        exits()


def test_not_ready_names_the_first_cause(where):
    @task
    def bad():
        raise ValueError("root")

    @task
    def use(*_):
        return 1

    @flow(task_runner=where)
    def chain():
        first = bad.submit()
        last = use.submit(use.submit(use.submit(first), 2))
        mixed = use.submit(allow_failure(last))
        last.wait()
        return last.state.name, last.state.message, mixed.result()

    assert chain() == ("NotReady", "bad-0 ended Failed: ValueError: root", 1)


def test_an_error_of_the_flow_body_is_its_own(where):
    @flow(task_runner=where)
    def broken():
        pid.submit()
        raise Positional(1, "mine")

    with pytest.raises(Positional, match="mine"):
        broken()
    state = broken(return_state=True)
    assert (state.name, state.message) == ("Failed", "Positional: (1, 'mine')")
    assert state.result(raise_on_failure=False).code == 1
