"""A task run that fails leaves a line with its traceback in the record, and one on the terminal."""

from __future__ import annotations

import threading

import pytest

from daskflow import allow_failure, flow, task
from daskflow.config import get_settings
from daskflow.runner import outcomes
from daskflow.runner.progress import snapshot
from daskflow.runner.shell import DriverShell
from daskflow.runner.store import open_store


def error_lines():
    with open_store(get_settings().store.url) as store:
        run = store.find_flow_run("@last")
        return [(row.number, row.message) for row in store.logs(run.flow_run_id, level=40)]


def shown(caplog):
    """Error lines of task runs on the terminal: which run, and what."""
    found = [each for each in caplog.records if each.name == "daskflow.task_runs"]
    return [(each.daskflow_label, each.getMessage()) for each in found if each.levelno == 40]


@task
def doubtful(x):
    if x % 2:
        raise ValueError(f"no odd numbers, not {x}")
    return x


@task
def after(x):
    return x


@pytest.mark.parametrize("where", ["processes", "threads", "sync"], indirect=True)
def test_a_failed_run_is_told_with_its_traceback(where, caplog):
    @flow(task_runner=where)
    def odd():
        return after.submit(allow_failure(doubtful.map([0, 1, 2]))).wait()

    odd()
    [(number, message)] = error_lines()
    assert number == 1
    assert message.startswith("failed: ValueError: no odd numbers, not 1\nTraceback")
    assert 'raise ValueError(f"no odd numbers, not {x}")' in message
    assert "daskflow/runner" not in message  # the user's frames, not ours
    assert shown(caplog) == [("doubtful-1", "failed: ValueError: no odd numbers, not 1")]


def test_hundreds_of_failures_are_ten_lines_on_the_terminal_and_all_in_the_record(caplog):
    @flow(task_runner="threads")
    def many():
        return len(doubtful.map([1] * 200).failed)

    assert many() == 200
    assert len(error_lines()) == 200
    assert len(shown(caplog)) == 11
    label, text = shown(caplog)[-1]
    assert label == "doubtful"
    assert text.startswith("more of its runs fail; daskflow runs logs ")


def test_a_flow_does_not_end_before_its_last_failure_is_told(caplog, monkeypatch):
    settling, ended, told, ended_early = threading.Event(), threading.Event(), [], []
    traceback, shut = outcomes._traceback, outcomes.Journal.shut
    settle = DriverShell.wait_until_settled

    def slow_traceback(error):
        told.append(error)
        if len(told) == 20:
            assert settling.wait(30)
            ended_early.append(ended.wait(0.2))  # time enough for a flow that does not wait
        return traceback(error)

    monkeypatch.setattr(outcomes, "_traceback", slow_traceback)
    monkeypatch.setattr(outcomes.Journal, "shut", lambda *args: (shut(*args), ended.set()))
    monkeypatch.setattr(
        DriverShell, "wait_until_settled", lambda *args: (settling.set(), settle(*args))[1]
    )

    @flow(task_runner="threads")
    def many():
        return len(doubtful.map([1] * 20).failed)

    assert many() == 20
    assert ended_early == [False]
    assert ended.is_set()
    assert len(shown(caplog)) == 11


def test_what_a_failure_keeps_from_running_is_counted_apart():
    @flow(task_runner="sync")
    def half():
        after.map(doubtful.map([0, 1, 2, 3])).wait()

    half(return_state=True)
    figures = {row[0]: row[1:] for row in snapshot()}
    assert figures["doubtful"] == (4, 2, 2, 0, 0, 0, 0)
    assert figures["after"] == (4, 2, 0, 0, 0, 0, 2)
    assert len(error_lines()) == 2


def test_a_task_that_is_called_inside_a_task_leaves_its_error_to_the_caller(caplog):
    @task
    def careful():
        try:
            doubtful(1)
        except ValueError:
            return "caught"

    @flow(task_runner="threads")
    def calls():
        return careful.submit().result()

    assert calls() == "caught"
    assert error_lines() == []
    assert shown(caplog) == []
