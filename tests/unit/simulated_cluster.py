"""The simulated cluster with everybody's books kept, and the laws checked at every event."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from benchmarks.simulated_cluster import SimulatedCluster
from benchmarks.simulated_workers import Faults, Planned
from daskflow.runner.core.graph import Parcel, Remote, Run
from daskflow.runner.core.packing import PackingRules
from daskflow.runner.core.states import FINAL, PENDING
from tests.unit.driver_laws import check_books, check_end, check_sent


class Stored(Remote):
    """A result that the cache has found."""

    __slots__ = ()


class LookedUp(SimulatedCluster):
    """A simulated cluster whose look-ups are answered, some of them more than once."""

    lookups: Counter[Run]

    def answer_lookups(self, times: Sequence[int]) -> None:
        """Answer each run that is to be looked up, so many times, later."""
        for run in self.driver.take_lookups():
            assert self.lookups[run] == 0, f"{run!r} was looked up twice"
            self.lookups[run] += 1
            for _ in range(self.random.choice(times)):  # some answers come again, late
                self.after(self.latency() * 3, self._answer, run)

    def _answer(self, run: Run) -> None:
        if self.chance(0.5):
            self.driver.missed(run, self.now)
            return
        value = Stored() if self.chance(0.5) else ("found", run.number)
        self.driver.found(run, value, 10, self.now)
        if isinstance(value, Stored) and run.value is value and self.chance(0.3):
            self.driver.value_lost(run)  # evicted between its look-up and its use


class CheckedCluster(LookedUp):
    """A simulated cluster that remembers every run, for small stories.

    Parameters
    ----------
    seed : int
    slots : int
    faults : Faults
    rules : PackingRules, optional
    """

    def __init__(
        self,
        seed: int,
        slots: int = 3,
        faults: Faults = Faults(),  # noqa: B008 - immutable
        rules: PackingRules | None = None,
    ) -> None:
        self.runs: list[Run] = []
        self.inputs: dict[Run, tuple[tuple[Run, ...], frozenset[int]]] = {}
        self.ends: dict[Run, str] = {}
        self.lookups: Counter[Run] = Counter()
        self.executions: Counter[Run] = Counter()
        self.chargeable: Counter[Run] = Counter()
        super().__init__(seed, slots, faults, rules)

    def submit(self, run: Run) -> None:
        self.runs.append(run)
        self.inputs[run] = (run.deps, run.allowed or frozenset())
        super().submit(run)

    def run(self, limit: int | None = 100_000) -> None:
        super().run(limit)
        check_end(self)

    def wanted(self) -> bool:
        return any(run.state not in FINAL or run.redo for run in self.runs)

    def on_turn(self) -> None:
        check_books(self)
        self.answer_lookups((1, 1, 1, 2, 3))

    def _send(self, parcel: Parcel) -> None:
        if self.faults.claimed and self.chance(self.faults.claimed):
            self.after(self.latency(), self._recall, parcel)
        else:
            super()._send(parcel)

    def _recall(self, parcel: Parcel) -> None:
        if parcel.id not in self.driver.parcels:
            return
        looked_up = [
            run
            for run in parcel.open.values()
            if self.lookups[run] and run.state == PENDING and not run.redo
        ]
        parked = [run for run in looked_up if self.chance(0.5)]
        self.driver.recall(parcel.id, parked)
        for run in parked:
            self.after(self.latency() * 3, self._answer, run)

    def on_final(self, runs: Sequence[Run]) -> None:
        for run in runs:
            assert run not in self.ends, f"{run!r} ended twice"
            self.ends[run] = run.state

    def on_sent(self, parcel: Parcel) -> None:
        check_sent(parcel)

    def on_executed(self, done: Sequence[Planned], until: float) -> None:
        self.executions.update(planned.run for planned in done)

    def on_charged(self, runs: Iterable[Run]) -> None:
        self.chargeable.update(runs)
