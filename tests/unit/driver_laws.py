"""What must hold of a driver after every event, and at the end of a story."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol

from daskflow.runner.core.driver import Driver
from daskflow.runner.core.graph import Parcel, Run
from daskflow.runner.core.states import (
    CACHED,
    CANCELLED,
    COMPLETED,
    CRASHED,
    FINAL,
    NOT_READY,
    SUCCESSFUL,
)


class Played(Protocol):
    """A simulated cluster that remembers every run."""

    @property
    def driver(self) -> Driver: ...
    @property
    def runs(self) -> Sequence[Run]: ...
    @property
    def inputs(self) -> Mapping[Run, tuple[tuple[Run, ...], frozenset[int]]]: ...
    @property
    def ends(self) -> Mapping[Run, str]: ...
    @property
    def lookups(self) -> Counter[Run]: ...
    @property
    def executions(self) -> Counter[Run]: ...
    @property
    def chargeable(self) -> Counter[Run]: ...


def check_books(cluster: Played) -> None:
    """Each run is in one place, and every count is that of what it counts."""
    driver = cluster.driver
    stages = {run.stage for run in cluster.runs}
    queued = Counter(run for stage in stages for run in stage.ready)
    delayed = Counter(entry[2] for entry in driver._attempts._delayed)
    flying: Counter[Run] = Counter()
    for parcel in driver.parcels.values():
        flying.update(parcel.open.values())
    for run in cluster.runs:
        open_now = run.state not in FINAL or run.redo
        places = queued[run] + flying[run]
        assert (run.parcel is not None) == (flying[run] == 1), run
        if not open_now:
            assert places == 0, f"{run!r} is final and still somewhere"
            assert cluster.ends.get(run) == run.state, f"{run!r} was {cluster.ends.get(run)}"
            continue
        places += run in driver._inputs.looking
        assert places + delayed[run] <= 1, f"{run!r} is in several places"
        assert places or delayed[run] or run.waiting, f"{run!r} is nowhere and waits for nothing"
        assert not (queued[run] and run.waiting), f"{run!r} is queued and waits"
        policy = run.stage.policy
        assert run.failures <= policy.retries, run
        assert run.crashes <= policy.crash_retries, run
        assert run.crashes <= cluster.chargeable[run], f"{run!r} paid for another"
    for lane in driver._lanes._order:
        mine = [parcel for parcel in driver.parcels.values() if parcel.lane is lane]
        assert (lane.parcels, lane.runs) == (len(mine), sum(len(p.open) for p in mine))
    probes = Counter(parcel.probe_of for parcel in driver.parcels.values())
    for stage in stages:
        assert stage.probing == probes[stage], stage.name
    for scope in {stage.scope for stage in stages}:
        mine = [run for run in cluster.runs if run.stage.scope is scope]
        assert scope.open == sum(run.state not in FINAL for run in mine)


def check_end(cluster: Played) -> None:
    """Every run has ended, in the way that its inputs and its budgets left it."""
    driver = cluster.driver
    assert not driver.parcels, driver.parcels
    assert not driver._inputs.looking, "an answer is still waited for"
    for run in cluster.runs:
        assert run.state in FINAL, f"{run!r} never ended"
        assert not run.redo, f"{run!r} was never made again"
        assert cluster.ends[run] == run.state
        policy = run.stage.policy
        assert run.failures <= policy.retries + 1, run
        assert run.crashes <= policy.crash_retries + 1, run
        assert run.crashes <= cluster.chargeable[run], f"{run!r} paid for another"
        assert cluster.executions[run] or run.state != COMPLETED, f"{run!r} was never executed"
        assert cluster.lookups[run] or run.state != CACHED, f"{run!r} was never looked up"
        if run.state not in SUCCESSFUL:
            assert run.error is not None, run
            assert run in run.stage.scope.failed, run
        _check_not_ready(cluster, run)
        assert run.dependents == 0, f"{run!r} counts {run.dependents} open dependents"


def _check_not_ready(cluster: Played, run: Run) -> None:
    deps, allowed = cluster.inputs[run]
    spreading = [dep for slot, dep in enumerate(deps) if slot not in allowed]
    if run.state == NOT_READY:
        bad = [dep for dep in spreading if dep.state not in SUCCESSFUL or dep.error is not None]
        assert bad, f"{run!r} had all its inputs"
        assert run.cause is not None
        assert run.cause.state not in SUCCESSFUL or run.cause.error is not None
        assert run.cause.state != NOT_READY
    elif any(dep.state not in SUCCESSFUL for dep in spreading):
        # crashed beside an input whose outcome was lost with it, and which failed when made again
        crashed_before = run.crashes > run.stage.policy.crash_retries
        ended_from_outside = run.stage.scope.cancelled or cluster.driver.refusal is not None
        ended_from_outside |= "task run that asked for it" in (run.message or "")
        assert crashed_before or ended_from_outside, f"{run!r} went without its inputs"
        assert run.state in (CANCELLED, CRASHED), run


def check_sent(parcel: Parcel) -> None:
    """A parcel leaves: nothing in it is final, or runs before its inputs."""
    before: set[Run] = set()
    for run in parcel.runs:
        assert run.state not in FINAL or run.redo, f"{run!r} was sent after its end"
        for slot, dep in enumerate(run.deps):
            if dep in before:
                continue
            assert dep.state in FINAL, f"{run!r} was sent before its input {dep!r}"
            at_hand = dep.kept or dep.error is not None
            assert slot >= run.taken or at_hand, f"{run!r} was sent without {dep!r}"
        before.add(run)
