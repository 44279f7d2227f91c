"""Tasks that a task calls, in whatever process, cache as their flow says."""

from __future__ import annotations

import pytest

from daskflow import FLOW_PARAMETERS, INPUTS, NO_CACHE, flow, task
from daskflow.caching.store import ResultStore
from daskflow.config import get_settings
from daskflow.runner.cache_plans import refreshing, uncached
from tests.cluster.told import Told

EACH = pytest.mark.parametrize("where", ["processes", "threads", "sync"], indirect=True)


@pytest.fixture
def told(tmp_path):
    return Told(tmp_path / "told")


def calling(where, told, storage, inner_options):
    @task(**inner_options)
    def inner(x):
        told("ran")
        return [x]

    @task(cache_policy=NO_CACHE)
    def outer(x):
        return inner(x)

    @flow(task_runner=where, persist_result=True, result_storage=storage)
    def runs(x, other=0):
        return outer.submit(x).result()

    return runs


@EACH
def test_a_task_called_in_a_task_persists_where_the_flow_says(where, told, tmp_path):
    storage = str(tmp_path / "of-the-flow")
    runs = calling(where, told, storage, {})
    assert runs(1) == runs(1) == [1]
    assert told.take() == ["ran"]
    assert {entry.task for entry in ResultStore(storage).entries()} == {"inner"}
    assert not list(ResultStore(get_settings().results.storage).entries())
    with refreshing(["inner"]):
        assert runs(1) == [1]
    assert told.take() == ["ran"]
    with uncached():
        assert (runs(1), runs(2)) == ([1], [2])
    assert told.take() == ["ran", "ran"]
    assert len(list(ResultStore(storage).entries())) == 1


@EACH
def test_parameters_of_the_flow_count_there_too(where, told, tmp_path):
    policy = {"cache_policy": INPUTS + FLOW_PARAMETERS}
    runs = calling(where, told, str(tmp_path / "results"), policy)
    assert runs(1, other=1) == runs(1, other=2) == [1]
    assert told.take() == ["ran", "ran"]
    assert runs(1, other=2) == [1]
    assert told.take() == []
