"""Tags: of the task, of the flow run, and of the `with tags(...)` around a submission."""

from __future__ import annotations

import json

import pytest

from daskflow import flow, runtime, tags, task
from daskflow.config import get_settings
from daskflow.errors import UsageError
from daskflow.runner.store import open_store


@task(tags=["own"])
def seen(x=0):
    from daskflow import runtime  # travels by value to the external workers

    return runtime.task_run.tags, runtime.flow_run.tags


def test_tags_add_up_and_are_recorded(where):
    @flow
    def child():
        return runtime.flow_run.tags

    @flow(task_runner=where)
    def tagged():
        plain = seen.submit()
        with tags("in", "own") as now:
            with tags("deep"):
                deep = seen.map([1, 2])
                called = seen()
                below = child()
            again = seen.submit()
        return {
            "plain": plain.result(),
            "deep": deep.result()[1],
            "called": called,
            "again": again.result(),
            "after": seen.submit().result(),
            "child": below,
            "flow": runtime.flow_run.tags,
            "now": sorted(now),
        }

    with tags("run"):
        told = tagged()
    run = ("run",)
    assert told == {
        "plain": (("own", "run"), run),
        "deep": (("deep", "in", "own", "run"), run),
        "called": (("deep", "in", "own", "run"), run),
        "again": (("in", "own", "run"), run),
        "after": (("own", "run"), run),
        "child": ("deep", "in", "own", "run"),
        "flow": run,
        "now": ["in", "own", "run"],
    }
    with open_store(get_settings().store.url) as store:
        row = next(row for row in store.flow_runs() if row.parent_flow_run_id is None)
        tasks = {each.task_number: each for each in store.tasks(row.flow_run_id)}
        runs = store.task_runs(row.flow_run_id)
    assert json.loads(row.tags) == ["run"]
    assert [json.loads(tasks[each.task_number].tags) for each in runs] == [
        ["own", "run"],
        *[["deep", "in", "own", "run"]] * 3,
        ["in", "own", "run"],
        ["own", "run"],
    ]
    assert [each.index for each in runs] == list(range(6))


def test_nothing_is_tagged_outside_of_the_block():
    @flow(task_runner="sync")
    def plain():
        return runtime.flow_run.tags, seen.submit().result()

    with pytest.raises(KeyError), tags("gone"):
        raise KeyError
    assert plain() == ((), (("own",), ()))
    assert runtime.flow_run.tags == ()


def test_tags_are_texts():
    with pytest.raises(UsageError, match="tags must be texts, not 3"), tags("a", 3):
        pass


def test_tags_around_a_submission_inside_a_task_reach_the_run(where):
    @task
    def outer():
        with tags("inside"):
            return seen.submit().result()

    @flow(task_runner=where)
    def nests():
        return outer.submit().result()

    with tags("run"):
        assert nests() == (("inside", "own", "run"), ("run",))
