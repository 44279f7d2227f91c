"""`resources`, `workers` and `priority`: where runs go, in what order, and what nobody can meet."""

from __future__ import annotations

import time

import pytest
from distributed import Client, LocalCluster, get_worker

from daskflow import flow, task
from daskflow.errors import UsageError
from daskflow.runner.cluster import requests
from tests.foreign import eventually
from tests.gates import Gate


@pytest.fixture(scope="module")
def two_kinds(external_cluster):
    """An external cluster with a worker that has a GPU, and its name."""
    name = external_cluster.add_worker("--resources", "GPU=1")
    return external_cluster.address, name


@pytest.fixture(scope="module")
def own_kinds(tmp_path_factory):
    """A cluster of this process with one worker, which offers something."""
    with LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        resources={"GPU": 2},
        local_directory=str(tmp_path_factory.mktemp("own")),
    ) as cluster:
        yield cluster


@task
def where_am_i():
    return get_worker().name


@task
def fine(x):
    return x


def test_a_run_goes_to_the_worker_that_has_the_resource(two_kinds):
    address, name = two_kinds

    @flow(task_runner=address)
    def asks():
        futures = [where_am_i.with_options(resources={"GPU": 1}).submit() for _ in range(6)]
        return {future.result() for future in futures}

    assert asks() == {name}


def test_a_run_goes_to_the_worker_of_that_name(two_kinds):
    address, _ = two_kinds

    @flow(task_runner=address)
    def asks():
        chosen = where_am_i.with_options(workers="foreign-1")
        several = where_am_i.with_options(workers=["foreign-0", "nobody"])
        return [future.result() for future in (chosen.submit(), several.submit())]

    assert asks() == ["foreign-1", "foreign-0"]


def test_names_that_are_numbers_and_resources_work_on_a_cluster_object(own_kinds):
    @flow(task_runner=own_kinds)
    def asks():
        numbered = where_am_i.with_options(workers=["0"], resources={"GPU": 1.5})
        return numbered.submit().result()

    assert asks() == 0


def test_the_resource_is_occupied_while_a_run_has_it(two_kinds, tmp_path):
    @task(resources={"GPU": 1})
    def counts_itself(n):
        mine = tmp_path / f"{n}.here"
        mine.touch()
        others = len(list(tmp_path.glob("*.here")))
        mine.unlink()
        return others

    @flow(task_runner=two_kinds[0])
    def asks():
        return counts_itself.map(range(10)).result()

    assert asks() == [1] * 10


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ({"resources": {"GPU": 3}}, "resources={'GPU': 3}"),
        ({"resources": {"TPU": 0.5}}, "resources={'TPU': 0.5}"),
        ({"workers": ["no-such-worker"]}, "workers=['no-such-worker']"),
        ({"workers": "0", "resources": {"X": 1}}, "resources={'X': 1} and workers=['0']"),
    ],
)
def test_a_request_that_nobody_can_meet_fails_within_seconds_and_alone(
    own_kinds, options, asked, monkeypatch
):
    if options != {"resources": {"GPU": 3}}:  # one of them waits as long as it really takes
        monkeypatch.setattr(requests, "_GRACE_S", 0.5)

    @flow(task_runner=own_kinds)
    def asks():
        started = time.monotonic()
        wrong = fine.with_options(name="wrong", **options)
        bad = wrong.map(range(3))
        behind = fine.submit(bad[0])
        ok = fine.map(range(20)).result()
        assert not bad[0].done()  # nobody waits for the one that cannot be met
        with pytest.raises(UsageError) as caught:
            bad.result(timeout=30)
        took = time.monotonic() - started
        behind.wait()
        return ok, str(caught.value), took, {f.state.name for f in bad}, behind.state.name

    ok, message, took, states, behind = asks()
    assert ok == list(range(20))
    assert f"it asks for {asked}, and the workers, with their resources, are 0 at tcp://" in message
    assert "(GPU=2)" in message
    assert took < 10
    assert states == {"Crashed"}
    assert behind == "NotReady"


def test_a_worker_that_joins_in_time_gets_what_waited_for_it(
    two_kinds, external_cluster, monkeypatch
):
    monkeypatch.setattr(requests, "_GRACE_S", 60.0)  # starting one takes seconds

    @flow(task_runner=two_kinds[0])
    def asks():
        by_name = where_am_i.with_options(workers="late").submit()
        by_resource = where_am_i.with_options(resources={"LATE": 1}).submit()
        process = external_cluster.add_worker("--resources", "LATE=1", "--name", "late")
        try:
            return by_name.result(timeout=60), by_resource.result(timeout=60)
        finally:
            external_cluster.kill_worker(process)

    assert asks() == ("late", "late")


def test_urgent_runs_overtake_what_waits_for_the_one_slot(own_kinds, tmp_path):
    """What has reached the worker runs by priority, though it came in the opposite order."""
    gate = Gate(tmp_path)
    order = tmp_path / "order"

    @task
    def blocks():
        gate.wait()

    @task
    def notes(what):
        with order.open("a") as file:
            file.write(f"{what}\n")

    def keys_of(dask_worker):
        return [str(key) for key in dask_worker.state.tasks]

    @flow(task_runner=own_kinds)
    def mixed():
        def arrived(name):
            (keys,) = client.run(keys_of).values()
            return sum(key.startswith(name) for key in keys)

        first = blocks.submit()
        eventually(lambda: arrived("blocks") == 1)
        futures = [first]
        try:
            # `blocks` is in the window of its own priority, and of lower ones
            for name, priority, probes in (("low", -1, 1), ("usual", 0, 1), ("high", 5, 2)):
                kind = notes.with_options(name=name, priority=priority)
                futures += kind.map([name] * probes)
                eventually(lambda name=name, probes=probes: arrived(name) == probes)
        finally:
            gate.open()
        for future in futures:
            future.wait()

    with Client(own_kinds, set_as_default=False) as client:
        mixed()
    assert order.read_text().split() == ["high", "high", "usual", "low"]
