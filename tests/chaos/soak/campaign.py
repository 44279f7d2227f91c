"""A soak: flow after flow under random faults, until the time is over or an invariant is broken."""

from __future__ import annotations

import os
import shutil
import signal
import time
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil

from daskflow.runner.store import open_store
from tests.chaos.soak.checks import Story, violations
from tests.chaos.soak.faults import Injector, damage_entries
from tests.chaos.soak.plan import FlowPlan, plan_flow
from tests.chaos.soak.processes import MARK, Bench, marked, start_flow
from tests.chaos.soak.storm import JOURNAL
from tests.foreign import ForeignCluster, eventually

__all__ = ["Campaign", "Outcome"]

PATIENCE_S = 150.0  # for a flow that is left alone: then it hangs
GONE_S = 40.0  # for processes without their flow; the slowest wait for a frozen worker of ours
FLOWS_PER_HOME = 8  # then the stores start anew, or they would be most of the work
STARTS = 6  # of one flow's process


class Outcome(NamedTuple):
    """What became of one flow."""

    plan: FlowPlan
    took_s: float
    faults: list[str]
    figures: Counter[str]
    violations: list[str]
    folder: Path


class Campaign:
    """Runs the flows of one soak, one after the other.

    Parameters
    ----------
    seed : int
    folder : Path
        For everything; what belongs to a flow that went well is removed.
    most_size : int
        The size of the largest flow; it has five times as many task runs.
    say : callable
        Takes lines for the terminal.
    """

    def __init__(
        self, seed: int, folder: Path, most_size: int, say: Callable[[str], object]
    ) -> None:
        os.environ[MARK] = uuid.uuid4().hex
        # a frozen worker is given up soon; owned clusters have limits of their own
        os.environ["DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL"] = "5s"
        self.seed, self.folder, self.most_size, self.say = seed, folder, most_size, say
        self._cluster: ForeignCluster | None = None
        self._clusters = 0

    def flow(self, number: int, plan: FlowPlan | None = None) -> Outcome:
        """Run one flow to its end and look at what it left."""
        plan = plan or plan_flow(self.seed, number, self.most_size)
        cluster = self._foreign() if plan.place == "foreign" else None
        epoch = number // FLOWS_PER_HOME
        if number % FLOWS_PER_HOME == 0 and epoch:
            shutil.rmtree(self.folder / f"home-{epoch - 1}", ignore_errors=True)
        home = self.folder / f"home-{epoch}"
        bench = Bench(
            self.folder / f"flow-{number}", home, epoch, cluster.address if cluster else None
        )
        injector, began, starts, hurt = Injector(bench, cluster), time.monotonic(), [], 0
        try:
            starts, hurt, wrong = self._go(plan, bench, injector)
        finally:
            if injector.flow is not None and injector.flow.poll() is None:
                injector.flow.kill()
                injector.flow.wait()
            injector.calm()
        schedulers = injector.count("kill_scheduler")
        killed = injector.count("kill_worker", "freeze_long") + 6 * plan.poison
        killed += plan.workers * (injector.count("kill_all_workers") + schedulers)
        story = Story(starts, killed, schedulers, hurt, elimination=cluster is not None)
        figures: Counter[str] = Counter(resumed=len(starts) - 1)
        if not wrong:
            found, more = violations(plan, bench, story)
            wrong, figures = found, figures + more
        wrong += self._left_behind(bench)
        faults = [f"{at - starts[0]:.1f} s: {said}" for at, said in injector.done]
        if not wrong:
            shutil.rmtree(bench.folder, ignore_errors=True)
        return Outcome(plan, time.monotonic() - began, faults, figures, wrong, bench.folder)

    def close(self) -> None:
        """End everything that this soak has started."""
        if self._cluster is not None:
            self._cluster.close()
            self._cluster = None
        for process in marked():
            with suppress(psutil.Error):
                process.kill()

    # ----

    def _go(
        self, plan: FlowPlan, bench: Bench, injector: Injector
    ) -> tuple[list[float], int, list[str]]:
        """Start the flow and resume it until it completes, with all faults of the plan."""
        starts: list[float] = []
        pending, hurt, began = list(plan.faults), 0, 0.0
        while len(starts) < STARTS:
            hurt += len(damage_entries(bench.home, plan.seed, plan.damage))
            starts.append(time.time())
            resume = _run_of(bench) if len(starts) > 1 else None
            injector.flow = flow = start_flow(plan, bench, resume)
            quiet_since = time.monotonic()
            while flow.poll() is None:
                if not began and (bench.folder / JOURNAL).exists():
                    began = time.monotonic()
                now = time.monotonic()
                if began and pending and now - began >= pending[0].at_s:
                    fault = pending.pop(0)
                    injector.inject(fault)
                    quiet_since = time.monotonic()
                elif now - quiet_since > PATIENCE_S:
                    flow.send_signal(signal.SIGUSR1)  # its stacks go to the log
                    time.sleep(1.0)
                    return starts, hurt, [f"it hangs: no end within {PATIENCE_S:g} s"]
                time.sleep(0.02)
            if flow.returncode == 0:
                return starts, hurt, []
            if flow.returncode not in (-signal.SIGKILL, 130, 143, -signal.SIGTERM):
                last = bench.log().rstrip().splitlines()[-3:]
                return starts, hurt, [f"exit code {flow.returncode}: {' / '.join(last)}"]
            injector.done.append((time.time(), f"ended with {flow.returncode}"))
        return starts, hurt, [f"not done after {STARTS} starts"]

    def _left_behind(self, bench: Bench) -> list[str]:
        """Processes and folders that outlived the flow."""
        theirs = set()
        if self._cluster is not None:
            for process in [*self._cluster.workers.values(), self._cluster.scheduler]:
                with suppress(psutil.NoSuchProcess):
                    it = psutil.Process(process.pid)
                    theirs |= {it.pid, *(child.pid for child in it.children(recursive=True))}
        left: list[str] = []

        def clean() -> bool:
            left[:] = [
                f"process {each.pid} is left: {' '.join(each.cmdline())[:150]}"
                for each in marked()
                if each.pid not in theirs and not self._is_of_cluster(each)
            ]
            return not left

        with suppress(AssertionError, psutil.Error):
            eventually(clean, within_s=GONE_S)
        killed = "ended with -9" in "".join(said for said in bench.log())
        if not killed:
            left += [f"folder {path.name} is left" for path in bench.temporary.glob("daskflow-*")]
        return left

    def _is_of_cluster(self, process: psutil.Process) -> bool:
        """A worker that its nanny has started meanwhile, on the foreign cluster."""
        if self._cluster is None:
            return False
        pids = {each.pid for each in self._cluster.workers.values()}
        with suppress(psutil.Error):
            return bool(pids & {parent.pid for parent in process.parents()})
        return False

    def _foreign(self) -> ForeignCluster:
        """The cluster of flows that have none of their own, with two workers at least."""
        if self._cluster is None:
            folder = self.folder / f"cluster-{self._clusters}"
            folder.mkdir()
            self._clusters += 1
            self._cluster = ForeignCluster(folder, n_workers=0)
        alive = [each for each in self._cluster.workers.values() if each.poll() is None]
        for _ in range(2 - len(alive)):
            self._cluster.add_worker(nanny=True)
        return self._cluster


def _run_of(bench: Bench) -> str | None:
    """The id of the flow run in this folder, once the record has heard of it."""
    if not (bench.home / "runs.db").exists():
        return None
    with open_store(bench.url) as store:
        for run in store.flow_runs(flow="storm", limit=None):
            if str(bench.folder) in run.parameters:
                return run.flow_run_id
    return None
