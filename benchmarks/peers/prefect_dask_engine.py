"""Prefect with its DaskTaskRunner: two worker processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.peers import prefect_engine
from benchmarks.workloads import SLOTS

__all__ = ["started"]


@contextmanager
def started() -> Iterator[Any]:
    """Set the process up for Prefect; a Dask cluster starts with each flow."""
    with prefect_engine.started(_dask, "prefect-dask") as engine:
        yield engine


def _dask() -> Any:
    from prefect_dask import DaskTaskRunner  # reads Prefect's settings when imported

    workers = {"n_workers": SLOTS, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
    return DaskTaskRunner(cluster_kwargs=workers)
