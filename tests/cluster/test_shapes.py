"""The same small language on every shape of cluster that a flow can be given."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from distributed import Client, LocalCluster

from daskflow import DaskTaskRunner, flow, task
from daskflow.errors import UsageError
from tests.foreign import eventually
from tests.gates import Gate

LOCAL = {"n_workers": 1, "threads_per_worker": 2}


def start_local(**kwargs: Any) -> LocalCluster:
    """A function that makes a cluster, as good as a class."""
    return LocalCluster(dashboard_address="127.0.0.1:0", **kwargs)


@pytest.fixture(scope="module")
def in_threads() -> Iterator[LocalCluster]:
    """Somebody's cluster whose workers are threads of this process."""
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0"
    ) as cluster:
        yield cluster


STARTED = {
    "class": DaskTaskRunner,
    "instance": DaskTaskRunner(cluster_kwargs=LOCAL),
    "instance-threads": DaskTaskRunner(cluster_kwargs={**LOCAL, "processes": False}),
    "dotted": DaskTaskRunner(cluster_class="distributed.LocalCluster", cluster_kwargs=LOCAL),
    "callable": DaskTaskRunner(
        cluster_class=start_local, cluster_kwargs={**LOCAL, "processes": False}
    ),
    "adaptive-class": DaskTaskRunner(
        cluster_class=LocalCluster,
        cluster_kwargs={"n_workers": 0, "threads_per_worker": 1},
        adapt_kwargs={"minimum": 0, "maximum": 2, "interval": "100ms"},
    ),
    "adaptive-own": DaskTaskRunner(adapt_kwargs={"minimum": 0, "maximum": 2, "interval": "100ms"}),
    "threads": "threads",
    "sync": "sync",
}
GIVEN = ("cluster-object", "threads-object", "client", "client-runner", "external")


@pytest.fixture(params=[*STARTED, *GIVEN])
def shape(request: pytest.FixtureRequest) -> Any:
    """Whatever can be a `task_runner`."""
    if request.param in STARTED:
        return STARTED[request.param]
    if request.param == "external":
        return request.getfixturevalue("external_address")
    if request.param == "threads-object":
        return request.getfixturevalue("in_threads")
    if request.param == "cluster-object":
        return request.getfixturevalue("cluster")
    client = request.getfixturevalue("client")
    return client if request.param == "client" else DaskTaskRunner(cluster=client)


def test_the_language_is_the_same_everywhere(shape, tmp_path):
    @task
    def add(left, right):
        return left + right

    @task(retries=1)
    def fails_once(folder):
        import pathlib

        path = pathlib.Path(folder) / "failed"
        if not path.exists():
            path.touch()
            raise OSError("once")
        return "again"

    @task
    def fails():
        raise ValueError("as always")

    @task
    async def overlaps(number):
        import asyncio

        await asyncio.sleep(0)
        return number

    @task
    def nests(number):
        return add.submit(number, 1).result()

    @task
    def large():
        return np.ones(500_000)

    @task
    def total(array):
        return float(array.sum())

    @flow
    def below(number):
        return add.submit(number, 100).result()

    @flow(task_runner=shape)
    def language():
        mapped = add.map([1, 2, 3], 10)
        chained = add.submit(mapped[0], mapped[2])
        return {
            "map": mapped.result(),
            "chain": chained.result(timeout=60),
            "retry": fails_once.submit(str(tmp_path)).result(timeout=60),
            "failure": str(fails.submit().result(raise_on_failure=False)),
            "async": [future.result(timeout=60) for future in overlaps.map([1, 2])],
            "nested": nests.submit(1).result(timeout=60),
            "large": total.submit(large.submit()).result(timeout=60),
            "subflow": below(1),
        }

    assert language() == {
        "map": [11, 12, 13],
        "chain": 24,
        "retry": "again",
        "failure": "as always",
        "async": [1, 2],
        "nested": 2,
        "large": 500_000.0,
        "subflow": 101,
    }


@pytest.mark.parametrize("crash_retries", [3, 0])
def test_an_adaptive_cluster_executes_each_run_once(tmp_path, crash_retries):
    @task(crash_retries=crash_retries)
    def leaves_a_mark(number, folder):
        import os
        import pathlib

        with (pathlib.Path(folder) / str(number)).open("a") as marks:
            marks.write(f"{os.getpid()}\n")
        return number

    @flow(task_runner=STARTED["adaptive-class"])
    def grows():
        first = leaves_a_mark.map(range(50), str(tmp_path)).result(timeout=60)
        second = leaves_a_mark.map(range(50, 100), str(tmp_path)).result(timeout=60)
        return len(first + second)

    assert grows() == 100
    executions = [len(path.read_text().splitlines()) for path in tmp_path.glob("[0-9]*")]
    assert executions == [1] * 100


# ---- flows in flows


@task
def where_am_i():
    import os

    return os.getpid()


def test_a_subflow_with_a_cluster_of_its_own_executes_there(cluster):
    @flow(task_runner=DaskTaskRunner(cluster_kwargs=LOCAL))
    def own():
        return where_am_i.submit().result(timeout=60)

    @flow
    def parents():
        return where_am_i.submit().result(timeout=60)

    @flow(task_runner=cluster)
    def outer():
        return where_am_i.submit().result(timeout=60), own(), parents()

    mine, own_pid, parents_pid = outer()
    pids = {nanny.pid for nanny in list(cluster.workers.values())}
    assert {mine, parents_pid} <= pids
    assert own_pid not in pids


@pytest.mark.parametrize("runner", [None, "threads"], ids=["parents", "own"])
def test_plain_and_async_flows_call_each_other(cluster, runner):
    @task
    async def double(number):
        return 2 * number

    @flow(task_runner=runner)
    def plain(number):
        return double.submit(number).result(timeout=60)

    @flow(task_runner=runner)
    async def overlapping(number):
        return await double.submit(number)

    @flow(task_runner=cluster)
    async def async_outer():
        return plain(1), await overlapping(2)

    @flow(task_runner=cluster)
    def plain_outer():
        return plain(3), asyncio.run(overlapping(4))

    assert asyncio.run(async_outer()) == (2, 4)
    assert plain_outer() == (6, 8)


# ---- what cannot be


def test_asynchronous_clusters_and_clients_are_refused_with_advice(external_address):
    def refuse(value: Any) -> None:
        with pytest.raises(UsageError, match=r"asynchronous .* give the address"):
            flow(task_runner=value)(print)
        with pytest.raises(UsageError, match=r"asynchronous .* give the address"):
            DaskTaskRunner(cluster=value)

    async def main() -> None:
        async with LocalCluster(
            n_workers=0, processes=False, asynchronous=True, dashboard_address="127.0.0.1:0"
        ) as cluster:
            refuse(cluster)
        async with Client(external_address, asynchronous=True, set_as_default=False) as client:
            refuse(client)

    asyncio.run(main())


# ---- what stays on somebody's scheduler


def test_a_schedulers_memory_stays_flat_over_many_flows(external_address: str):
    @task
    def adds(number):
        return number + 1

    @task
    def large(number):
        return np.ones(50_000) * number

    @flow(task_runner=external_address)
    def many(count):
        arrays = [adds.submit(large.submit(number)) for number in range(2)]
        numbers = adds.map(range(count)).result(timeout=60)
        return sum(numbers) + sum(float(array.result(timeout=60)[0]) for array in arrays)

    def left(dask_scheduler: Any) -> dict[str, int]:
        broker = dask_scheduler._broker
        return {
            "tasks": len(dask_scheduler.tasks),
            "clients": len([name for name in dask_scheduler.clients if "worker" not in name]),
            "plugins": len(dask_scheduler.plugins),
            "worker plugins": len(dask_scheduler.worker_plugins),
            "topics": len([name for name in broker._topics if "daskflow" in name]),
            "subscribers": len({who for t in broker._topics.values() for who in t.subscribers}),
            "extensions": len(dask_scheduler.extensions),
            "task groups": len(dask_scheduler.task_groups),
            "task prefixes": len([n for n in dask_scheduler.task_prefixes if "daskflow" in n]),
        }

    assert many(10) == 58.0
    with Client(external_address, set_as_default=False) as client:
        eventually(lambda: client.run_on_scheduler(left)["clients"] == 2)
        before = client.run_on_scheduler(left)
        for _ in range(30):
            assert many(670) == sum(range(1, 671)) + 3
        eventually(lambda: client.run_on_scheduler(left) == before, within_s=10)


def test_a_scheduler_never_sees_the_users_objects(external_address: str):
    """A class that cannot be unpickled in the scheduler's process passes through it unharmed."""

    class Mine:
        def __init__(self, number):
            self.number = number

        def __reduce__(self):
            return build, (self.number,)

    def build(number):
        import sys

        assert not any("scheduler" in argument for argument in sys.argv[:3]), "unpickled there"
        return Mine(number)

    @task
    def passes(mine):
        mine.number += 1
        return mine

    @flow(task_runner=external_address)
    def through():
        return passes.submit(passes.submit(Mine(1))).result(timeout=60).number

    assert through() == 3


def test_dask_keys_start_with_the_name_of_the_task(cluster, tmp_path):
    gate = Gate(tmp_path)

    @task(name="clean the data")
    def waits(path):
        with open(path) as pipe:
            pipe.read()

    def keys(dask_scheduler: Any) -> list[str]:
        return sorted(map(str, dask_scheduler.tasks))

    @flow(task_runner=cluster)
    def named():
        future = waits.submit(gate.path)
        with Client(cluster, set_as_default=False) as client:
            eventually(lambda: client.run_on_scheduler(keys))
            seen = client.run_on_scheduler(keys)
        gate.open()
        future.result(timeout=60)
        return seen

    assert any(key.startswith("clean the data-") for key in named())
