"""What caching notes of a run goes with the run, and options reach every kind of task."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from daskflow import INPUTS, flow, task
from daskflow.config import get_settings
from daskflow.runner.store import open_store as open_record
from tests.cluster.told import Told


@pytest.fixture
def told(tmp_path):
    return Told(tmp_path / "told")


def statuses():
    with open_record(get_settings().store.url) as store:
        run = store.find_flow_run("@last")
        return [
            (row.state, (row.cache or "-").split()[0]) for row in store.task_runs(run.flow_run_id)
        ]


@pytest.mark.parametrize("where", ["processes", "threads"], indirect=True)
def test_keys_and_notes_of_released_runs_are_freed(where, told):
    @task(persist_result=True)
    def first(x):
        return [x]

    @task(persist_result=True)
    def then(values):
        return len(values)

    notes = []

    @flow(task_runner=where)
    def runs():
        ends = []
        for x in range(5):
            upper = first.submit(x)
            lower = then.submit(upper)
            notes.append(weakref.ref(upper._run))
            ends.append(lower)
        del upper, lower
        assert [end.result() for end in ends] == [1] * 5
        for _ in range(40):
            gc.collect()
            if sum(map(kept, notes)) <= 1:
                break
            first.submit(100).wait()  # a turn of the driver
        return sum(map(kept, notes))

    def kept(note):
        # the recipe of a result that was found stays, as of others by reference; its value goes
        run = note()
        return run is not None and (run.state != "Cached" or run.value is not None)

    # the driver's last turn may still hold the latest of them
    assert runs() <= 1
    notes.clear()
    assert runs() <= 1


def test_nested_and_direct_runs_share_the_cache(where, told):
    @task(persist_result=True)
    def inner(x):
        told(f"inner-{x}")
        return [x]

    @task
    def outer(x):
        return inner.submit(x).result() + inner(x + 1)

    @flow(task_runner=where)
    def sub(x):
        return inner.submit(x).result()

    @flow(task_runner=where)
    def runs():
        return outer.submit(1).result() if where != "sync" else inner(1) + inner(2), sub(1)

    assert runs() == ([1, 2], [1])
    assert set(told.take()) == {"inner-1", "inner-2"}
    assert runs() == ([1, 2], [1])
    left = told.take()
    assert left in ([], ["inner-2"]), left


def test_a_flow_that_runs_again_executes_no_cached_task_again(told):
    @task(persist_result=True)
    def body(x):
        told("body")
        return x

    @flow(task_runner="threads", retries=1)
    def runs():
        value = body.submit(1).result()
        told("flow")
        if told.path.read_text().split().count("flow") == 1:
            raise ValueError("once")
        return value

    assert runs() == 1
    assert told.take() == ["body", "flow", "flow"]


def test_a_task_that_is_called_outside_flows_runs_like_a_function(told):
    @task(persist_result=True)
    def body(x):
        told("ran")
        return x

    assert body(1) == body(1) == 1
    assert told.take() in (["ran"], ["ran", "ran"])


@pytest.mark.parametrize("where", ["processes", "sync"], indirect=True)
def test_a_key_of_ones_own_that_fails_costs_the_cache_only(where, told, caplog):
    def raises(context, given):
        raise KeyError("no such column")

    @task(cache_key_fn=raises)
    def body(x):
        told("ran")
        return x

    @task(cache_key_fn=lambda context, given: f"sum-{sum(given['x'])}")
    def keyed(x):
        told("keyed")
        return sum(x)

    @task
    def makes():
        return [1, 2]

    @flow(task_runner=where)
    def runs():
        return body.submit(1).result(), keyed.submit(makes.submit()).result()

    with caplog.at_level("WARNING", logger="daskflow"):
        assert runs() == runs() == (1, 3)
    assert told.take() == ["keyed", "ran", "ran"]
    assert any("no such column" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("where", ["processes"], indirect=True)
def test_async_runs_are_looked_up_beside_each_other(where, told):
    @task(persist_result=True)
    async def naps(x):
        await asyncio.sleep(0)
        told(f"naps-{x % 3}")
        return [x % 3]

    @task(persist_result=True, timeout_seconds=30, retries=1)
    async def joins(parts):
        told("joins")
        return sum(map(len, parts))

    @flow(task_runner=where)
    def runs():
        return joins.submit(naps.map(range(6))).result()

    assert runs() == runs() == 6
    assert told.take() == ["joins"] + [f"naps-{x}" for x in (0, 0, 1, 1, 2, 2)]
    assert set(statuses()) == {("Cached", "hit")}


def test_waiting_for_another_is_no_input(where, told):
    @task
    def before(x):
        return x

    @task(cache_policy=INPUTS)
    def body(x):
        told("ran")
        return x

    @flow(task_runner=where)
    def runs(x):
        return body.submit(1, wait_for=[before.submit(x)]).result()

    assert runs(1) == runs(2) == 1
    assert told.take() == ["ran"]
