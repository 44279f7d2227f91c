"""Throughput against parcel size: W1 with other values of ``runner.target_parcel_seconds``.

The setting says how much work a full parcel holds; what a parcel really holds is counted from the
tasks that Dask's scheduler sent.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from distributed import Client

from benchmarks.cpu import Meter
from benchmarks.engines import DaskflowEngine
from benchmarks.harness import Case, engine_timing
from benchmarks.measurement import Timing
from benchmarks.workloads import WORKLOADS

__all__ = ["TITLES", "parcel_case"]

TITLES = {"parcels": "no-ops by .map, by how much work a parcel may hold, against the default"}
_DEFAULT_S = 0.05
_TARGETS_S = (0.05, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.25)
_QUICK_TARGETS_S = (0.05, 0.001, 0.01)
_MAP = next(workload for workload in WORKLOADS if workload.name == "W1.map")


def parcel_case(client: Client, home: Path, meter: Meter, *, quick: bool) -> Case:
    """Return the case; its control is the default setting."""
    size = _MAP.quick_size if quick else _MAP.size
    targets = _QUICK_TARGETS_S if quick else _TARGETS_S

    def contender(target_s: float) -> Callable[[], Timing]:
        engine = DaskflowEngine(
            client.cluster,
            home,
            name=f"target {target_s * 1000:g} ms",
            more={"DASKFLOW_RUNNER__TARGET_PARCEL_SECONDS": str(target_s)},
        )

        def run() -> Timing:
            before = client.run_on_scheduler(_tasks_seen)
            timing = engine_timing(_MAP, size, engine, meter)
            parcels = client.run_on_scheduler(_tasks_seen) - before
            sent = size + _MAP.warm_size
            return timing._replace(figures={"target_s": target_s, "parcel_runs": sent / parcels})

        return run

    contenders = {f"target {target * 1000:g} ms": contender(target) for target in targets}
    return Case("parcels", TITLES["parcels"], size, size, contenders)


def _tasks_seen(dask_scheduler: Any) -> int:
    """Count the tasks that were ever sent to workers; runs on the scheduler."""
    return int(dask_scheduler.n_tasks)
