"""A cluster that is only a queue of events: random durations, faults and latencies, from one seed.

It carries out the driver's decisions as the shell, Dask and the workers would: parcels wait for a
worker, runs execute in turn, reports travel with a delay and sometimes twice, workers are lost with
their queue, their unreported outcomes and the values that they held.  After every event the
driver's books are checked (`driver_laws`).  Same seed, same story.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from daskflow.runner.core.driver import Driver
from daskflow.runner.core.graph import Outcome, Parcel, Remote, Run, Scope
from daskflow.runner.core.packing import PackingRules
from daskflow.runner.core.states import FINAL, SUCCESSFUL
from tests.unit.driver_laws import check_books, check_end


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
    broken: float = 0.0  # the cluster cannot run a parcel at all


class SimulatedValue(Remote):
    """A value on a simulated worker."""

    __slots__ = ("alive",)

    def __init__(self) -> None:
        self.alive = True


class Execution:
    """A parcel on a worker."""

    def __init__(self, parcel: Parcel, deadline: float | None) -> None:
        self.parcel = parcel
        self.pending = deque(parcel.runs)
        self.inside = set(parcel.runs)
        self.made: set[Run] = set()
        self.told: list[Outcome] = []
        self.skipped: list[int] = []
        self.running: Run | None = None
        self.deadline = deadline


class Worker:
    """One slot: what it executes, what waits for it, and the values that it holds."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lost = False
        self.execution: Execution | None = None
        self.queue: deque[Parcel] = deque()
        self.values: list[tuple[Run, SimulatedValue]] = []


class SimulatedCluster:
    """A driver, its shell and its workers.

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
        self.random = random.Random(seed)
        self.faults = faults
        self.now = 0.0
        self.driver = Driver(rules, self.random.random)
        self.driver.slots = slots
        self.workers = [Worker(f"w{n}") for n in range(slots)]
        self._names = itertools.count(slots)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._last_delivery: dict[int, float] = {}  # reports of one parcel keep their order
        self.runs: list[Run] = []
        self.inputs: dict[Run, tuple[tuple[Run, ...], frozenset[int]]] = {}
        self.ends: dict[Run, str] = {}
        self.executions: Counter[Run] = Counter()
        self.chargeable: Counter[Run] = Counter()
        self.submissions = 0
        if faults.loss_every_s is not None:
            self.after(self._next_loss(), self._lose_some_worker)

    # -- the user ------------------------------------------------------------------------------

    def at(self, when: float, call: Callable[[], None]) -> None:
        """Have `call` happen at a time."""
        heapq.heappush(self._events, (when, next(self._order), call))

    def after(self, delay: float, call: Callable[[], None]) -> None:
        """Have `call` happen after a delay."""
        self.at(self.now + delay, call)

    def submit(self, run: Run) -> None:
        """Submit a run, as a flow would."""
        self.runs.append(run)
        self.inputs[run] = (run.deps, run.allowed or frozenset())
        self.driver.submit(run)

    def let_go(self, run: Run) -> None:
        """Drop the future of a run, as the shell is told of it."""
        run.held = False
        if run.state in FINAL and isinstance(run.value, Remote):
            self.driver.let_go(run)

    def cancel(self, scope: Scope) -> None:
        """Cancel a flow run; parcels that wait for a worker are dropped."""
        self.driver.cancel(scope, self.now)
        for worker in self.workers:
            for parcel in list(worker.queue):
                if all(run.stage.scope.cancelled for run in parcel.runs):
                    worker.queue.remove(parcel)
                    self.driver.drop_parcel(parcel.id, self.now)

    # -- time ----------------------------------------------------------------------------------

    def run(self, limit: int = 100_000) -> None:
        """Let everything happen until nothing is left to happen, checking after each step."""
        for _ in range(limit):
            self._turn()
            due = self.driver.next_due()
            coming = self._events[0][0] if self._events else None
            if due is not None and (coming is None or due <= coming):
                self.now = max(self.now, due)
                self.driver.tick(self.now)
            elif coming is not None and not self._quiet():
                self.now, _, call = heapq.heappop(self._events)
                call()
            else:
                break
        else:
            raise AssertionError(f"not done after {limit} events")
        check_end(self)

    def _quiet(self) -> bool:
        """Whether only faults are left to happen."""
        return self.submissions == 0 and not self.driver.parcels and not self._wanted()

    def _wanted(self) -> bool:
        return any(run.state not in FINAL or run.redo for run in self.runs)

    def _turn(self) -> None:
        self.driver.pack(self.now)
        send, final, _, _ = self.driver.take()
        for run in final:
            assert run not in self.ends, f"{run!r} ended twice"
            self.ends[run] = run.state
        for parcel in send:
            self._send(parcel)
        check_books(self)

    # -- parcels -------------------------------------------------------------------------------

    def _send(self, parcel: Parcel) -> None:
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
        self.after(self._latency(), lambda: self._arrive(parcel))

    def _arrive(self, parcel: Parcel) -> None:
        if parcel.id not in self.driver.parcels:
            return
        if self._chance(self.faults.broken):
            self.driver.parcel_failed(parcel.id, self.now, "it cannot run")
            return
        if gone := self._gone(parcel):
            for dep in gone:
                self.driver.value_lost(dep)
            self._report_loss(parcel, "an input was lost", (), expected=True)
            return
        worker = min(self.workers, key=lambda each: len(each.queue) + bool(each.execution))
        worker.queue.append(parcel)
        if worker.execution is None:
            self._begin(worker)

    def _gone(self, parcel: Parcel) -> list[Run]:
        """Inputs whose values were on a worker that is lost."""
        return [
            dep
            for run in parcel.runs
            for dep in run.deps[: run.taken]
            if isinstance(dep.value, SimulatedValue) and not dep.value.alive
        ]

    def _begin(self, worker: Worker) -> None:
        if worker.lost or not worker.queue:
            return
        parcel = worker.queue.popleft()
        box_s = parcel.box_s
        worker.execution = Execution(parcel, None if box_s is None else self.now + box_s)
        self._next_run(worker)

    def _next_run(self, worker: Worker) -> None:
        execution = worker.execution
        assert execution is not None
        while execution.pending:
            if execution.deadline is not None and self.now > execution.deadline:
                break
            run = execution.pending.popleft()
            inside, _ = self.inputs[run]
            if any(dep in execution.inside and dep not in execution.made for dep in inside):
                execution.skipped.append(run.number)  # its parent failed beside it
                continue
            self._start(worker, execution, run)
            return
        rest = [run.number for run in execution.pending]
        worker.execution = None
        self._report(worker, execution, [*execution.skipped, *rest], final=True)
        self._begin(worker)

    def _start(self, worker: Worker, execution: Execution, run: Run) -> None:
        execution.running = run
        self.executions[run] += 1
        start, duration = self.now, self.random.expovariate(1 / 0.01)
        if self._chance(self.faults.slow):
            duration *= 100
            self.after(duration / 2, lambda: self._tell_running(worker, execution, run))
        self.after(duration, lambda: self._end_run(worker, execution, run, start))

    def _end_run(self, worker: Worker, execution: Execution, run: Run, start: float) -> None:
        if worker.lost:
            return
        execution.running = None
        execution.told.append(self._outcome(worker, run, start))
        if execution.told[-1].ok:
            execution.made.add(run)
        if self._chance(0.2):
            self._report(worker, execution, [], final=False)
        self._next_run(worker)

    def _outcome(self, worker: Worker, run: Run, start: float) -> Outcome:
        took = self.now - start
        if self._chance(self.faults.exits):
            return Outcome(run.number, False, start, took, None, SystemExit(1), crashed=True)
        if self._chance(self.faults.error):
            return Outcome(run.number, False, start, took, None, ValueError("by chance"))
        value: object = (0, run.number)
        if self._chance(self.faults.large):
            value = kept = SimulatedValue()
            worker.values.append((run, kept))
        return Outcome(run.number, True, start, took, value)

    # -- reports -------------------------------------------------------------------------------

    def _tell_running(self, worker: Worker, execution: Execution, run: Run) -> None:
        if execution.running is run and not worker.lost:
            parcel, at = execution.parcel, self.now
            self._deliver(
                parcel, lambda: self.driver.started(parcel.id, run.number, at, worker.name)
            )

    def _report(
        self, worker: Worker, execution: Execution, back: Sequence[int], *, final: bool
    ) -> None:
        parcel, told, execution.told = execution.parcel, execution.told, []

        def arrive() -> None:
            if parcel.id not in self.driver.parcels:
                self.driver.late += 1
                return
            if told:
                self.driver.outcomes(parcel.id, told, worker.name, 1)
            if back:
                self.driver.handed_back(parcel.id, back)
            if final:
                self.driver.parcel_done(parcel.id)

        self._deliver(parcel, arrive)

    def _deliver(self, parcel: Parcel, arrive: Callable[[], None]) -> None:
        when = max(self.now + self._latency(), self._last_delivery.get(parcel.id, 0.0))
        self._last_delivery[parcel.id] = when
        self.at(when, arrive)
        if self._chance(self.faults.twice):
            self.at(when + self._latency(), arrive)

    # -- losses --------------------------------------------------------------------------------

    def _lose_some_worker(self) -> None:
        self.lose(self.random.choice(self.workers))
        self.after(self._next_loss(), self._lose_some_worker)

    def lose(self, worker: Worker) -> None:
        """Kill a worker; another one takes its place, and the driver hears of it later."""
        worker.lost = True
        self.workers[self.workers.index(worker)] = Worker(f"w{next(self._names)}")
        for _, value in worker.values:
            value.alive = False
        execution = worker.execution
        expected, blind = self._chance(self.faults.retired), self._chance(self.faults.blind)
        lost: list[tuple[Parcel, int | None]] = [(parcel, None) for parcel in worker.queue]
        if execution is not None:
            running = execution.running.number if execution.running else None
            lost.insert(0, (execution.parcel, running))

        def notice() -> None:
            for run, value in worker.values:
                if run.value is value:
                    self.driver.value_lost(run)
            for parcel, number in lost:
                executing = None if blind else () if number is None else (number,)
                self._report_loss(parcel, "killed", executing, expected=expected)

        self.after(self._latency(), notice)

    def _report_loss(
        self, parcel: Parcel, cause: str, executing: Sequence[int] | None, *, expected: bool
    ) -> None:
        if parcel.id not in self.driver.parcels:
            return
        if not expected:
            guilty = list(parcel.open) if executing is None else executing
            if executing is not None or len(guilty) == 1:
                self.chargeable.update(parcel.open[n] for n in guilty if n in parcel.open)
        self.driver.parcel_lost(parcel.id, self.now, cause, executing=executing, expected=expected)

    # -- chance --------------------------------------------------------------------------------

    def _chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def _latency(self) -> float:
        return self.random.choice((0.0, 0.001, 0.004, 0.03))

    def _next_loss(self) -> float:
        assert self.faults.loss_every_s is not None
        return self.random.expovariate(1 / self.faults.loss_every_s)


def ended_badly(run: Run) -> bool:
    """Whether those that take the value of this final run cannot go."""
    return run.state not in SUCCESSFUL or run.error is not None
