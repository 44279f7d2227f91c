"""Caching in flows: what is found again, what runs again, and that a faulty store fails no run."""

from __future__ import annotations

import datetime
import os
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from daskflow import (
    DEFAULT,
    FLOW_PARAMETERS,
    INPUTS,
    NO_CACHE,
    RUN_ID,
    TASK_SOURCE,
    allow_failure,
    flow,
    task,
    unmapped,
)
from daskflow.config import get_settings
from daskflow.runner.store import open_store as open_record
from tests.cluster.told import Told

IN_PROCESSES = pytest.mark.parametrize("where", ["processes"], indirect=True)


@pytest.fixture
def told(tmp_path):
    """Tell what was executed: tasks append to a file, the test reads it."""
    return Told(tmp_path / "told")


def rows(name="@last"):
    with open_record(get_settings().store.url) as store:
        run = store.find_flow_run(name)
        return run, list(store.task_runs(run.flow_run_id))


def states():
    return sorted((row.state, (row.cache or "").split()[0:1]) for row in rows()[1])


@dataclass
class Box:
    item: object
    name: str


def test_a_rerun_executes_nothing_and_gives_the_same(where, told):
    @task(persist_result=True)
    def load(x):
        told(f"load-{x}")
        return pd.DataFrame({"a": [x, x + 1], "b": ["u", None]})

    @task(cache_policy=INPUTS + TASK_SOURCE)
    def total(frame, factor=1):
        told("total")
        return int(frame["a"].sum()) * factor

    @task(persist_result=True)
    def together(parts, box):
        told("together")
        return {"sum": sum(parts), "box": box.item + 1, "when": datetime.date(2026, 11, 27)}

    @flow(task_runner=where)
    def etl(n):
        frames = load.map(range(n))
        totals = [total.submit(frame, factor=2) for frame in frames]
        return together.submit(totals, Box(totals[0], "first")).result(), frames[1].result()

    (first, frame), executed = etl(3), told.take()
    assert executed == ["load-0", "load-1", "load-2", "together", "total", "total", "total"]
    assert {state for state, _ in states()} == {"Completed"}
    (second, again), nothing = etl(3), told.take()
    assert nothing == []
    assert second == first == {"sum": 18, "box": 3, "when": datetime.date(2026, 11, 27)}
    pd.testing.assert_frame_equal(again, frame)
    assert states() == [("Cached", ["hit"])] * 7


def test_only_what_changed_runs_again(where, told):
    @task(persist_result=True)
    def parity(x):
        told(f"parity-{x}")
        return x % 2

    @task(persist_result=True)
    def double(x):
        told(f"double-{x}")
        return 2 * x

    @flow(task_runner=where)
    def chain(x):
        return double.submit(parity.submit(x)).result()

    assert (chain(1), told.take()) == (2, ["double-1", "parity-1"])
    # another input, equal content: what is below hits
    assert (chain(3), told.take()) == (2, ["parity-3"])
    assert (chain(2), told.take()) == (0, ["double-0", "parity-2"])


def test_what_is_below_a_refreshed_run_with_other_content_never_hits(where, told, tmp_path):
    source = tmp_path / "source"

    @task(persist_result=True)
    def reads(path):
        told("reads")
        return Path(path).read_text()

    @task(persist_result=True)
    def upper(text):
        told("upper")
        return text.upper()

    @flow(task_runner=where)
    def chain(refresh):
        first = reads.with_options(refresh_cache=refresh).submit(str(source))
        return upper.submit(first).result()

    source.write_text("one")
    assert (chain(False), told.take()) == ("ONE", ["reads", "upper"])
    source.write_text("two")
    assert (chain(False), told.take()) == ("ONE", [])
    assert (chain(True), told.take()) == ("TWO", ["reads", "upper"])
    assert (chain(False), told.take()) == ("TWO", [])


def test_keys_see_the_call_not_how_it_is_written(where, told):
    @task(cache_policy=INPUTS)
    def adds(a, b=2, *, client=None):
        told("adds")
        return a + b

    quiet = adds.with_options(cache_policy=INPUTS - "client")

    @flow(task_runner=where)
    def calls():
        assert [
            adds.submit(1).result(),
            adds.submit(a=1).result(),
            adds.submit(1, b=2).result(),
            quiet.submit(1, client=threading).result(),
            quiet.submit(1, client="other").result(),
        ] == [3] * 5

    calls()
    assert told.take() == ["adds", "adds"]  # one for each policy, which has its own key


@IN_PROCESSES
def test_policies_and_keys_of_ones_own(where, told):
    @task
    def body(x):
        told("ran")
        return x

    @flow(task_runner=where)
    def runs(options, x, day="monday"):
        return body.with_options(**options).submit(x).result()

    def executions(options, *calls):
        for call in calls:
            runs(options, *call)
        return len(told.take())

    assert executions({"cache_policy": RUN_ID + INPUTS}, (1,), (1,)) == 2
    assert executions({"cache_policy": FLOW_PARAMETERS}, (1,), (1, "friday"), (1,)) == 2
    assert executions({"cache_policy": NO_CACHE}, (1,), (1,)) == 2
    assert executions({}, (1,), (1,)) == 2
    by_first = {"cache_key_fn": lambda context, given: f"{context.task.name}-{given['x'][0]}"}
    assert executions(by_first, ("ab",), ("ac",), ("b",)) == 2
    assert executions({"cache_key_fn": lambda context, given: None}, (1,), (1,)) == 2
    assert executions({"cache_expiration": 1e-9}, (5,), (5,)) == 2
    assert executions({"cache_expiration": datetime.timedelta(days=1)}, (5,), (5,)) == 1
    assert executions({"cache_policy": DEFAULT, "refresh_cache": True}, (5,), (5,)) == 2


@IN_PROCESSES
def test_a_flow_and_the_settings_decide_for_tasks_that_do_not(where, told, tmp_path, monkeypatch):
    @task
    def body():
        told("ran")

    def twice(**options):
        @flow(task_runner=where, **options)
        def runs():
            body.submit().wait()

        runs()
        runs()
        return len(told.take())

    elsewhere = tmp_path / "elsewhere"
    assert twice() == 2
    assert twice(persist_result=True, result_storage=str(elsewhere)) == 1
    assert (elsewhere / "_format.json").exists()
    from daskflow.config import reset_settings

    monkeypatch.setenv("DASKFLOW_RESULTS__PERSIST_BY_DEFAULT", "true")
    reset_settings()
    assert twice() == 1
    monkeypatch.setenv("DASKFLOW_RESULTS__ENABLED", "false")
    reset_settings()
    assert twice() == 2


def test_async_tasks_methods_and_direct_calls_are_cached_too(where, told):
    class Scale:
        def __init__(self, factor):
            self.factor = factor

        @task(persist_result=True)
        def times(self, x):
            told("method")
            return x * self.factor

    @task(persist_result=True)
    async def naps(x):
        told("async")
        return x + 1

    @task(persist_result=True)
    def direct(x):
        told("direct")
        return [x]

    @flow(task_runner=where)
    def mixed():
        called = direct(3)
        called.append(4)  # changes no later hit
        return Scale(2).times.submit(5).result(), naps.submit(1).result(), direct(3)

    assert mixed() == mixed() == (10, 2, [3])
    assert told.take() == ["async", "direct", "method"]


def test_an_argument_without_content_runs_uncached_and_says_so(where, told, caplog):
    @task(cache_policy=INPUTS)
    def takes(x, config):
        told("ran")
        return x

    @flow(task_runner="threads" if where == "sync" else where)
    def runs():
        return [takes.submit(1, {"out": [iter([1])]}).result() for _ in range(2)]

    with caplog.at_level("WARNING", logger="daskflow"):
        assert runs() == [1, 1]
    assert told.take() == ["ran", "ran"]
    warnings = [r.getMessage() for r in caplog.records if "runs uncached" in r.getMessage()]
    assert len(warnings) == 1
    assert "config['out'][0]" in warnings[0]


def test_equal_runs_at_the_same_time_are_executed_once(where, told):
    @task(persist_result=True)
    def body(x):
        told(f"ran-{x}")
        return np.arange(x)

    @flow(task_runner=where)
    def many():
        return [len(result) for result in body.map([7] * 20 + [8]).result()]

    assert many() == [7] * 20 + [8]
    assert told.take() == ["ran-7", "ran-8"]


def test_failures_are_never_stored(where, told, scripted):
    fails_once = task(scripted(["raise", "ok"]), name="fails-once", retries=1, persist_result=True)

    @task(persist_result=True)
    def fails(x):
        told("fails")
        raise ValueError(x)

    @task(persist_result=True)
    def after(x):
        told("after")
        return str(x)

    @flow(task_runner=where)
    def runs():
        bad = fails.submit(1)
        said = after.submit(allow_failure(bad)).result()
        return fails_once.submit("x").result(), said

    assert runs() == (2, "1")
    told.take()
    assert runs() == (2, "1")  # `scripted` would refuse a third attempt
    assert told.take()[-1] == "fails"


@IN_PROCESSES
def test_large_constants_and_results_go_by_reference(where, told):
    @task(persist_result=True)
    def scaled(x, table):
        told("scaled")
        return table * x

    @task(persist_result=True)
    def length(array):
        told("length")
        return len(array)

    @flow(task_runner=where)
    def runs(first):
        table = np.arange(100_000.0)
        table[0] = first
        arrays = scaled.map([1, 2], unmapped(table))
        return length.map(arrays).result(), float(arrays[1].result()[-1])

    assert runs(0.0) == ([100_000, 100_000], 199_998.0)
    assert told.take() == ["length", "length", "scaled", "scaled"]
    assert runs(0.0) == ([100_000, 100_000], 199_998.0)
    assert told.take() == []
    assert runs(1.0)[0] == [100_000, 100_000]
    assert told.take() == ["length", "length", "scaled", "scaled"]


@pytest.mark.parametrize("harm", ["deleted", "truncated", "flipped"])
def test_a_damaged_result_is_made_again(where, told, harm):
    @task(persist_result=True)
    def makes(x):
        told("makes")
        return np.full(50_000, x)

    @task
    def sums(array):
        return int(array.sum())

    @flow(task_runner=where)
    def runs():
        made = makes.submit(3)
        return sums.submit(made).result(), int(made.result()[0])

    assert runs() == (150_000, 3)
    told.take()
    root = Path(get_settings().results.storage)
    (blob,) = (path for path in root.glob("blobs/*/*") if path.is_file())
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 1
    os.chmod(blob, 0o600)
    if harm == "deleted":
        blob.unlink()
    elif harm == "truncated":
        blob.write_bytes(data[: len(data) // 2])
    else:
        blob.write_bytes(data)
    assert runs() == (150_000, 3)
    assert told.take() == ["makes"]
    assert runs() == (150_000, 3)
    assert told.take() == []


@IN_PROCESSES
def test_a_store_that_cannot_be_written_fails_only_who_insists(where, told, tmp_path, caplog):
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder should be")

    @task(result_storage=str(blocked))
    def body():
        return 1

    @flow(task_runner=where)
    def runs(options):
        return body.with_options(**options).submit().result()

    assert runs({"cache_policy": DEFAULT}) == 1
    with pytest.raises(Exception, match="blocked"):
        runs({"persist_result": True})
    assert rows()[1][0].state == "Failed"
