"""The driver under a simulated cluster: what a run costs it, and how well it fills the slots.

The driver is the product's; the cluster is `SimulatedCluster`.  Each item of the workload passes
three tasks, the second of them heavy-tailed: most runs take milliseconds, few take seconds.  A flow
submits items as long as fewer than 100,000 runs are pending and drops every future that is done, as
a loop over `as_completed` does, so memory stays bounded however many runs there are.
"""

from __future__ import annotations

import gc
import itertools
import random
import resource
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from benchmarks.simulated_cluster import SimulatedCluster
from benchmarks.simulated_workers import Faults, Planned, Worker
from benchmarks.simulation_bound import list_schedule
from daskflow.runner.core.driver import Decisions, Driver
from daskflow.runner.core.graph import Outcome, Run, Scope, Stage
from daskflow.runner.core.packing import PackingRules
from daskflow.runner.core.retries import RetryPolicy
from daskflow.runner.garbage import patient_collector

__all__ = ["Sample", "Simulation", "Workload", "simulate"]

PENDING_RUNS = 100_000  # of the product: then `submit` waits
SUBMIT_AT_ONCE = 1_000
SCHEDULER_S = 0.001155  # CPU of Dask's scheduler for a task, measured on distributed 2026.8.0
SAMPLES = 65_536  # durations drawn per task; runs take them in turn
LONGEST_S = 30.0
BINS = 100  # samples in the ideal time


class Workload(NamedTuple):
    """Mean seconds of the three tasks that each item passes."""

    prepare_s: float = 0.010
    fit_s: float = 0.140
    score_s: float = 0.030


class Sample(NamedTuple):
    """What was so at one moment of the simulated time, since the sample before."""

    at: float
    runs: int
    use: float  # share of the slots that executed runs
    driver_us: float  # CPU of the driver per final run
    open: int


class Simulation(NamedTuple):
    """What a simulation measured; seconds without another word are simulated ones."""

    runs: int
    workers: int
    losses: int
    makespan_s: float
    ideal_s: float  # the work, spread evenly over the slots
    bound_s: float  # no makespan is shorter: the ideal one, or the longest item
    use: float  # share of the slots' time in which they executed runs, until 9 of 10 have ended
    best_use: float  # the same of a schedule without parcels, messages and losses
    use_total: float  # the same, until all have ended
    parcels: int
    executions: int
    driver_us: float  # CPU per run in the driver
    driver_parts_us: dict[str, float]
    collector_us: float  # CPU per run in Python's garbage collector
    simulator_us: float  # CPU per run in everything else
    wall_s: float
    open_peak: int
    rss_mb: float
    samples: list[Sample]


class MeteredDriver(Driver):
    """The driver, with the CPU time that its events take, garbage collection left out."""

    def __init__(self, rules: PackingRules | None, jitter: Callable[[], float]) -> None:
        super().__init__(rules, jitter)
        self.collecting_s = 0.0
        self._collecting_since = 0.0
        self.cpu_s = {"submit": 0.0, "pack": 0.0, "take": 0.0, "outcomes": 0.0, "losses": 0.0}

    @property
    def cpu_total_s(self) -> float:
        """CPU seconds of all events."""
        return sum(self.cpu_s.values())

    def on_collection(self, phase: str, info: dict[str, int]) -> None:
        """Hear from `gc.callbacks`."""
        if phase == "start":
            self._collecting_since = time.process_time()
        else:
            self.collecting_s += time.process_time() - self._collecting_since

    def _now(self) -> float:
        """CPU seconds that count."""
        return time.process_time() - self.collecting_s

    def submit_all(self, runs: Sequence[Run]) -> None:
        """Submit runs; the clock is read once for all of them."""
        started = self._now()
        submit = self.submit
        for run in runs:
            submit(run)
        self.cpu_s["submit"] += self._now() - started

    def pack(self, now: float) -> None:
        started = self._now()
        super().pack(now)
        self.cpu_s["pack"] += self._now() - started

    def take(self) -> Decisions:
        started = self._now()
        taken = super().take()
        self.cpu_s["take"] += self._now() - started
        return taken

    def outcomes(
        self, parcel_id: int, outcomes: Sequence[Outcome], worker: str | None, pid: int | None
    ) -> None:  # type: ignore[override]
        started = self._now()
        super().outcomes(parcel_id, outcomes, worker, pid)
        self.cpu_s["outcomes"] += self._now() - started

    def parcel_done(self, parcel_id: int) -> None:
        started = self._now()
        super().parcel_done(parcel_id)
        self.cpu_s["outcomes"] += self._now() - started

    def handed_back(self, parcel_id: int, numbers: Sequence[int]) -> None:  # type: ignore[override]
        started = self._now()
        super().handed_back(parcel_id, numbers)
        self.cpu_s["losses"] += self._now() - started

    def parcel_lost(self, parcel_id: int, now: float, cause: str, **known: object) -> None:  # type: ignore[override]
        started = self._now()
        super().parcel_lost(parcel_id, now, cause, **known)  # type: ignore[arg-type]
        self.cpu_s["losses"] += self._now() - started


class _Flow(SimulatedCluster):
    """The cluster with a flow that feeds it, and a book of how its slots are used."""

    driver: MeteredDriver

    def __init__(
        self,
        runs: int,
        workers: int,
        losses: float,
        seed: int,
        rules: PackingRules | None,
        workload: Workload,
        scheduler_s: float,
        bin_s: float,
    ) -> None:
        faults = Faults(
            error=0.001,
            slow=0.0,
            loss_every_s=60.0 / (losses * workers) if losses else None,
            large=0.01,
            twice=0.001,
            partial=0.0,
        )
        chance = random.Random(seed)
        self.lost = 0
        self.executions = 0
        self.busy_s = 0.0
        self.open_peak = 0
        self.most_ended_at: float | None = None
        self.away_s = 0.0
        self.bins: dict[int, list[float]] = {}  # busy seconds, CPU of the driver, runs, open
        self._bin_s = bin_s
        self._cpu_before, self._runs_before = 0.0, 0
        self.scope = Scope("simulated")
        policy = RetryPolicy(retries=3)
        self._tasks = [Stage(self.scope, name, policy) for name in ("prepare", "fit", "score")]
        self._durations = {
            stage: itertools.cycle(drawn)
            for stage, drawn in zip(self._tasks, _durations(workload, chance), strict=True)
        }
        self.items = -(-runs // 3)
        self._submitted = 0
        self._numbers = itertools.count()
        super().__init__(
            seed,
            workers,
            faults,
            driver=MeteredDriver(rules, chance.random),
            scheduler_s=scheduler_s,
            restart_s=5.0,
        )

    # -- the flow ------------------------------------------------------------------------------

    def feed(self) -> None:
        """Submit items while few enough runs are pending."""
        while self._submitted < self.items and self.scope.open < PENDING_RUNS:
            prepare, fit, score = self._tasks
            runs: list[Run] = []
            for _ in range(min(SUBMIT_AT_ONCE, self.items - self._submitted)):
                first = Run(prepare, next(self._numbers), None, (), self.now)
                second = Run(fit, next(self._numbers), None, (first,), self.now)
                third = Run(score, next(self._numbers), None, (second,), self.now)
                first.held = second.held = third.held = False
                runs += (first, second, third)
                self._submitted += 1
            self.driver.submit_all(runs)
        self.submissions = int(self._submitted < self.items)
        self.open_peak = max(self.open_peak, self.scope.open)

    def duration(self, run: Run) -> float:
        return next(self._durations[run.stage])

    def wanted(self) -> bool:
        return self.scope.open > 0

    # -- the book ------------------------------------------------------------------------------

    def on_turn(self) -> None:
        if self.submissions:
            if self.scope.open < PENDING_RUNS:
                self.feed()
        elif self.most_ended_at is None and self.scope.open < self.items * 3 // 10:
            self.most_ended_at = self.now

    def on_final(self, runs: Sequence[Run]) -> None:
        entry = self.bins.setdefault(int(self.now / self._bin_s), [0.0, 0.0, 0, 0])
        cpu_s = self.driver.cpu_total_s
        entry[1] += cpu_s - self._cpu_before
        entry[2] += len(runs)
        entry[3] = max(entry[3], self.scope.open)
        self._cpu_before = cpu_s

    def on_executed(self, done: Sequence[Planned], until: float) -> None:
        self.executions += len(done)
        start, end = done[0].start, min(done[-1].end, until)
        self.busy_s += end - start
        while start < end:
            place = int(start / self._bin_s + 1e-9)
            stop = min(end, (place + 1) * self._bin_s)
            self.bins.setdefault(place, [0.0, 0.0, 0, 0])[0] += stop - start
            if stop <= start:
                break
            start = stop

    def on_worker_gone(self, worker: Worker) -> None:
        self.lost += 1
        self.away_s += self.restart_s


def _durations(workload: Workload, chance: random.Random) -> list[list[float]]:
    """Draw what runs of the three tasks take; the means are exact."""
    prepare = [chance.lognormvariate(0.0, 1.0) for _ in range(SAMPLES)]
    fit = [min(chance.paretovariate(1.3), 600.0) for _ in range(SAMPLES)]
    score = [chance.lognormvariate(0.0, 0.5) for _ in range(SAMPLES)]
    drawn = []
    for samples, mean_s in zip((prepare, fit, score), workload, strict=True):
        scale = mean_s * SAMPLES / sum(samples)
        drawn.append([min(LONGEST_S, each * scale) for each in samples])
    return drawn


def simulate(
    runs: int,
    workers: int = 1_000,
    losses: float = 0.02,
    seed: int = 0,
    *,
    rules: PackingRules | None = None,
    workload: Workload = Workload(),  # noqa: B008 - immutable
    scheduler_s: float = SCHEDULER_S,
) -> Simulation:
    """Play a flow of `runs` task runs to its end.

    Parameters
    ----------
    runs : int
    workers : int, default 1000
        Of one thread each.
    losses : float, default 0.02
        Workers lost per worker and minute; another one comes after five seconds.
    seed : int, default 0
    rules : PackingRules, optional
    workload : Workload
    scheduler_s : float
        What a parcel costs the scheduler, seconds.
    """
    bin_s = max(0.05, runs * sum(workload) / 3 / workers / BINS)
    flow = _Flow(runs, workers, losses, seed, rules, workload, scheduler_s, bin_s)
    wall, cpu = time.perf_counter(), time.process_time()
    gc.collect()
    gc.callbacks.append(flow.driver.on_collection)
    try:
        with patient_collector():  # as in the product, while a flow run has a driver
            flow.feed()
            flow.run()
    finally:
        gc.callbacks.remove(flow.driver.on_collection)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    total = flow.items * 3
    assert flow.scope.open == 0
    assert flow.scope.submitted == total
    driver_s = flow.driver.cpu_total_s
    most_s = flow.most_ended_at or flow.now
    until_s = sum(entry[0] for place, entry in flow.bins.items() if (place + 1) * bin_s <= most_s)
    whole = max(1, int(most_s / bin_s)) * bin_s
    there_s = 1 - flow.away_s / (workers * flow.now)
    durations = _durations(workload, random.Random(seed))
    bound = list_schedule(durations, flow.items, workers, scheduler_s)
    return Simulation(
        runs=total,
        workers=workers,
        losses=flow.lost,
        makespan_s=flow.now,
        ideal_s=total * sum(workload) / 3 / workers,
        bound_s=bound.makespan_s,
        use=until_s / (workers * whole * there_s),
        best_use=bound.use,
        use_total=flow.busy_s / (workers * flow.now * there_s),
        parcels=flow.parcels_sent,
        executions=flow.executions,
        driver_us=driver_s / total * 1e6,
        driver_parts_us={name: s / total * 1e6 for name, s in flow.driver.cpu_s.items()},
        collector_us=flow.driver.collecting_s / total * 1e6,
        simulator_us=(cpu - driver_s - flow.driver.collecting_s) / total * 1e6,
        wall_s=wall,
        open_peak=flow.open_peak,
        rss_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        samples=_samples(flow, bin_s, workers),
    )


def _samples(flow: _Flow, bin_s: float, workers: int) -> list[Sample]:
    return [
        Sample(
            (place + 1) * bin_s,
            int(finished),
            busy_s / (workers * bin_s),
            cpu_s / finished * 1e6 if finished else 0.0,
            int(is_open),
        )
        for place, (busy_s, cpu_s, finished, is_open) in sorted(flow.bins.items())
    ]
