"""Which cases there are, and how the chosen ones are made ready to run.

Cases are made one after the other while they run: each kind needs a cluster of its own or none, and
what one starts must not be there beside the next.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks import cached, cold, etl, growth, keys, parcels
from benchmarks.controls import Delayed, OneLoop, SerialLoop
from benchmarks.cpu import Meter
from benchmarks.engines import DaskflowEngine, Engine, RawDask, local_cluster
from benchmarks.harness import Case, engine_case
from benchmarks.workloads import WORKLOADS, Workload

__all__ = ["TITLES", "make_cases", "selected"]

TITLES: Mapping[str, str] = {
    **{workload.name: workload.title for workload in WORKLOADS},
    **parcels.TITLES,
    **growth.TITLES,
    **cold.TITLES,
    **cached.TITLES,
    **keys.TITLES,
    **etl.TITLES,
}


def selected(wanted: Sequence[str]) -> list[str]:
    """Return the cases that some words ask for: ``W1`` is all of W1; no word is every case."""
    if not wanted:
        return list(TITLES)
    return [name for name in TITLES if any(name == w or name.startswith(f"{w}.") for w in wanted)]


def make_cases(
    names: Sequence[str], scratch: Path, *, quick: bool, controls_only: bool
) -> Iterator[Case]:
    """Yield the chosen cases; cold ones first, while no cluster is running beside them."""
    processes = [
        *cold.cold_cases(scratch, controls_only=controls_only),
        *etl.etl_cases(scratch, quick=quick, controls_only=controls_only),
        *cached.cached_cases(scratch, quick=quick, controls_only=controls_only),
        *keys.key_cases(quick=quick, controls_only=controls_only),
    ]
    yield from (case for case in processes if case.name in names)
    chosen = [workload for workload in WORKLOADS if workload.name in names]
    if chosen or "parcels" in names:
        with ExitStack() as stack:
            yield from _warm_cases(chosen, names, scratch, stack, quick, controls_only)
    if not controls_only:
        with ExitStack() as stack:
            sizes = [name for name in growth.TITLES if name in names]
            yield from growth.growth_cases(sizes, scratch, stack, quick=quick)


def _warm_cases(
    workloads: Sequence[Workload],
    names: Sequence[str],
    scratch: Path,
    stack: ExitStack,
    quick: bool,
    controls_only: bool,
) -> Iterator[Case]:
    client = stack.enter_context(local_cluster(scratch / "cluster"))
    meter = Meter(set(client.run(_pid).values()))
    controls: list[Engine] = [RawDask(client), Delayed(client), SerialLoop(), OneLoop()]
    by_name = {engine.name: engine for engine in controls}
    subjects: list[Engine] = []
    if not controls_only:
        subjects = [DaskflowEngine(client.cluster, scratch / "home", record=True)]
        if not quick:
            subjects.append(DaskflowEngine(client.cluster, scratch / "home", record=False))
    for workload in workloads:
        engines = [by_name[workload.control], *subjects]
        if workload.name == "W9.logs":
            engines = engines[:2]  # without a record there is nowhere for lines to be
        if not quick:
            engines += [by_name[name] for name in workload.others]
        yield engine_case(workload, engines, meter, quick=quick)
    if "parcels" in names and not controls_only:
        yield parcels.parcel_case(client, scratch / "home", meter, quick=quick)


def _pid() -> int:
    import os  # runs on a worker, pickled by value with nothing of this module

    return os.getpid()
