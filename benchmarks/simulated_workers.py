"""What a simulated cluster is made of: its faults, its workers and what they execute."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from daskflow.runner.core.graph import Outcome, Parcel, Remote, Run
from daskflow.runner.core.states import FINAL

__all__ = ["Execution", "Faults", "Planned", "SimulatedValue", "Spectator", "Worker", "lost_inputs"]

RAISES, EXITS, SUCCEEDS = "raises", "exits", "succeeds"


class Faults(NamedTuple):
    """How often what happens; probabilities unless the name says otherwise."""

    error: float = 0.1  # an execution raises
    exits: float = 0.0  # an execution asks its process to end
    slow: float = 0.05  # an execution takes a hundred times as long
    loss_every_s: float | None = 0.5  # mean time between losses of a worker
    blind: float = 0.3  # nobody knows what a lost worker was executing
    retired: float = 0.1  # the loss was expected
    large: float = 0.3  # a result stays on its worker
    twice: float = 0.1  # a report is delivered a second time, later
    partial: float = 0.2  # outcomes are told after a run, not only at the end of a parcel
    reordered: float = 0.0  # a report overtakes those of its parcel that were sent before
    broken: float = 0.0  # the cluster cannot run a parcel at all
    claimed: float = 0.0  # others make what runs of a parcel would make, so it does not go

    def ending(self, chance: Callable[[float], bool]) -> str:
        """How an execution ends."""
        if chance(self.exits):
            return EXITS
        return RAISES if chance(self.error) else SUCCEEDS


class SimulatedValue(Remote):
    """A value on a simulated worker."""

    __slots__ = ("alive",)

    def __init__(self) -> None:
        self.alive = True


class Planned(NamedTuple):
    """One execution that is to happen on a worker."""

    run: Run
    start: float
    end: float
    ends: str

    def outcome(self, value: object) -> Outcome:
        """What its worker tells of it."""
        number, run_s = self.run.number, self.end - self.start
        if self.ends is SUCCEEDS:
            return Outcome(number, True, self.start, run_s, value)
        if self.ends is EXITS:
            return Outcome(number, False, self.start, run_s, None, SystemExit(1), crashed=True)
        return Outcome(number, False, self.start, run_s, None, ValueError("by chance"))


class Execution:
    """A parcel on a worker."""

    __slots__ = ("done", "parcel", "plan", "rest", "skipped", "told")

    def __init__(self, parcel: Parcel) -> None:
        self.parcel = parcel
        self.plan: list[Planned] = []
        self.done = 0  # of the plan
        self.skipped: list[int] = []  # a parent of theirs failed beside them
        self.rest: list[int] = []  # not started within the time box
        self.told: list[Outcome] = []


class Worker:
    """One slot: what it executes, what waits for it, and the values that it holds."""

    __slots__ = ("came_at", "execution", "full", "lost", "name", "queue", "values")

    def __init__(self, name: str, came_at: float) -> None:
        self.name = name
        self.came_at = came_at
        self.lost = False
        self.execution: Execution | None = None
        self.queue: deque[Parcel] = deque()
        self.values: list[tuple[Run, SimulatedValue]] = []
        self.full = 16  # values, when those are forgotten that the driver has dropped

    def keep(self, run: Run, value: SimulatedValue) -> None:
        """Hold a value until this worker is lost, or nobody wants it any more."""
        self.values.append((run, value))
        if len(self.values) > self.full:
            self.values = [
                (run, value)
                for run, value in self.values
                if run.value is value or run.redo or run.state not in FINAL
            ]
            self.full = 2 * len(self.values) + 16


class Spectator:
    """What a test or a benchmark may want to hear of a simulated cluster, by overriding it."""

    counts_late = True  # reports of parcels that are closed; else the driver gets them

    def on_turn(self) -> None:
        """One event and all that follows from it has happened."""

    def on_final(self, runs: Sequence[Run]) -> None:
        """These runs have ended."""

    def on_sent(self, parcel: Parcel) -> None:
        """The driver decided to send this parcel."""

    def on_executed(self, done: Sequence[Planned], until: float) -> None:
        """These executions have ended by `until`, or were cut off then by the loss of a worker."""

    def on_worker_gone(self, worker: Worker) -> None:
        """This worker was lost."""

    def on_charged(self, runs: Iterable[Run]) -> None:
        """The loss of a worker may be charged to these runs."""


def lost_inputs(parcel: Parcel) -> list[Run]:
    """Inputs whose values were on a worker that is lost."""
    return [
        dep
        for run in parcel.runs
        if run.deps
        for dep in run.deps[: run.taken]
        if isinstance(dep.value, SimulatedValue) and not dep.value.alive
    ]
