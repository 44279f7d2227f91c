"""How many task runs go into a parcel, and which dependents ride along.

Pure decisions.  A Dask task costs milliseconds, a function call does not: so runs that are known
to be short share a parcel, up to `target_s` of work, but never so many that a slot would idle.
Runs of unknown duration go alone as probes.

Dask's scheduler handles one task after the other, so many slots need larger parcels: those of
`target_s` would come too slowly to keep more than some twenty slots busy.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from daskflow.runner.core.graph import Lane, LaneKey, Parcel, Run, Stage
from daskflow.runner.core.states import PENDING

__all__ = [
    "PROBE_AGAIN_S",
    "PackingRules",
    "async_room",
    "async_size",
    "full_parcel_s",
    "fuse",
    "parcel_share",
    "parcel_size",
    "probes_by",
    "ready_work_s",
    "time_box_s",
    "window",
]

PROBE_AGAIN_S = 0.025  # more probes may go after so long, if no outcome has come
_PROBES_AT_ONCE = 32  # for each parcel in flight per slot
_CHAIN_LOOK = 8  # dependents down a chain that are looked at when a parcel is sized


class PackingRules(NamedTuple):
    """The numbers that packing goes by.

    Attributes
    ----------
    target_s : float
        Work that a full parcel holds at least, in seconds.
    growth : float
        How many times as much it may hold while there is much more to do.
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
    scheduler_s : float
        What a parcel costs Dask's scheduler.
    scheduler_load : float
        Share of its time that the scheduler may spend on parcels.
    parcel_bytes : int
        Results that a parcel makes on its worker, about; runs that return more go alone, so that
        what they return is spread over the cluster.
    """

    target_s: float = 0.05
    growth: float = 5.0
    floor_s: float = 0.008
    max_runs: int = 2048
    depth: int = 2
    async_runs_per_slot: int = 5_000
    overhead_s: float = 5e-6
    scheduler_s: float = 0.0012
    scheduler_load: float = 0.5
    parcel_bytes: int = 4 << 20


def full_parcel_s(slots: int, rules: PackingRules, waiting_s: float = 0.0) -> float:
    """Seconds of work that a full parcel holds, while `waiting_s` of work are ready in its lane.

    With much to do, larger ones cost the cluster less, and the smaller ones that come at the end
    still spread it evenly.
    """
    share = waiting_s / (rules.depth * slots)
    long_s = min(share, rules.growth * rules.target_s)
    return max(rules.target_s, long_s, slots * rules.scheduler_s / rules.scheduler_load)


def parcel_size(
    stage: Stage, waiting_s: float, flying_s: float, slots: int, rules: PackingRules
) -> int:
    """How many ready runs of `stage` the next parcel takes, 1 or more.

    Parameters
    ----------
    stage : Stage
        With at least one ready run.
    waiting_s : float
        Work that is ready in its lane: as long as others wait too, no slot idles for a parcel
        that takes all of this stage.
    flying_s : float
        Work that is in flight in its lane.
    slots : int
        Threads on the cluster, 1 or more.
    rules : PackingRules
    """
    ready = len(stage.ready)
    known = stage.estimate.seconds
    if known is None:
        return 1
    cost_s = known + rules.overhead_s + _riding_s(stage.ready[0], rules)
    full_s = full_parcel_s(slots, rules, waiting_s)
    floor_s, shares = rules.floor_s, rules.depth * slots
    if full_parcel_s(slots, rules) > rules.target_s:
        floor_s = max(floor_s, _large_floor_s(waiting_s + flying_s, slots, rules))
        shares = slots  # smaller ones would cost the scheduler more than they balance
    share = max(
        # a hair less, or rounding would make 2.0000001 of 2
        math.ceil(waiting_s / shares / cost_s - 1e-6),
        int(floor_s / cost_s),
    )
    large = stage.estimate.result_bytes
    roomy = int(rules.parcel_bytes / large) if large else ready
    return max(1, min(ready, rules.max_runs, int(full_s / cost_s), share, roomy))


def async_size(stage: Stage, room: int, rules: PackingRules) -> int:
    """How many ready async runs the next parcel takes, when `room` parcels are to share them."""
    ready = len(stage.ready)
    return max(1, min(ready, rules.max_runs, math.ceil(ready / room)))


def _large_floor_s(work_s: float, slots: int, rules: PackingRules) -> float:
    """Work below which a parcel is too small where the scheduler hands out too few.

    It hands n parcels out in n * scheduler_s, and the last one takes 1 / n of the work.  But no
    slot waits for parcels that take as long as the scheduler needs to hand one to each slot, and
    smaller ones leave less to wait for at the end.
    """
    return min(math.sqrt(work_s * rules.scheduler_s), slots * rules.scheduler_s)


def _riding_s(run: Run, rules: PackingRules) -> float:
    """What the chain of dependents of `run` takes that would ride in its parcel, in seconds."""
    if run.children is None:
        return 0.0
    total_s, key = 0.0, run.stage.lane_key
    for _ in range(_CHAIN_LOOK):
        children = run.children
        if not children or len(children) > 1:
            break
        run = children[0]
        known = run.stage.estimate.seconds
        if known is None or run.waiting != 1 or run.stage.lane_key != key:
            break
        total_s += known + rules.overhead_s
    return total_s


def ready_work_s(stages: Iterable[Stage], rules: PackingRules) -> float:
    """What the ready runs of `stages` take with what rides along, as far as known, in seconds."""
    return sum(
        len(ready) * (known + rules.overhead_s + _riding_s(ready[0], rules))
        for stage in stages
        if (known := stage.estimate.seconds) is not None and (ready := stage.ready)
    )


def parcel_share(parcel: Parcel, rules: PackingRules) -> float:
    """What a parcel counts in the turns of its lane: seconds, or runs where they overlap."""
    if parcel.lane.key.is_async:
        return float(len(parcel.runs))
    return max(parcel.work_s, rules.target_s if parcel.probe_of is not None else 0.0)


def time_box_s(work_s: float, rules: PackingRules) -> float:
    """Seconds after which a worker hands back what it has not started of a parcel."""
    return 2 * max(rules.target_s, work_s)


def window(lane: Lane, slots: int, rules: PackingRules) -> int:
    """How many more parcels of `lane` may go out now."""
    if lane.key.is_async:
        return slots if async_room(lane, slots, rules) > 0 else 0
    parcels = lane.parcels + sum(other.parcels for other in lane.above)
    return max(0, rules.depth * slots - parcels)


def probes_by(elapsed_s: float, rules: PackingRules) -> float:
    """How many probes of a stage may be in flight so long after the first.

    As many as the scheduler hands out, or on many slots the parcels that the first outcomes allow
    would wait behind thousands of probes.
    """
    if not rules.scheduler_s:
        return math.inf
    return _PROBES_AT_ONCE * rules.depth + max(0.0, elapsed_s) / rules.scheduler_s


def async_room(lane: Lane, slots: int, rules: PackingRules) -> int:
    """How many more async runs may be in flight; what rides along may make it negative."""
    flying = lane.runs + sum(other.runs for other in lane.above)
    return rules.async_runs_per_slot * slots - flying


def fuse(base: Sequence[Run], slots: int, rules: PackingRules) -> tuple[list[Run], float]:
    """Return `base`, runs of one stage, with the dependents that can ride along, after them.

    The second part of the answer is what they take together, as far as it is known, in seconds.

    A dependent rides when every input that it still waits for is in the parcel, it may share a
    parcel with them, and it does not take work away from idle slots: the parcel stays within
    `target_s`, only the first dependent of each rides in a larger one, and a task of unknown
    duration rides only as such.  So a chain needs one round trip and a fan-out is still spread
    over the slots.
    """
    members = list(base)
    stage = members[0].stage
    key = stage.lane_key
    work_s = len(members) * ((stage.estimate.seconds or 0.0) + rules.overhead_s)
    if not any(run.children for run in base):
        return members, work_s
    first_s = full_parcel_s(slots, rules)
    met: dict[Run, int] = {}
    for run in members:  # grows while we walk it
        first = True
        for child in run.children or ():
            if len(members) >= rules.max_runs:
                return members, work_s
            if not _may_ride(child, key):
                continue
            inside = met[child] = met.get(child, 0) + 1
            if inside < child.waiting:
                continue
            if len(child.deps) > inside and not _has_inputs(child):
                continue
            known = child.stage.estimate.seconds
            cost_s = (known or 0.0) + rules.overhead_s
            if known is None:
                if not first:
                    continue
            elif work_s + cost_s > (first_s if first else rules.target_s):
                continue
            first = False
            work_s += cost_s
            members.append(child)
    return members, work_s


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
