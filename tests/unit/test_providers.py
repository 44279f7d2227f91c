"""providers: what can be given as `task_runner`, and what is said when it cannot."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import pytest

from daskflow.errors import UsageError
from daskflow.runner.cluster.providers import (
    DaskTaskRunner,
    LocalTaskRunner,
    SyncTaskRunner,
    resolve_task_runner,
)


class Cluster:
    """What Dask itself takes for a cluster: an object with a scheduler address."""

    scheduler_address = "tcp://127.0.0.1:8786"


@pytest.mark.parametrize(
    ("given", "runner"),
    [
        pytest.param("processes", LocalTaskRunner("processes"), id="processes"),
        pytest.param("threads", LocalTaskRunner("threads"), id="threads"),
        pytest.param("sync", SyncTaskRunner(), id="sync"),
        pytest.param("tcp://h:1", DaskTaskRunner(address="tcp://h:1"), id="tcp"),
        pytest.param("tls://h:1", DaskTaskRunner(address="tls://h:1"), id="tls"),
        pytest.param("ws://h:1/ws", DaskTaskRunner(address="ws://h:1/ws"), id="websocket"),
        pytest.param("tcp://[::1]:8786", DaskTaskRunner(address="tcp://[::1]:8786"), id="ipv6"),
        pytest.param("h:8786", DaskTaskRunner(address="tcp://h:8786"), id="no-scheme-is-tcp"),
        pytest.param(DaskTaskRunner, DaskTaskRunner(), id="class"),
        pytest.param(SyncTaskRunner, SyncTaskRunner(), id="other-class"),
        pytest.param(None, LocalTaskRunner("processes"), id="setting"),
    ],
)
def test_resolves(given: Any, runner: object) -> None:
    assert resolve_task_runner(given) == runner


def test_none_means_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASKFLOW_RUNNER__TASK_RUNNER", "threads")
    assert resolve_task_runner(None) == LocalTaskRunner("threads")


def test_an_instance_is_taken_as_it_is() -> None:
    runner = DaskTaskRunner(address="tcp://h:1")
    assert resolve_task_runner(runner) is runner


def test_a_cluster_object_is_used() -> None:
    cluster = Cluster()
    assert resolve_task_runner(cluster).cluster is cluster  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        pytest.param("process", "did you mean 'processes'", id="nearest"),
        pytest.param("cloud", 'it can be "processes"', id="what-is-allowed"),
        pytest.param("tcp://host", "no host and port", id="no-port"),
        pytest.param("tcp://:8786", "no host and port", id="no-host"),
        pytest.param("http://host:8786", "unknown scheme 'http'", id="scheme"),
        pytest.param(3, "task_runner=3", id="number"),
        pytest.param(Cluster, "task_runner=<class", id="cluster-class-instead-of-cluster"),
        pytest.param(object(), "a Dask cluster or client", id="object"),
    ],
)
def test_refuses(given: Any, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve_task_runner(given)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(
            {"address": "tcp://h:1", "cluster": Cluster()}, "address= and cluster=", id="two"
        ),
        pytest.param(
            {"address": "tcp://h:1", "cluster_kwargs": {"n_workers": 1}},
            "exclude each other",
            id="address-and-kwargs",
        ),
        pytest.param(
            {"cluster": Cluster(), "cluster_class": "a.B"}, "cluster_class=", id="cluster-and-class"
        ),
        pytest.param(
            {"cluster": Cluster(), "adapt_kwargs": {"maximum": 2}},
            "adapt_kwargs=",
            id="adapt-somebody-elses",
        ),
        pytest.param({"cluster": "tcp://h:1"}, "no Dask cluster", id="address-as-cluster"),
        pytest.param({"cluster": Cluster}, "goes into cluster_class=", id="class-as-cluster"),
        pytest.param({"cluster_class": 3}, "import path", id="number-as-class"),
        pytest.param({"cluster_kwargs": ["n_workers"]}, "not a mapping", id="kwargs-no-mapping"),
        pytest.param(
            {"cluster_kwargs": {"asynchronous": True}}, "asynchronous", id="asynchronous-cluster"
        ),
        pytest.param(
            {"client_kwargs": {"set_as_default": True}}, "set_as_default", id="default-client"
        ),
        pytest.param({"address": 5}, "address=5", id="address-no-text"),
    ],
)
def test_arguments_that_do_not_go_together(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        DaskTaskRunner(**arguments)
    assert said in str(caught.value)


@pytest.mark.parametrize("path", ["no_such_module.Cluster", "distributed.NoCluster", "Cluster"])
def test_a_class_that_cannot_be_imported_is_named(path: str) -> None:
    with pytest.raises(UsageError, match=path):
        DaskTaskRunner(cluster_class=path).imported_cluster_class()


@pytest.mark.parametrize(
    ("kwargs", "local"),
    [
        pytest.param({}, LocalTaskRunner(), id="nothing"),
        pytest.param(
            {"n_workers": 3, "threads_per_worker": 2, "memory_limit": "1GB"},
            LocalTaskRunner("processes", 3, 2, {"memory_limit": "1GB"}),
            id="size",
        ),
        pytest.param(
            {"n_workers": 2, "threads_per_worker": 2, "processes": False},
            LocalTaskRunner("threads", None, 4),
            id="threads",
        ),
        pytest.param({"dashboard_address": "127.0.0.1:8787"}, None, id="needs-the-real-class"),
    ],
)
def test_without_a_class_it_is_our_own_local_cluster(
    kwargs: dict[str, Any], local: LocalTaskRunner | None
) -> None:
    assert DaskTaskRunner(cluster_kwargs=kwargs).as_local() == local


def test_repr_shows_no_values_of_keyword_arguments() -> None:
    runner = DaskTaskRunner(
        cluster_class="a.Cluster",
        cluster_kwargs={"token": "s3cret"},
        client_kwargs={"security": "hidden"},
    )
    assert "s3cret" not in repr(runner)
    assert "hidden" not in repr(runner)
    assert "token" in repr(runner)


@pytest.mark.parametrize(
    "runner",
    [
        SyncTaskRunner(),
        LocalTaskRunner("processes", 2, 3, {"resources": {"GPU": 1}}),
        DaskTaskRunner(address="tcp://h:1", client_kwargs={"timeout": 3}),
        DaskTaskRunner(cluster_class="a.B", cluster_kwargs={"n": 1}, adapt_kwargs={"maximum": 2}),
    ],
)
def test_pickles_hashes_and_duplicates_to_an_equal_one(runner: Any) -> None:
    for copy in (pickle.loads(pickle.dumps(runner)), runner.duplicate()):
        assert copy == runner
        assert copy is not runner
        assert hash(copy) == hash(runner)


def test_differs_by_any_argument() -> None:
    runner = DaskTaskRunner(cluster_class="a.B")
    assert runner != DaskTaskRunner(cluster_class="a.C")
    assert runner != DaskTaskRunner(cluster_class="a.B", adapt_kwargs={"maximum": 1})
    assert runner != "a.B"


def test_a_live_cluster_does_not_pickle_and_says_what_to_do() -> None:
    with pytest.raises(UsageError, match=r"address=cluster\.scheduler_address"):
        pickle.dumps(DaskTaskRunner(cluster=Cluster()))


def test_naming_a_task_runner_imports_no_dask() -> None:
    code = (
        "import sys\n"
        "from daskflow.runner.cluster.providers import DaskTaskRunner, resolve_task_runner\n"
        "resolve_task_runner('tcp://h:1'), DaskTaskRunner(cluster_class='a.B')\n"
        "print(sorted({'dask', 'distributed', 'pydantic'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.stdout.strip() == "[]", run.stderr
