"""Cached results and arguments are what they were when their keys were made, shared or not."""

from __future__ import annotations

import numpy as np
import pytest

from daskflow import INPUTS, ResultStorage, flow, task
from tests.cluster.told import Told

LIVE = pytest.mark.parametrize("where", ["threads", "sync"], indirect=True)


@pytest.fixture
def told(tmp_path):
    return Told(tmp_path / "told")


def test_a_result_that_the_flow_changes_is_stored_as_it_was_returned(where, told):
    @task(persist_result=True)
    def makes():
        told("makes")
        return [1, 2]

    @task(persist_result=True)
    def total(values):
        told("total")
        return sum(values)

    @flow(task_runner=where)
    def runs(change):
        made = makes.submit()
        if change:
            made.result().append(100)
        return total.submit(made).result()

    changed = runs(True)
    told.take()
    assert runs(False) == 3, changed
    assert runs(True) in (3, 103)
    assert runs(False) == 3


def test_each_hit_is_fresh(where, told):
    @task(persist_result=True)
    def makes(size):
        told("makes")
        return np.zeros(size), {"a": []}

    @flow(task_runner=where)
    def runs(size):
        made = makes.submit(size)
        array, table = made.result()
        seen = float(array.sum()), len(table["a"])
        table["a"].append(1)
        if array.flags.writeable:
            array += 1
        return seen

    for size in (3, 100_000):
        assert [runs(size) for _ in range(3)] == [(0.0, 0)] * 3
    assert told.take() == ["makes", "makes"]


def test_a_task_that_changes_its_argument_changes_no_other_key(where, told):
    @task(persist_result=True)
    def makes(size):
        return np.zeros(size)

    @task(persist_result=True)
    def spoils(array):
        array.setflags(write=True)
        array += 5
        return float(array[0])

    @task(persist_result=True)
    def reads(array, after):
        told("reads")
        return float(array[0])

    @flow(task_runner=where)
    def runs(size, spoil):
        made = makes.submit(size)
        after = spoils.submit(made).result() if spoil else 5.0
        return reads.submit(made, after).result()

    for size in (3, 200_000):
        runs(size, True)
        assert runs(size, False) == 0.0, "a value of other content was stored under this key"


@LIVE
def test_an_argument_changed_after_its_submission_stores_nothing_wrong(where, told):
    @task(cache_policy=INPUTS)
    def total(values, pause):
        return sum(values)

    @task(persist_result=True)
    def waits():
        return 0

    @flow(task_runner=where)
    def runs(change):
        values = [1, 2]
        made = total.submit(values, waits.submit())
        if change:
            values.append(100)
        return made.result()

    runs(True)
    assert runs(False) == 3


@pytest.mark.parametrize("where", ["processes", "threads"], indirect=True)
def test_what_was_made_in_this_flow_is_found_again_without_a_request(where, told, s3_server):
    endpoint = {"endpoint_url": s3_server.endpoint, "region_name": "us-east-1"}
    options = {"key": "x", "secret": "y", "client_kwargs": endpoint}
    storage = ResultStorage(f"s3://{s3_server.new_bucket()}/r", options)

    @task(cache_policy=INPUTS, result_storage=storage)
    def makes(size):
        told("ran")
        return np.zeros(size)

    @task
    def seeds():
        return 30_000

    @flow(task_runner=where)
    def runs():
        small = makes.submit(3).result()
        makes.submit(seeds.submit()).wait()  # its key is made by a worker
        s3_server.requests()
        again = [makes.submit(3).result(), makes.submit(3).result()]
        by_value = makes.submit(30_000)
        by_value.wait()
        asked = s3_server.requests()
        return [a.tolist() for a in (small, *again)], asked, by_value.result().shape

    values, asked, shape = runs()
    assert (values, shape) == ([[0.0] * 3] * 3, (30_000,))
    assert asked == []
    assert told.take() == ["ran", "ran"]
