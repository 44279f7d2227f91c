"""How many task runs go into a parcel, and which dependents ride along.

Pure decisions.  A Dask task costs milliseconds, a function call does not: so runs that are known
to be short share a parcel, up to `target_s` of work, but never so many that a slot would idle.
Runs of unknown duration go alone as probes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from daskflow.runner.core.graph import Lane, LaneKey, Run, Stage
from daskflow.runner.core.states import PENDING

__all__ = ["PackingRules", "fuse", "parcel_size", "window"]


class PackingRules(NamedTuple):
    """The numbers that packing goes by.

    Attributes
    ----------
    target_s : float
        Work that a full parcel holds, in seconds.
    floor_s : float
        Work below which splitting a parcel costs more than it gains (one Dask task: 2-3 ms of CPU).
    max_runs : int
        Task runs in one parcel at the most.
    depth : int
        Parcels in flight per slot.
    async_runs_per_slot : int
        Async task runs in flight per slot at the most; they overlap in one event loop.
    overhead_s : float
        What a task run costs in the executor besides its own duration.
    """

    target_s: float = 0.05
    floor_s: float = 0.008
    max_runs: int = 2048
    depth: int = 2
    async_runs_per_slot: int = 5_000
    overhead_s: float = 5e-6


def parcel_size(stage: Stage, slots: int, rules: PackingRules) -> int:
    """How many ready runs of `stage` the next parcel takes, 1 or more.

    Parameters
    ----------
    stage : Stage
        With at least one ready run.
    slots : int
        Threads on the cluster, 1 or more.
    rules : PackingRules
    """
    ready = len(stage.ready)
    if stage.lane_key.is_async:
        return max(1, min(ready, rules.max_runs, math.ceil(ready / slots)))
    known = stage.estimate.seconds
    if known is None:
        return 1
    cost_s = known + rules.overhead_s
    full = int(rules.target_s / cost_s)
    share = max(math.ceil(ready / (rules.depth * slots)), int(rules.floor_s / cost_s))
    return max(1, min(ready, rules.max_runs, full, share))


def window(lane: Lane, slots: int, rules: PackingRules) -> int:
    """How many more parcels of `lane` may go out now."""
    if lane.key.is_async:
        return slots if lane.runs < rules.async_runs_per_slot * slots else 0
    return max(0, rules.depth * slots - lane.parcels)


def fuse(base: Sequence[Run], rules: PackingRules) -> list[Run]:
    """Return `base` with the dependents that can ride along, parents before children.

    A dependent rides when every input that it still waits for is in the parcel, it may share a
    parcel with them, and it does not take work away from idle slots: the parcel stays within
    `target_s`, and a task of unknown duration rides only as its parent's first dependent, so that
    a chain needs one round trip and a fan-out is still spread over the slots.
    """
    members = list(base)
    key = members[0].stage.lane_key
    budget_s = rules.target_s - sum(
        (run.stage.estimate.seconds or 0.0) + rules.overhead_s for run in members
    )
    met: dict[Run, int] = {}
    for run in members:  # grows while we walk it
        first = True
        for child in run.children or ():
            if len(members) >= rules.max_runs:
                return members
            if not _may_ride(child, key):
                continue
            inside = met[child] = met.get(child, 0) + 1
            if inside < child.waiting:
                continue
            if len(child.deps) > inside and not _has_inputs(child):
                continue
            known = child.stage.estimate.seconds
            if known is None:
                if not first:
                    continue
            elif known + rules.overhead_s > budget_s:
                continue
            first = False
            budget_s -= (known or 0.0) + rules.overhead_s
            members.append(child)
    return members


def _may_ride(child: Run, key: LaneKey) -> bool:
    stage = child.stage
    return (
        child.parcel is None
        and child.state == PENDING
        and not child.solo
        and stage.lane_key == key
        and not stage.scope.cancelled
    )


def _has_inputs(run: Run) -> bool:
    """Whether no input was lost with its worker; those in the parcel are still to come."""
    return all(dep.kept for dep in run.deps[: run.taken])
