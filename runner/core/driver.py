"""The driver: one pure state machine that decides what every task run does next.

Events go in as method calls, with the time as an argument; decisions come out in four lists that
the shell takes with `take`: parcels to send, runs that became final, transitions worth recording,
and parcels that are done with.  No clock, no thread, no I/O, so the same code runs in the flow
process, in tests and in a simulation.

Invariants: a run is in at most one parcel; a final state never changes; news about a run that is
no longer open in its parcel is dropped and counted in `late`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

from daskflow.errors import TaskCrashed
from daskflow.runner.core.attempts import Attempts
from daskflow.runner.core.decisions import Decisions, Transition, describe
from daskflow.runner.core.endings import Endings
from daskflow.runner.core.graph import LaneKey, Outcome, Run, Scope, Stage
from daskflow.runner.core.lanes import Lanes
from daskflow.runner.core.packing import PackingRules
from daskflow.runner.core.states import CACHED, CRASHED, FINAL, PENDING

__all__ = ["Decisions", "Driver", "Transition", "describe"]


def _no_jitter() -> float:
    return 0.0


class Driver:
    """Owns the graph of task runs of one cluster session.

    Parameters
    ----------
    rules : PackingRules
    jitter : callable, optional
        Returns numbers in [0, 1) for `retry_jitter_factor`.
    """

    def __init__(
        self, rules: PackingRules | None = None, jitter: Callable[[], float] = _no_jitter
    ) -> None:
        self.rules = rules or PackingRules()
        self.slots = 0
        self.late = 0
        self.refusal: BaseException | None = None  # why nothing can run any more
        self._lanes = Lanes(self.rules)
        self._endings = Endings(self._lanes)
        self._inputs = self._endings.inputs
        self._attempts = Attempts(self._endings, jitter)
        self.parcels = self._lanes.parcels  # in flight, by id

    # -- what the shell asks -------------------------------------------------------------------

    def take(self) -> Decisions:
        """Hand over all decisions since the last call."""
        return self._endings.take()

    def has_news(self) -> bool:
        """Whether there is something to take."""
        decisions = self._endings.decisions
        return bool(self._inputs.lookups or decisions.final or decisions.send)

    def take_lookups(self) -> list[Run]:
        """Hand over the runs that are ready and may be cached; `found` or `missed` answers each."""
        taken, self._inputs.lookups = self._inputs.lookups, []
        return taken

    def has_work(self) -> bool:
        """Whether a run waits for a slot: only then a cluster is needed."""
        return self._lanes.has_ready()

    def next_due(self) -> float | None:
        """When `tick` and `pack` have something to do, by their clock; None for never."""
        if self._inputs.has_unwanted():
            return 0.0
        retry, probe = self._attempts.next_due(), self._lanes.next_due
        return probe if retry is None or (probe is not None and probe < retry) else retry

    # -- runs come in and go out ---------------------------------------------------------------

    def submit(self, run: Run) -> None:
        """Take over a new run; it is ready, waits for its inputs, or can never be."""
        stage = run.stage
        scope = stage.scope
        scope.submitted += 1
        stage.submitted += 1
        scope.open += 1
        if scope.cancelled or self.refusal is not None:
            self._inputs.count_in(run)
            if scope.cancelled:
                self._endings.cancel(run, run.created_at)
            else:
                self._refuse(run, run.created_at)
        elif not run.deps:
            if run.cache is None:
                self._lanes.put(run)
            else:
                self._inputs.queue(run)
        elif (bad := self._inputs.connect(run)) is not None:
            self._endings.not_ready(run, bad, run.created_at)

    def tick(self, now: float) -> None:
        """Let retries go whose delay is over.

        `now` here and in `pack` is a clock that is never set, as `time.monotonic` is; delays count
        from what it showed last, so `tick` comes before the events that may start them.  All other
        times are of wall clocks, and only recorded.
        """
        self._attempts.tick(now)

    def pack(self, now: float) -> None:
        """Turn ready runs into parcels, as far as the windows of their lanes allow."""
        self._attempts.clock = now
        self._inputs.sweep()
        if self.slots:
            self._lanes.pack(self.slots, now, self._endings.decisions.send)

    # -- what the cache tells ------------------------------------------------------------------

    def found(self, run: Run, value: Any, size: int | None, at: float) -> None:
        """The result of a run that was looked up is there already."""
        if not self._answers(run):
            self.late += 1
        elif run.stage.scope.cancelled:
            self._endings.cancel(run, at)
        else:
            run.value, run.result_bytes = value, size
            self._endings.end(run, CACHED, at, None, None)

    def missed(self, run: Run, at: float) -> None:
        """A run that was looked up has to be executed."""
        if not self._answers(run):
            self.late += 1
        elif run.stage.scope.cancelled:
            self._endings.cancel(run, at)
        elif self.refusal is not None:
            self._refuse(run, at)
        else:
            self._inputs.ready(run)

    def _answers(self, run: Run) -> bool:
        """Whether an answer about `run` is waited for; there is one to each look-up."""
        looking = self._inputs.looking
        if run not in looking:
            return False
        del looking[run]
        return run.state not in FINAL

    def _take_looking(self, scope: Scope | None = None) -> list[Run]:
        """Wait for no more answers, about runs of `scope` only."""
        looking = self._inputs.looking
        taken = [run for run in looking if scope is None or run.stage.scope is scope]
        for run in taken:
            del looking[run]
        return taken

    # -- what workers tell ---------------------------------------------------------------------

    def started(self, parcel_id: int, number: int, at: float, worker: str | None) -> None:
        """A worker tells that a run has been executing for a while."""
        parcel = self.parcels.get(parcel_id)
        run = parcel.open.get(number) if parcel else None
        if run is None:
            self.late += 1
        else:
            self._attempts.started(run, at, worker)

    def outcomes(
        self, parcel_id: int, outcomes: Iterable[Outcome], worker: str | None, pid: int | None
    ) -> None:
        """Executions that ended on a worker."""
        parcel = self.parcels.get(parcel_id)
        if parcel is None:
            self.late += 1
            return
        seen: dict[Stage, list[Outcome]] = {}
        ended: list[Outcome] = []
        last: Stage | None = None
        opened, lane, executed = parcel.open, parcel.lane, self._attempts.executed
        for outcome in outcomes:
            run = opened.pop(outcome.number, None)
            if run is None:
                self.late += 1
                continue
            if run.waiting:  # for one before it in its parcel, of which nothing was told yet
                opened[outcome.number] = run
                parcel.early = parcel.early or []
                parcel.early.append(outcome)
                continue
            run.parcel = None
            lane.runs -= 1
            if (stage := run.stage) is not last:
                last, ended = stage, seen.setdefault(stage, [])
            ended.append(outcome)
            executed(run, outcome, worker, pid)
        for stage, ended in seen.items():
            count = len(ended)
            mean_s = sum([outcome.run_s for outcome in ended]) / count
            mean_bytes = sum([outcome.result_bytes or 0 for outcome in ended]) / count
            stage.estimate.update(mean_s, mean_bytes, count)
        if parcel.early and ended:
            self.outcomes(parcel_id, parcel.take_early(), worker, pid)

    def handed_back(self, parcel_id: int, numbers: Iterable[int]) -> None:
        """Runs that a worker will not start; they are charged nothing."""
        parcel = self.parcels.get(parcel_id)
        if parcel is None:
            self.late += 1
            return
        taken = [self._lanes.take_back(parcel, number) for number in numbers]
        self._put_back([run for run in taken if run is not None])

    def parcel_done(self, parcel_id: int) -> None:
        """The worker has told everything about this parcel; what is still open never started."""
        self._put_back(self._close(parcel_id))

    def parcel_waits(self, parcel_id: int) -> None:
        """The parcel has given its slot back until runs that its own run submitted have ended."""
        self._lanes.give_way(parcel_id)

    def recall(self, parcel_id: int, parked: Collection[Run]) -> None:
        """A parcel does not go: `parked` wait for an answer as look-ups do, the rest is queued."""
        remaining = self._close(parcel_id)
        held = {run for run in parked if not run.stage.scope.cancelled}
        for run in remaining:
            if run in held:
                self._inputs.looking[run] = None
        self._put_back([run for run in remaining if run not in held])

    # -- what becomes of parcels otherwise -----------------------------------------------------

    def parcel_lost(
        self,
        parcel_id: int,
        now: float,
        cause: str,
        *,
        executing: Collection[int] | None,
        expected: bool = False,
        alone: bool = True,
    ) -> None:
        """The worker that held this parcel is gone.

        Parameters
        ----------
        parcel_id : int
        now : float
        cause : str
            For the message: what is known of the loss.
        executing : collection of int or None
            Numbers of the runs that were executing; None when that is not known.  Then a parcel
            with one open run charges it, and the open runs of another are suspects that each go
            alone.
        expected : bool
            A retired worker: nobody is charged.
        alone : bool
            Where `executing` is None: nothing else was lost with this parcel, or it is known to
            have started.  If not, a run is charged from its second loss on.
        """
        remaining = self._close(parcel_id)
        for run in remaining:
            if run.cache is not None:
                run.cache.lost = True
        guilty: set[Run] = set()
        if not expected and executing is not None:
            guilty = {run for run in remaining if run.number in executing}
        elif not expected and len(remaining) == 1 and (alone or remaining[0].solo):
            guilty = set(remaining)
        elif not expected:
            for run in remaining:
                run.solo = True
        for run in guilty:
            run.waiting += 1  # for its sentence: the end of another may not make it ready
        # those that go on come first: the end of a guilty one may make them ready or NotReady
        self._put_back([run for run in remaining if run not in guilty])
        for run in remaining:
            if run in guilty:
                run.waiting -= 1
                if run.redo or run.state not in FINAL:
                    self._attempts.crashed(run, now, cause)

    def parcel_failed(self, parcel_id: int, now: float, reason: str) -> None:
        """The cluster could not run this parcel at all; a further try would end the same."""
        for run in self._roots(self._close(parcel_id)):
            self._crash(run, now, TaskCrashed(run.task_run_id, reason), reason)

    def drop_parcel(self, parcel_id: int, now: float) -> None:
        """The shell dropped this parcel on the cluster; what had not ended is cancelled."""
        for run in reversed(self._close(parcel_id)):
            if run.redo:
                self._inputs.ready(run)
            else:
                self._endings.cancel(run, now)

    # -- endings from outside ------------------------------------------------------------------

    def cancel(self, scope: Scope, now: float) -> None:
        """Nothing of this flow run starts any more; runs in flight are left to end by themselves.

        Lost values of its finished runs are still made again for those that want them.  Parcels
        none of whose runs has been reported yet are the shell's to drop: it tells with
        `drop_parcel`.
        """
        scope.cancelled, scope.cancelled_at = True, now
        queued = self._lanes.take_out(lambda run: run.stage.scope is scope and not run.redo)
        looking = self._take_looking(scope)
        for run in [*looking, *queued, *self._attempts.take_delayed(scope)]:
            self._endings.cancel(run, now)

    def cancel_run(self, run: Run, now: float) -> None:
        """Nobody wants this run any more: it ends unless it is being executed."""
        if run.parcel is None and run.state not in FINAL:
            self._lanes.take_out(lambda queued: queued is run)
            self._inputs.looking.pop(run, None)
            run.looked_at = True
            self._endings.cancel(run, now, "cancelled with the task run that asked for it")

    def refuse(self, error: BaseException, now: float) -> None:
        """The cluster is gone for good: everything that is not final crashes with `error`."""
        self.refusal = self._endings.refusal = error
        for parcel_id in list(self.parcels):
            for run in self._roots(self._close(parcel_id)):
                self._refuse(run, now)
        for run in self._attempts.take_delayed():
            self._refuse(run, now)
        for run in self._lanes.drain():
            self._refuse(run, now)

    def refuse_lane(self, key: LaneKey, error: BaseException, now: float) -> None:
        """No worker can run what travels in this lane: its runs crash with `error`."""
        for parcel in [each for each in self.parcels.values() if each.lane.key == key]:
            self.refuse_parcel(parcel.id, error, now)
        for run in self._lanes.take_out(lambda queued: queued.stage.lane_key == key):
            self._crash(run, now, error, str(error))

    def refuse_parcel(
        self, parcel_id: int, error: BaseException, now: float, state: str = CRASHED
    ) -> None:
        """No worker can run this parcel: what is open of it ends with `error`."""
        for run in self._roots(self._close(parcel_id)):
            self._crash(run, now, error, str(error), state if run.state == PENDING else CRASHED)

    def _refuse(self, run: Run, at: float) -> None:
        assert self.refusal is not None
        self._crash(run, at, self.refusal, str(self.refusal))

    # -- values that live on workers -----------------------------------------------------------

    def let_go(self, run: Run) -> None:
        """Nobody holds the future of `run` any more."""
        run.held = False
        self._inputs.unwanted(run)

    def value_lost(self, run: Run) -> None:
        """The worker that held the value of `run` is gone; it is made again when it is needed."""
        self._inputs.lost(run)

    def value_needed(self, run: Run) -> None:
        """Somebody waits for the value of a run that has succeeded; execute it again if lost."""
        self._inputs.need(run)
        if self.refusal is not None:
            self.refuse(self.refusal, run.ended_at or run.created_at)

    # -- inside --------------------------------------------------------------------------------

    def _close(self, parcel_id: int) -> list[Run]:
        """Forget a parcel; return its runs without an outcome."""
        parcel = self._lanes.close(parcel_id)
        if parcel is None:
            self.late += 1
            return []
        self._endings.decisions.done.append(parcel)
        return list(parcel.open.values())

    def _put_back(self, runs: list[Run]) -> None:
        """Queue runs that were not executed again, in their old order, before newer ones."""
        for run in reversed(runs):
            self._attempts.put_back(run)

    def _roots(self, runs: list[Run]) -> list[Run]:
        """Those of `runs` that wait for no other; the others are put back, to wait for them."""
        roots = [run for run in runs if not run.waiting]
        self._put_back([run for run in runs if run.waiting])
        return roots

    def _crash(
        self, run: Run, at: float, error: BaseException, text: str, state: str = CRASHED
    ) -> None:
        if run.redo:
            self._endings.remade(run, at, error)
        elif run.state not in FINAL:
            self._endings.end(run, state, at, text, error)
