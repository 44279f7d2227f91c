"""A cluster that is only a heap of events: durations, faults and latencies, from one seed.

It carries out the driver's decisions as the shell, Dask and the workers would.  Parcels pass the
scheduler one by one and wait for a worker; runs execute in turn; reports travel with a delay, and
sometimes twice or out of order; workers are lost with their queue, their unreported outcomes and
the values that they held.  Events are per parcel, not per run, so ten million runs take minutes.

What a test or a benchmark wants to see of it, `Spectator` tells.  Same seed, same story.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Collection, Sequence

from benchmarks.simulated_time import Clockwork
from benchmarks.simulated_workers import (
    SUCCEEDS,
    Execution,
    Faults,
    Planned,
    SimulatedValue,
    Spectator,
    Worker,
    lost_inputs,
)
from daskflow.runner.core.driver import Driver
from daskflow.runner.core.graph import Outcome, Parcel, Remote, Run, Scope
from daskflow.runner.core.packing import PackingRules
from daskflow.runner.core.states import FINAL

__all__ = ["SimulatedCluster"]

NOTED_AFTER_S = 0.1  # the executor tells that a run is executing once it lasts
STEALS_EVERY_S = 0.1  # Dask moves what waits behind a long task to an idle worker


class SimulatedCluster(Clockwork, Spectator):
    """A driver, its shell and its workers.

    Parameters
    ----------
    seed : int
    slots : int
        Workers, of one thread each.
    faults : Faults
    rules : PackingRules, optional
    driver : Driver, optional
        Default: a new one with `rules`.
    scheduler_s : float, default 0.0
        What a parcel costs the scheduler, which handles one after the other.
    restart_s : float, default 0.0
        How long the place of a lost worker stays empty.
    """

    def __init__(
        self,
        seed: int,
        slots: int = 3,
        faults: Faults = Faults(),  # noqa: B008 - immutable
        rules: PackingRules | None = None,
        *,
        driver: Driver | None = None,
        scheduler_s: float = 0.0,
        restart_s: float = 0.0,
    ) -> None:
        super().__init__(seed)
        self.faults = faults
        self.driver = driver or Driver(rules, self.random.random)
        self.driver.slots = slots
        self.scheduler_s = scheduler_s
        self.restart_s = restart_s
        self._scheduler_free_at = 0.0
        self._names = itertools.count()
        self.workers: list[Worker] = []
        self._idle: list[Worker] = []  # these two are looked through from the end, and may be stale
        self._unfed: list[Worker] = []
        self._steals = False  # an event that does is on its way
        self._backlog: list[tuple[int, int, Parcel]] = []
        self._last_delivery: dict[int, float] = {}  # reports of one parcel keep their order
        self.submissions = 0  # announced, and still to come
        self.parcels_sent = 0
        for _ in range(slots):
            self._worker_comes()
        self._announce_loss()

    # -- what a subclass may want to hear, or decides -------------------------------------------

    def duration(self, run: Run) -> float:
        """Seconds that the next execution of `run` takes."""
        slow = 100.0 if self.chance(self.faults.slow) else 1.0
        return self.random.expovariate(1 / 0.01) * slow

    def wanted(self) -> bool:
        """Whether something is left to be executed."""
        return bool(self.driver.parcels) or self.driver.next_due() is not None

    # -- the user ------------------------------------------------------------------------------

    def submit(self, run: Run) -> None:
        """Submit a run, as a flow would."""
        self.driver.submit(run)

    def let_go(self, run: Run) -> None:
        """Drop the future of a run, as the shell is told of it."""
        run.held = False
        if run.state in FINAL and isinstance(run.value, Remote):
            self.driver.let_go(run)

    def cancel(self, scope: Scope) -> None:
        """Cancel a flow run; parcels that wait for a worker are dropped."""
        self.driver.cancel(scope, self.now)
        waiting = [parcel for worker in self.workers for parcel in worker.queue]
        waiting += [parcel for _, _, parcel in self._backlog]
        for parcel in waiting:
            if all(run.stage.scope.cancelled for run in parcel.runs):
                self.driver.drop_parcel(parcel.id, self.now)

    # -- time ----------------------------------------------------------------------------------

    def run(self, limit: int | None = None) -> None:
        """Let everything happen until nothing is left to happen.

        Raises
        ------
        RuntimeError
            After `limit` events.
        """
        for count in itertools.count():
            if count == limit:
                raise RuntimeError(f"not done after {limit} events")
            self._turn()
            due = self.driver.next_due()
            coming = self.events[0][0] if self.events else None
            if due is not None and (coming is None or due <= coming):
                self.now = max(self.now, due)
                self.driver.tick(self.now)
            elif coming is not None and (self.submissions or self.driver.parcels or self.wanted()):
                self.now, _, call, args = heapq.heappop(self.events)
                self.driver.tick(self.now)
                call(*args)
            else:
                break

    def _turn(self) -> None:
        self.driver.pack(self.now)
        send, final, _, done = self.driver.take()
        for parcel in done:
            self._last_delivery.pop(parcel.id, None)
        if final:
            self.on_final(final)
        for parcel in send:
            self._send(parcel)
        self.on_turn()

    # -- parcels -------------------------------------------------------------------------------

    def _send(self, parcel: Parcel) -> None:
        self.on_sent(parcel)
        self.parcels_sent += 1
        self._scheduler_free_at = max(self.now, self._scheduler_free_at) + self.scheduler_s
        self.at(self._scheduler_free_at + self.latency(), self._arrive, parcel)

    def _arrive(self, parcel: Parcel) -> None:
        if parcel.id not in self.driver.parcels:
            return
        if self.chance(self.faults.broken):
            self.driver.parcel_failed(parcel.id, self.now, "it cannot run")
            return
        if gone := lost_inputs(parcel):
            for dep in gone:
                self.driver.value_lost(dep)
            self._report_loss(parcel, "an input was lost", (), expected=True)
            return
        if worker := self._free_worker(self._idle):
            worker.queue.append(parcel)
            self._begin(worker)
        elif worker := self._free_worker(self._unfed):
            worker.queue.append(parcel)
        else:
            urgency = -parcel.lane.key.priority
            heapq.heappush(self._backlog, (urgency, parcel.id, parcel))

    def _free_worker(self, among: list[Worker]) -> Worker | None:
        while among:
            worker = among.pop()
            idle = worker.execution is None or among is self._unfed
            if idle and not worker.lost and not worker.queue:
                return worker
        return None

    def _begin(self, worker: Worker) -> None:
        """Start what waits for this worker, and have Dask send it one more ahead."""
        if worker.lost:
            return
        while worker.execution is None:
            if not worker.queue and not self._refill(worker):
                self._idle.append(worker)
                if not self._steals:
                    self._steals = True
                    self.after(STEALS_EVERY_S, self._steal)
                return
            parcel = worker.queue.popleft()
            if parcel.id in self.driver.parcels:
                self._execute(worker, parcel)
        if not worker.queue and not self._refill(worker):
            self._unfed.append(worker)

    def _steal(self) -> None:
        """Give idle workers what waits behind a run that executes elsewhere."""
        self._steals = False
        for victim in [each for each in self.workers if each.queue and each.execution]:
            thief = self._free_worker(self._idle)
            if thief is None:
                return
            thief.queue.append(victim.queue.pop())
            self._begin(thief)
            self._unfed.append(victim)
        if self.driver.parcels and self._idle:
            self._steals = True
            self.after(STEALS_EVERY_S, self._steal)

    def _refill(self, worker: Worker) -> bool:
        if self._backlog:
            worker.queue.append(heapq.heappop(self._backlog)[2])
        return bool(worker.queue)

    def _execute(self, worker: Worker, parcel: Parcel) -> None:
        execution = worker.execution = Execution(parcel)
        self._plan(execution)
        plan = execution.plan
        if execution.rest:
            deadline = self.now + (parcel.box_s or 0.0)
            self.at(max(plan[-1].start, deadline), self._cut, worker, execution)
        if self.faults.partial:
            for planned in plan[:-1]:
                if self.chance(self.faults.partial):
                    self.at(planned.end, self._tell, worker, execution)
        for planned in plan:
            if planned.end - planned.start > NOTED_AFTER_S:
                self.at(planned.start + NOTED_AFTER_S, self._note, worker, execution, planned)
        self.at(plan[-1].end if plan else self.now, self._finish, worker, execution)

    def _plan(self, execution: Execution) -> None:
        """Decide what happens to each run of a parcel, unless its worker is lost before."""
        parcel, at, failed = execution.parcel, self.now, set[Run]()
        last = at + parcel.box_s if parcel.box_s is not None else None
        for place, run in enumerate(parcel.runs):
            if failed and not failed.isdisjoint(run.deps):
                execution.skipped.append(run.number)
                failed.add(run)
                continue
            ends = self.faults.ending(self.chance)
            if ends is not SUCCEEDS:
                failed.add(run)
            end = at + self.duration(run)
            execution.plan.append(Planned(run, at, end, ends))
            at = end
            if last is not None and at > last:  # the watchdog cuts while this one is executing
                execution.rest = [each.number for each in parcel.runs[place + 1 :]]
                return

    def _perform(self, worker: Worker, execution: Execution) -> None:
        """Make the outcomes of what has been executed by now."""
        first, plan = execution.done, execution.plan
        done = first
        while done < len(plan) and plan[done].end <= self.now:
            planned = plan[done]
            value: object = None
            if planned.ends is SUCCEEDS:
                value = (0, planned.run.number)
                if self.chance(self.faults.large):
                    value = kept = SimulatedValue()
                    worker.keep(planned.run, kept)
            execution.told.append(planned.outcome(value))
            done += 1
        if done > first:
            execution.done = done
            self.on_executed(plan[first:done], self.now)

    # -- reports -------------------------------------------------------------------------------

    def _note(self, worker: Worker, execution: Execution, planned: Planned) -> None:
        if not worker.lost:
            number, at = planned.run.number, self.now
            self._deliver(execution.parcel, self.driver.started, number, at, worker.name)

    def _tell(self, worker: Worker, execution: Execution) -> None:
        if not worker.lost:
            self._perform(worker, execution)
            self._report(worker, execution, [], final=False)

    def _cut(self, worker: Worker, execution: Execution) -> None:
        if not worker.lost:
            self._perform(worker, execution)
            rest, execution.rest = execution.rest, []
            self._report(worker, execution, rest, final=False)

    def _finish(self, worker: Worker, execution: Execution) -> None:
        if not worker.lost:
            self._perform(worker, execution)
            self._report(worker, execution, [*execution.skipped, *execution.rest], final=True)
            worker.execution = None
            self._begin(worker)

    def _report(
        self, worker: Worker, execution: Execution, back: Sequence[int], *, final: bool
    ) -> None:
        told, execution.told = execution.told, []
        self._deliver(execution.parcel, self._take_report, told, back, final, worker.name)

    def _take_report(
        self,
        parcel_id: int,
        told: Sequence[Outcome],
        back: Sequence[int],
        final: bool,
        worker: str,
    ) -> None:
        if self.counts_late and parcel_id not in self.driver.parcels:
            self.driver.late += 1
            return
        if told:
            self.driver.outcomes(parcel_id, told, worker, 1)
        if back:
            self.driver.handed_back(parcel_id, back)
        if final:
            self.driver.parcel_done(parcel_id)

    def _deliver(self, parcel: Parcel, arrive: Callable[..., None], *args: object) -> None:
        when = self.now + self.latency()
        if not self.chance(self.faults.reordered):
            when = max(when, self._last_delivery.get(parcel.id, 0.0))
        self._last_delivery[parcel.id] = when
        self.at(when, arrive, parcel.id, *args)
        if self.chance(self.faults.twice):
            self.at(when + self.latency(), arrive, parcel.id, *args)

    # -- losses --------------------------------------------------------------------------------

    def _worker_comes(self) -> None:
        worker = Worker(f"w{next(self._names)}", self.now)
        self.workers.append(worker)
        self._begin(worker)

    def _lose_some_worker(self) -> None:
        if self.workers:
            self.lose(self.random.choice(self.workers))
        self._announce_loss()

    def _announce_loss(self) -> None:
        if (mean_s := self.faults.loss_every_s) is not None:
            self.after(self.random.expovariate(1 / mean_s), self._lose_some_worker)

    def lose(self, worker: Worker) -> None:
        """Kill a worker; another one takes its place, and the driver hears of it later."""
        execution = worker.execution
        lost: list[tuple[Parcel, tuple[int, ...]]] = [(parcel, ()) for parcel in worker.queue]
        if execution is not None:
            self._perform(worker, execution)
            if running := execution.plan[execution.done : execution.done + 1]:
                self.on_executed(running, self.now)
            lost.insert(0, (execution.parcel, tuple(each.run.number for each in running)))
        worker.lost = True
        self.workers.remove(worker)
        self.on_worker_gone(worker)
        if self.restart_s:
            self.after(self.restart_s, self._worker_comes)
        else:
            self._worker_comes()
        for _, value in worker.values:
            value.alive = False
        expected, blind = self.chance(self.faults.retired), self.chance(self.faults.blind)
        self.after(self.latency(), self._notice, worker, lost, expected, blind)

    def _notice(
        self,
        worker: Worker,
        lost: Sequence[tuple[Parcel, tuple[int, ...]]],
        expected: bool,
        blind: bool,
    ) -> None:
        for run, value in worker.values:
            if run.value is value:
                self.driver.value_lost(run)
        for parcel, numbers in lost:
            executing = None if blind else numbers
            self._report_loss(parcel, "killed", executing, expected=expected)

    def _report_loss(
        self, parcel: Parcel, cause: str, executing: Collection[int] | None, *, expected: bool
    ) -> None:
        if parcel.id not in self.driver.parcels:
            return
        if not expected:
            guilty = parcel.open if executing is None else executing
            if executing is not None or len(guilty) == 1:
                self.on_charged(parcel.open[n] for n in guilty if n in parcel.open)
        self.driver.parcel_lost(parcel.id, self.now, cause, executing=executing, expected=expected)
