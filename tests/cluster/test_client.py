"""`get_client`, and lazy Dask collections that one task returns and a later one computes."""

from __future__ import annotations

import asyncio
from typing import Any

import dask
import pytest

from daskflow import DaskTaskRunner, flow, get_client, task
from daskflow.errors import UsageError

ONE_SLOT = DaskTaskRunner(cluster_kwargs={"n_workers": 1, "threads_per_worker": 1})


@pytest.fixture(params=["processes", "threads", "external"])
def dask_runner(request: pytest.FixtureRequest) -> Any:
    """Every kind of place that has a Dask cluster."""
    if request.param == "processes":
        return request.getfixturevalue("cluster")
    if request.param == "external":
        return request.getfixturevalue("external_address")
    return request.param


def square(x):
    return x * x


# What travels to workers that cannot import this module travels by value.
square.__module__ = "__main__"


@task
def plain():
    client = get_client()
    return client.submit(square, 3, pure=False).result(timeout=60)


@task
async def overlapping():
    async with get_client() as client:
        return await client.submit(square, 4, pure=False)


def test_tasks_get_the_client_of_their_cluster(dask_runner):
    @flow(task_runner=dask_runner)
    def both():
        return plain.submit().result(timeout=60), overlapping.submit().result(timeout=60)

    assert both() == (9, 16)


def test_a_plain_flow_gets_a_client_before_it_submits_anything(dask_runner):
    @flow(task_runner=dask_runner)
    def first():
        with get_client() as client:
            return client.submit(square, 5, pure=False).result(timeout=60), client.status

    assert first() == (25, "running")


def test_an_async_flow_gets_an_async_client(dask_runner):
    @flow(task_runner=dask_runner)
    async def first():
        async with get_client() as client:
            value = await client.submit(square, 6, pure=False)
        kept = await get_client()
        status = kept.status
        await kept.close()
        return value, await overlapping.submit(), status

    assert asyncio.run(first()) == (36, 16, "running")


def test_the_client_outlives_blocks_and_close(dask_runner):
    @flow(task_runner=dask_runner)
    def uses():
        with get_client() as client, get_client():
            client.close()
        del client
        again = get_client().submit(square, 7, pure=False)
        return again.result(timeout=60), plain.submit().result(timeout=60)

    assert uses() == (49, 9)


def test_a_task_that_waits_for_dask_leaves_its_slot_to_it():
    @task
    def many():
        return sum(get_client().gather(get_client().map(square, range(4), pure=False)))

    @flow(task_runner=ONE_SLOT)
    def narrow():
        return [future.result(timeout=60) for future in [many.submit(), many.submit()]]

    assert narrow() == [14, 14]


# ---- lazy collections


@task
def lazy_delayed():
    return dask.delayed(sum)([dask.delayed(square)(x) for x in range(4)])


@task
def lazy_array():
    import dask.array

    return dask.array.arange(100, chunks=10)


@task
def lazy_frame():
    import dask.dataframe
    import pandas

    frame = pandas.DataFrame({"key": [1, 2, 1, 2], "value": [1, 2, 3, 4]})
    return dask.dataframe.from_pandas(frame, npartitions=2)


@task
def compute(lazy):
    return lazy.compute()


@task
def compute_within(lazy):
    with get_client():
        return lazy.compute()


@task
def grouped(frame):
    return frame.groupby("key").value.sum().compute().to_dict()


@pytest.mark.parametrize("computing", [compute, compute_within], ids=["plain", "with-client"])
def test_a_later_task_computes_what_an_earlier_one_returned(dask_runner, computing):
    @flow(task_runner=dask_runner)
    def computed():
        total = computing.submit(lazy_delayed.submit())
        array = lazy_array.submit()
        frame = grouped.submit(lazy_frame.submit())
        numbers = computing.submit(array)
        return total.result(timeout=60), int(numbers.result(timeout=60).sum()), frame.result()

    assert computed() == (14, 4950, {1: 4, 2: 6})


def test_collections_are_computed_where_there_is_one_slot():
    @flow(task_runner=ONE_SLOT)
    def narrow():
        lazy = lazy_delayed.submit()
        futures = [compute.submit(lazy), compute_within.submit(lazy), compute.submit(lazy)]
        return [future.result(timeout=60) for future in futures]

    assert narrow() == [14, 14, 14]


def test_a_flow_computes_on_its_cluster():
    @flow(task_runner=ONE_SLOT)
    def here():
        with get_client() as client:
            pid = dask.delayed(lambda: __import__("os").getpid())().compute()
            return pid in client.run(lambda: __import__("os").getpid()).values()

    assert here() is True


# ---- what cannot be


def test_sync_has_no_client():
    @task
    def asks():
        return get_client()

    @flow(task_runner="sync")
    def inside():
        get_client()

    @flow(task_runner="sync")
    def below():
        return asks.submit().result()

    for each in (inside, below):
        with pytest.raises(UsageError, match=r'task_runner="sync", without Dask'):
            each()


def test_outside_of_a_run_there_is_no_client():
    with pytest.raises(UsageError, match="outside of a run"):
        get_client()
    with pytest.raises(UsageError, match="outside of a flow"):
        plain()


def test_the_other_kind_of_client_is_refused(dask_runner):
    @task
    def wants_async():
        return get_client(asynchronous=True)

    @task
    async def wants_plain():
        return get_client(asynchronous=False)

    @task
    async def forgets_async():
        with get_client():
            pass

    @flow(task_runner=dask_runner)
    def refused():
        texts = []
        for each in (wants_async, wants_plain, forgets_async):
            try:
                each.submit().result(timeout=60)
            except UsageError as error:
                texts.append(str(error).partition(" ")[0] + str(error).rpartition(" ")[2])
        return texts

    assert len(refused()) == 3


def test_a_cluster_that_cannot_be_reached_is_told():
    from daskflow.errors import ClusterError

    @flow(task_runner=DaskTaskRunner(address="tcp://127.0.0.1:9", client_kwargs={"timeout": 0.3}))
    def unreachable():
        get_client()

    with pytest.raises(ClusterError, match=r"tcp://127\.0\.0\.1:9"):
        unreachable()
