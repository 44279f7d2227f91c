"""The simulated cluster on its worst day, with the invariants checked after every event.

To what `SimulatedCluster` does it adds: messages that are split, lost or seconds late; losses of
workers that are told twice, or of workers that go on and report; timeouts whose bodies go on; work
handed back at any time; losses of the scheduler, which take all workers, parcels and most messages
along; wall clocks that are set by an hour, on the driver's machine and on others.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple

from benchmarks.simulated_workers import (
    Execution,
    Faults,
    Planned,
    SimulatedValue,
    Worker,
)
from daskflow.errors import TaskTimedOut
from daskflow.runner.core.graph import Outcome, Parcel, Run, Stage
from daskflow.runner.core.packing import PackingRules
from daskflow.runner.core.states import FINAL, SUCCESSFUL
from tests.unit.invariants import Books
from tests.unit.noted_driver import NotedDriver, labels
from tests.unit.simulated_cluster import LookedUp

__all__ = ["CALM", "FaultyCluster", "Trouble"]

HOUR_S = 3600.0
LOOKS_AFTER_S = 5.0  # the shell asks Dask about a parcel that has been silent for so long
LONGEST_DELAY_S = 5.0


class Trouble(NamedTuple):
    """How often what happens besides `Faults`; probabilities unless the name says otherwise."""

    split: float = 0.0  # a report comes as several messages
    dropped: float = 0.0  # a message never comes
    late: float = 0.0  # a message takes seconds
    told_twice: float = 0.0  # the loss of a worker is told again
    zombie: float = 0.0  # a worker that was given up goes on, and reports
    timed_out: float = 0.0  # a run is told to have taken too long; its body goes on
    hands_back: float = 0.0  # a worker gives back what it has not started, and perhaps its slot
    skewed: float = 0.0  # the clock of a worker is wrong by an hour
    scheduler_lost_every_s: float | None = None
    clock_set_every_s: float | None = None


CALM = Trouble()


class FaultyCluster(LookedUp):
    """A simulated cluster for small stories.

    Parameters
    ----------
    seed : int
    slots : int
    faults : Faults
    trouble : Trouble
    rules : PackingRules
    story : list of str, optional
        Gets a line for each event.
    """

    driver: NotedDriver

    counts_late = False  # that is for the driver to do

    def __init__(
        self,
        seed: int,
        slots: int,
        faults: Faults,
        trouble: Trouble,
        rules: PackingRules,
        story: list[str] | None = None,
    ) -> None:
        self.trouble = trouble
        driver = NotedDriver(rules, random.Random(~seed).random, story)
        self.books = Books(LONGEST_DELAY_S, driver.lost_values)
        self.runs, self.inputs, self.ends = self.books.runs, self.books.inputs, self.books.ends
        self.lookups, self.executions = self.books.lookups, self.books.executions
        self.chargeable = self.books.chargeable
        self.stages: list[Stage] = []
        self._down = False  # the scheduler is
        self._went_with_it: set[Worker] = set()
        self._clocks: dict[str, float] = {}
        restart_s = random.Random(seed).choice((0.0, 0.0, 0.2))
        super().__init__(seed, slots, faults, driver=driver, restart_s=restart_s)
        self._repeat(trouble.scheduler_lost_every_s, self.lose_scheduler)
        self._repeat(trouble.clock_set_every_s, self._set_clock)

    # -- what happens now and then -------------------------------------------------------------

    def _repeat(self, every_s: float | None, call: Callable[[], None]) -> None:
        if every_s is not None:
            self.after(self.random.expovariate(1 / every_s), self._again, every_s, call)

    def _again(self, every_s: float, call: Callable[[], None]) -> None:
        call()
        self._repeat(every_s, call)

    def _set_clock(self) -> None:
        self.driver.offset_s += self.random.choice((-HOUR_S, HOUR_S))
        self.driver.note(f"the clock is set to {self.driver.offset_s:+.0f} s")

    def quiet(self) -> None:
        """From now on nothing goes wrong any more."""
        self.faults = Faults(error=0, slow=0, loss_every_s=None, large=0.5, twice=0)
        self.trouble = CALM
        ends = (self._lose_some_worker, self._again)
        self.events = [event for event in self.events if event[2] not in ends]
        heapq.heapify(self.events)

    # -- the flow ------------------------------------------------------------------------------

    def submit(self, run: Run) -> None:
        self.books.submitted(run)
        super().submit(run)

    def run(self, limit: int | None = 20_000) -> None:
        """Play the story; then ask for every result that somebody still holds."""
        super().run(limit)
        self.quiet()
        for run in self.runs:
            if run.held and run.state in SUCCESSFUL:
                if isinstance(run.value, SimulatedValue) and not run.value.alive:
                    self.driver.value_lost(run)  # whoever fetches it finds out
                self.driver.value_needed(run)
        super().run(limit)
        self.books.check_end(self)

    def wanted(self) -> bool:
        return any(run.state not in FINAL or run.redo for run in self.runs)

    # -- what is seen --------------------------------------------------------------------------

    def on_turn(self) -> None:
        self.books.check(self)
        self.driver.slots = max(1, len(self.workers))
        self.answer_lookups((1, 1, 2, 3))

    def on_final(self, runs: Sequence[Run]) -> None:
        if self.driver.story is not None:
            self.driver.note("  ended: " + ", ".join(f"{r.label} {r.state}" for r in runs))
        self.books.ended(runs)

    def on_sent(self, parcel: Parcel) -> None:
        if self.driver.story is not None:
            self.driver.note(f"  sent parcel {parcel.id}: {labels(parcel.runs)}")
        self.books.sent(parcel)

    def on_executed(self, done: Sequence[Planned], until: float) -> None:
        self.books.executed(done)

    def on_charged(self, runs: Iterable[Run]) -> None:
        self.chargeable.update(runs)

    # -- parcels and messages ------------------------------------------------------------------

    def latency(self) -> float:
        if self.chance(self.trouble.late):
            return self.random.choice((0.3, 2.0))
        return super().latency()

    def _arrive(self, parcel: Parcel) -> None:
        if not self._down:
            super()._arrive(parcel)

    def _execute(self, worker: Worker, parcel: Parcel) -> None:
        super()._execute(worker, parcel)
        execution = worker.execution
        if execution is None or not execution.plan:
            return
        if self.chance(self.trouble.timed_out):
            planned = self.random.choice(execution.plan)
            middle = (planned.start + planned.end) / 2
            self.at(middle, self._time_out, worker, execution, planned)
        if self.chance(self.trouble.hands_back):
            at = self.random.uniform(execution.plan[0].start, execution.plan[-1].end)
            self.at(at, self._hand_back, worker, execution)

    def _time_out(self, worker: Worker, execution: Execution, planned: Planned) -> None:
        if worker.lost:
            return
        run = planned.run
        self.books.executions[run] += 1
        self.books.failed[run] += 1
        error = TaskTimedOut(run.task_run_id, "ran longer than it may")
        outcome = Outcome(run.number, False, planned.start, 0.01, None, error, timed_out=True)
        self._deliver(execution.parcel, self._take_report, [outcome], [], False, worker.name)

    def _hand_back(self, worker: Worker, execution: Execution) -> None:
        """A worker is drained, or what it executes waits for runs of its own."""
        if worker.lost or worker.execution is not execution:
            return
        rest = [planned for planned in execution.plan if planned.start > self.now]
        if rest:
            del execution.plan[-len(rest) :]
        back = [planned.run.number for planned in rest]
        self._deliver(execution.parcel, self._take_report, [], back, False, worker.name)
        if self.chance(0.5):
            self.driver.parcel_waits(execution.parcel.id)

    def _deliver(self, parcel: Parcel, arrive: Callable[..., None], *args: object) -> None:
        if arrive != self._take_report:
            self._post(parcel, arrive, args)
            return
        told, back, final, worker = args
        assert isinstance(told, list)
        outcomes = [self._as_told(parcel, outcome, str(worker)) for outcome in told]
        messages: list[tuple[object, ...]] = [(outcomes, back, final, worker)]
        if self.chance(self.trouble.split):
            middle = len(outcomes) // 2
            messages = [
                (outcomes[:middle], [], False, worker),
                (outcomes[middle:], [], False, worker),
            ]
            messages += [([], back, False, worker), ([], [], final, worker)]
        for message in messages:
            self._post(parcel, arrive, message)

    def _as_told(self, parcel: Parcel, outcome: Outcome, worker: str) -> Outcome:
        value = outcome.value
        if isinstance(value, SimulatedValue):
            self.books.made_in[value] = parcel.id
        elif value is not None:
            outcome = outcome._replace(value=(parcel.id, outcome.number))
        if not self.trouble.skewed:
            return outcome
        if worker not in self._clocks:
            wrong = self.chance(self.trouble.skewed)
            self._clocks[worker] = self.random.choice((-HOUR_S, HOUR_S)) if wrong else 0.0
        jump = self.random.choice((-HOUR_S, HOUR_S)) if self.chance(0.01) else 0.0
        started_at = outcome.started_at + self._clocks[worker]
        return outcome._replace(started_at=started_at, run_s=outcome.run_s + jump)

    def _post(self, parcel: Parcel, arrive: Callable[..., None], args: tuple[object, ...]) -> None:
        if self.chance(self.trouble.dropped):
            self.driver.note(f"a message about parcel {parcel.id} is lost")
        else:
            super()._deliver(parcel, arrive, *args)
        if self.trouble.dropped:
            self.after(LOOKS_AFTER_S, self._look, parcel)

    def _look(self, parcel: Parcel) -> None:
        """Dask says that a parcel has ended, and its final report has not come."""
        if parcel.id not in self.driver.parcels or parcel in [p for _, _, p in self._backlog]:
            return
        for worker in self.workers:
            if parcel in worker.queue or (worker.execution and worker.execution.parcel is parcel):
                self.after(LOOKS_AFTER_S, self._look, parcel)
                return
        text = "it ended without a final report"
        self.driver.parcel_lost(parcel.id, self.now, text, executing=(), expected=True)

    # -- losses --------------------------------------------------------------------------------

    def lose(self, worker: Worker) -> None:
        execution = worker.execution
        self.driver.note(f"({worker.name} is gone)")
        if execution is not None and execution.plan and self.chance(self.trouble.zombie):
            self._perform(worker, execution)
            rest = execution.plan[execution.done :]
            if rest:
                self.books.executed(rest)
            told = [*execution.told, *(planned.outcome((0, 0)) for planned in rest)]
            back = [*execution.skipped, *execution.rest]
            report = (execution.parcel, self._take_report, told, back, True, worker.name)
            self.at(execution.plan[-1].end, self._deliver, *report)
        super().lose(worker)

    def _notice(
        self,
        worker: Worker,
        lost: Sequence[tuple[Parcel, tuple[int, ...]]],
        expected: bool,
        blind: bool,
    ) -> None:
        if worker in self._went_with_it:
            expected, blind = True, False
        super()._notice(worker, lost, expected, blind)
        if self.chance(self.trouble.told_twice):
            self.after(self.latency() * 3, self._notice, worker, lost, expected, blind)

    def _report_loss(
        self, parcel: Parcel, cause: str, executing: Collection[int] | None, *, expected: bool
    ) -> None:
        super()._report_loss(parcel, cause, executing, expected=expected)
        if self.chance(self.trouble.told_twice):
            self.driver.parcel_lost(
                parcel.id, self.now, cause, executing=executing, expected=expected
            )

    def lose_scheduler(self) -> None:
        """All workers end with their scheduler, and so does what was on its way."""
        self.driver.note("(the scheduler is gone)")
        self._down = True
        for worker in list(self.workers):
            self._went_with_it.add(worker)
            self.lose(worker)
        self._backlog.clear()
        messages = (self._take_report, self.driver.started)
        self.events = [
            event for event in self.events if event[2] not in messages or self.chance(0.3)
        ]
        heapq.heapify(self.events)
        self.after(self.latency(), self._scheduler_comes)

    def _scheduler_comes(self) -> None:
        """The shell has found out, and has another one."""
        self._down = False
        for parcel in list(self.driver.parcels.values()):
            text = "Dask cancelled its key"
            self.driver.parcel_lost(parcel.id, self.now, text, executing=(), expected=True)
