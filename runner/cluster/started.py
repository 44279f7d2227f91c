"""Clusters of a class that the user names: start, let scale, end.

Anything that speaks Dask's `Cluster` interface: distributed, dask-jobqueue, dask-kubernetes,
dask-cloudprovider.  They run as their class configures them.  Only a `distributed.LocalCluster`
gets other defaults: it listens on 127.0.0.1 alone, and its workers need no ``__main__`` guard.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping
from typing import Any

from distributed import LocalCluster

from daskflow.errors import ClusterError, UsageError
from daskflow.runner.cluster.local import LocalNanny, LocalWorker, root_cause
from daskflow.runner.cluster.providers import DaskTaskRunner, is_cluster

__all__ = ["CLOSE_TIMEOUT_S", "adapt", "close_cluster", "start_cluster"]

CLOSE_TIMEOUT_S = 15.0


def start_cluster(runner: DaskTaskRunner) -> Any:
    """Start ``cluster_class(**cluster_kwargs)`` and return it."""
    cluster_class = runner.imported_cluster_class()
    kwargs = dict(runner.cluster_kwargs)
    if isinstance(cluster_class, type) and issubclass(cluster_class, LocalCluster):
        kwargs.setdefault("dashboard_address", "127.0.0.1:0")  # ":8787" listens everywhere
        in_processes = kwargs.setdefault("processes", True)
        kwargs.setdefault("worker_class", LocalNanny if in_processes else LocalWorker)
    name = getattr(cluster_class, "__qualname__", repr(cluster_class))
    try:
        cluster = cluster_class(**kwargs)
    except TypeError as error:
        raise UsageError(f"cluster_kwargs do not fit {name}: {error}") from error
    except Exception as error:
        raise ClusterError(f"{name} did not start: {root_cause(error)}") from error
    if not is_cluster(cluster):
        if inspect.iscoroutine(cluster):
            cluster.close()
        raise UsageError(
            f"cluster_class {name} made {type(cluster).__name__}, which is no Dask cluster: "
            "it has no scheduler_address"
        )
    return cluster


def adapt(cluster: Any, adapt_kwargs: Mapping[str, Any]) -> None:
    """Let `cluster` scale itself, if there is anything in `adapt_kwargs`."""
    if adapt_kwargs:
        try:
            _done(cluster, cluster.adapt(**adapt_kwargs))
        except TypeError as error:
            raise UsageError(
                f"adapt_kwargs do not fit {type(cluster).__name__}: {error}"
            ) from error


def close_cluster(cluster: Any) -> None:
    """End a cluster that the session started."""
    if "timeout" in inspect.signature(cluster.close).parameters:
        _done(cluster, cluster.close(timeout=CLOSE_TIMEOUT_S))
    else:
        _done(cluster, cluster.close())


def _done(cluster: Any, result: Any) -> None:
    # Some clusters (dask-gateway, older dask-kubernetes) answer with a coroutine on their loop.
    if inspect.isawaitable(result):

        async def finish() -> None:
            await result

        future = asyncio.run_coroutine_threadsafe(finish(), cluster.loop.asyncio_loop)
        future.result(CLOSE_TIMEOUT_S)
