"""Pace: so many runs at a time, in their order, each handed on once."""

from __future__ import annotations

import pytest

from daskflow.runner.core.graph import Run, Scope, Stage
from daskflow.runner.core.retries import RetryPolicy
from daskflow.runner.pace import Pace


def runs(count):
    stage = Stage(Scope("flow"), "task", RetryPolicy())
    return [Run(stage, number, None, (), 0.0) for number in range(count)]


def end(run):
    for callback in run.callbacks:
        callback(run)


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_the_end_of_a_run_hands_on_the_next_one(limit):
    handed_on, given = [], runs(5)
    pace = Pace(limit, handed_on.append)
    for run in given:
        pace.submit(run)
    for ended in range(5):
        assert handed_on == given[: ended + limit]
        assert pace.last_held is (given[-1] if ended + limit < 5 else None)
        end(given[ended])
    assert handed_on == given


def test_runs_that_end_while_they_are_handed_on_hold_nobody_up():
    ended = []

    def execute(run):
        ended.append(run)
        end(run)

    pace = Pace(1, execute)
    for run in (given := runs(3)):
        pace.submit(run)
    assert ended == given


def test_dropping_hands_on_everything_once():
    handed_on, given = [], runs(4)
    pace = Pace(1, handed_on.append)
    for run in given:
        pace.submit(run)
    pace.drop()
    for run in given:
        end(run)
    assert handed_on == given
