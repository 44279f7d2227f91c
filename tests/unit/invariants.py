"""The invariants of a run's life, checked after every event of a simulated story.

What the driver says is compared with what really happened on the simulated workers, which only the
simulation knows: which executions ended, in which parcel, what was executing when a worker went.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from benchmarks.simulated_workers import SUCCEEDS, Planned, SimulatedValue
from daskflow.runner.core.graph import Parcel, Run
from daskflow.runner.core.states import CACHED, COMPLETED, FINAL, SUCCESSFUL
from tests.unit.driver_laws import check_end, check_sent

if TYPE_CHECKING:
    from tests.unit.faulty_cluster import FaultyCluster

__all__ = ["Books"]


class Books:
    """What really happened, run by run.

    Parameters
    ----------
    longest_delay_s : float
        No retry may wait longer.
    lost_values : set
        Values whose loss the driver was told of.
    """

    def __init__(self, longest_delay_s: float, lost_values: set[object]) -> None:
        self.longest_delay_s = longest_delay_s
        self.lost_values = lost_values
        self.runs: list[Run] = []
        self.inputs: dict[Run, tuple[tuple[Run, ...], frozenset[int]]] = {}
        self.ends: dict[Run, str] = {}
        self.results: dict[Run, object] = {}  # of final runs, until they are made again
        self.lookups: Counter[Run] = Counter()
        self.executions: Counter[Run] = Counter()
        self.failed: Counter[Run] = Counter()  # executions that raised, or took too long
        self.chargeable: Counter[Run] = Counter()  # losses while it was executing
        self.sent_in: dict[Run, int] = {}  # the parcel of the last attempt
        self.made_in: dict[object, int] = {}  # a value on a worker: the parcel it was made in

    def submitted(self, run: Run) -> None:
        """A run is about to be submitted."""
        self.runs.append(run)
        self.inputs[run] = (run.deps, run.allowed or frozenset())

    def executed(self, done: Iterable[Planned]) -> None:
        """These executions have ended, or were cut off."""
        for planned in done:
            self.executions[planned.run] += 1
            if planned.ends is not SUCCEEDS:
                self.failed[planned.run] += 1

    def sent(self, parcel: Parcel) -> None:
        """A parcel leaves: nothing in it is final, or runs before its inputs."""
        check_sent(parcel)
        for run in parcel.runs:
            assert not run.stage.scope.cancelled or run.redo, f"{run!r} was sent though cancelled"
            self.sent_in[run] = parcel.id

    def ended(self, runs: Iterable[Run]) -> None:
        """Runs became final: for the first time, and for a reason."""
        for run in runs:
            assert run not in self.ends, f"{run!r} ended twice"
            self.ends[run] = run.state
            self.results[run] = run.value
            if run.state == COMPLETED:
                self._check_origin(run, run.value)
                deps, allowed = self.inputs[run]
                for slot, dep in enumerate(deps):
                    assert dep.state in FINAL, f"{run!r} completed before its input {dep!r}"
                    fine = dep.state in SUCCESSFUL or slot in allowed
                    assert fine, f"{run!r} completed without its input {dep!r}"

    def _check_origin(self, run: Run, value: object) -> None:
        """An execution of an older attempt commits nothing."""
        if isinstance(value, SimulatedValue):
            made_in: object = self.made_in.get(value)
        else:
            assert isinstance(value, tuple), f"{run!r} has no result: {value!r}"
            made_in = value[0]
            assert value[1] == run.number, f"{run!r} has the result of another: {value!r}"
        assert made_in == self.sent_in[run], f"{run!r} got the result of attempt {made_in}"

    # -- after every event ---------------------------------------------------------------------

    def check(self, cluster: FaultyCluster) -> None:
        """Each run is in one place, and what the driver holds of it is true."""
        driver = cluster.driver
        due = driver.next_due()
        assert due is None or due <= cluster.now + self.longest_delay_s, f"due at {due}"
        places: dict[Run, int] = {}
        for stage in cluster.stages:
            for run in stage.ready:
                assert not run.waiting, f"{run!r} is queued and waits"
                places[run] = places.get(run, 0) + 1
        flying: Counter[object] = Counter()
        for parcel in driver.parcels.values():
            flying[parcel.lane.key] += not parcel.gave_way
            flying[parcel.probe_of] += 1
            for run in parcel.open.values():
                assert run.parcel is parcel, f"{run!r} is not in {parcel!r}"
                places[run] = places.get(run, 0) + 1
        for lane in driver._lanes._order:
            assert lane.parcels == flying[lane.key], f"{lane.key!r} counts its parcels wrong"
        for stage in cluster.stages:
            assert stage.probing == flying[stage], f"{stage.name} counts its probes wrong"
        for run in driver._inputs.looking:
            places[run] = places.get(run, 0) + 1
        delayed = {entry[2] for entry in driver._attempts._delayed}
        ends, results, lost = self.ends, self.results, self.lost_values
        for run in self.runs:
            state = run.state
            if state in FINAL:
                assert ends.get(run) == state, f"{run!r} was {ends.get(run)}"
                if state in SUCCESSFUL:
                    value = run.value
                    if value is not results[run] or value is None or value in lost or run.waiting:
                        self._check_result(run)
                if not run.redo:
                    assert run not in places, f"{run!r} is final and still somewhere"
                    continue
            here = places.get(run, 0) + (run in delayed)
            assert here <= 1, f"{run!r} is in several places"
            assert here or run.waiting, f"{run!r} is nowhere and waits for nothing"
            if run.attempt or run.crashes or run.failures:
                self._check_budgets(run)
        for run, losses in self.chargeable.items():
            goes_on = run.state not in FINAL or run.redo
            assert not goes_on or run.crashes == losses, f"{run!r} was not charged {losses} losses"

    def _check_result(self, run: Run) -> None:
        """What a run returned can be read, or the driver knows that it is gone."""
        waits = run.waiting and not run.redo and run.error is None
        assert not waits, f"{run!r} has succeeded, and waits"
        value, known = run.value, self.results.get(run)
        if not run.kept:
            self.results[run] = None
            return
        if value is not known:
            assert known is None, f"the result of {run!r} changed from {known!r} to {value!r}"
            self._check_origin(run, value)
            self.results[run] = value
        assert value is not None, f"{run!r} has no result"
        assert value not in self.lost_values, f"{run!r} keeps a result that is lost"

    def _check_budgets(self, run: Run) -> None:
        policy = run.stage.policy
        assert run.failures <= policy.retries, f"{run!r} goes on beyond its retries"
        assert run.crashes <= policy.crash_retries, f"{run!r} goes on beyond its crash_retries"
        self._check_charges(run)

    def _check_charges(self, run: Run) -> None:
        assert run.crashes <= self.chargeable[run], f"{run!r} paid for another"
        assert run.failures <= self.failed[run], f"{run!r} paid for an exception twice"
        executed = self.executions[run] + self.chargeable[run]
        assert run.attempt <= executed, f"{run!r} counts attempts that were none"

    # -- at the end ----------------------------------------------------------------------------

    def check_end(self, cluster: FaultyCluster) -> None:
        """Every run has ended as its inputs and budgets left it; every result can be had."""
        check_end(cluster)
        for run in self.runs:
            self._check_charges(run)
            policy = run.stage.policy
            attempts = 1 + policy.retries + policy.crash_retries
            assert run.attempt <= attempts, f"{run!r} had {run.attempt} attempts"
            assert run.state != CACHED or self.lookups[run], f"{run!r} was never looked up"
            if run.state in SUCCESSFUL and run.held and run.error is None:
                assert run.kept, f"the result of {run!r} cannot be read"
                dead = isinstance(run.value, SimulatedValue) and not run.value.alive
                assert not dead, f"the result of {run!r} is on a worker that is gone"
