"""The driver: one pure state machine that decides what every task run does next.

Events go in as method calls, with `now` as an argument; decisions come out in four lists that the
shell takes with `take`: parcels to send, runs that became final, transitions worth recording, and
parcels that are done with.  No clock, no thread, no I/O, so the same code runs in the flow process,
in tests and in a simulation.

Invariants: a run is in at most one parcel; a final state never changes; news about a run that is
no longer open in its parcel is dropped and counted in `late`.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple

from daskflow.errors import TaskCancelled, TaskCrashed, UpstreamFailed
from daskflow.runner.core.graph import Lane, LaneKey, Outcome, Parcel, Remote, Run, Scope, Stage
from daskflow.runner.core.packing import PackingRules, fuse, parcel_size, window
from daskflow.runner.core.retries import crash_backoff, retry_delay
from daskflow.runner.core.states import (
    AWAITING_RETRY,
    CANCELLED,
    COMPLETED,
    CRASHED,
    FAILED,
    FINAL,
    NOT_READY,
    PENDING,
    RETRYING,
    RUNNING,
    SUCCESSFUL,
    check_transition,
)

__all__ = ["Decisions", "Driver", "Transition", "describe"]


class Transition(NamedTuple):
    """A change of state that the final row of its run does not tell by itself."""

    run: Run
    at: float
    state: str
    message: str | None
    attempt: int
    worker: str | None


class Decisions(NamedTuple):
    """What the shell has to carry out."""

    send: list[Parcel]
    final: list[Run]
    transitions: list[Transition]
    done: list[Parcel]  # nothing more is expected of these


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
        self.jitter = jitter
        self.slots = 0
        self.parcels: dict[int, Parcel] = {}
        self.late = 0
        self.refusal: BaseException | None = None  # why nothing can run any more
        self._lanes: dict[LaneKey, Lane] = {}
        self._order: list[Lane] = []  # highest priority first
        self._next_parcel = 0
        self._timers: list[tuple[float, int, Run]] = []
        self._decisions = Decisions([], [], [], [])

    # -- what the shell asks -------------------------------------------------------------------

    def take(self) -> Decisions:
        """Hand over all decisions since the last call."""
        taken, self._decisions = self._decisions, Decisions([], [], [], [])
        return taken

    def next_due(self) -> float | None:
        """When `tick` has something to do, in the caller's clock; None for never."""
        return self._timers[0][0] if self._timers else None

    # -- events --------------------------------------------------------------------------------

    def submit(self, run: Run) -> None:
        """Take over a new run; it is ready, waits for its inputs, or can never be."""
        scope = run.stage.scope
        scope.submitted += 1
        run.stage.submitted += 1
        scope.open += 1
        if scope.cancelled:
            self._cancel(run, run.created_at)
            return
        if self.refusal is not None:
            self._refuse(run, run.created_at)
            return
        if run.deps:
            failed = self._connect(run)
            if failed is not None:
                self._not_ready(run, failed, run.created_at)
                return
            if run.waiting:
                return
        self._enqueue(run)

    def tick(self, now: float) -> None:
        """Let retries go whose delay is over."""
        while self._timers and self._timers[0][0] <= now:
            _, _, run = heapq.heappop(self._timers)
            if run.state not in FINAL and run.parcel is None:
                self._enqueue(run)

    def started(self, parcel_id: int, number: int, at: float, worker: str | None) -> None:
        """A worker tells that a run has been executing for a while."""
        parcel = self.parcels.get(parcel_id)
        run = parcel.open.get(number) if parcel else None
        if run is None:
            self.late += 1
            return
        if run.redo:  # final already; only its value is wanted back
            return
        state = RUNNING if run.state == PENDING else RETRYING
        if run.state != state:
            self._move(run, state)
        run.started_at, run.worker = at, worker
        self._note(run, at, state, None, run.attempt + 1)

    def outcomes(
        self, parcel_id: int, outcomes: Iterable[Outcome], worker: str | None, pid: int | None
    ) -> None:
        """Executions that ended on a worker."""
        parcel = self.parcels.get(parcel_id)
        if parcel is None:
            self.late += 1
            return
        seen: dict[Stage, tuple[int, float]] = {}
        opened = parcel.open
        for outcome in outcomes:
            run = opened.pop(outcome.number, None)
            if run is None:
                self.late += 1
                continue
            parcel.lane.runs -= 1
            stage = run.stage
            count, total = seen.get(stage, (0, 0.0))
            seen[stage] = (count + 1, total + outcome.run_s)
            self._executed(run, outcome, worker, pid)
        for stage, (count, total) in seen.items():
            stage.estimate.update(total / count)

    def handed_back(self, parcel_id: int, numbers: Iterable[int]) -> None:
        """Runs that a worker will not start; they are charged nothing."""
        parcel = self.parcels.get(parcel_id)
        if parcel is None:
            self.late += 1
            return
        returned = [run for n in numbers if (run := parcel.open.pop(n, None)) is not None]
        parcel.lane.runs -= len(returned)
        self._return(returned)

    def parcel_done(self, parcel_id: int) -> None:
        """The worker has told everything about this parcel; what is still open never started."""
        parcel = self._close(parcel_id)
        if parcel is not None:
            self._return(list(parcel.open.values()))

    def parcel_lost(
        self,
        parcel_id: int,
        now: float,
        cause: str,
        *,
        executing: Collection[int] | None,
        expected: bool = False,
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
            of one run charges it, and the runs of a larger one are suspects that each go alone.
        expected : bool
            A retired worker: nobody is charged.
        """
        parcel = self._close(parcel_id)
        if parcel is None:
            return
        remaining = list(parcel.open.values())
        if executing is None and len(remaining) > 1 and not expected:
            for run in remaining:
                run.solo = True
            self._return(remaining)
            return
        innocent = []
        for run in remaining:
            guilty = executing is None or run.number in executing
            if guilty and not expected:
                self._crashed(run, now, cause)
            else:
                innocent.append(run)
        self._return(innocent)

    def parcel_failed(self, parcel_id: int, now: float, reason: str) -> None:
        """The cluster could not run this parcel at all; a further try would end the same."""
        parcel = self._close(parcel_id)
        if parcel is None:
            return
        for run in list(parcel.open.values()):
            run.parcel = None
            self._end(run, CRASHED, now, reason, TaskCrashed(run.task_run_id, reason))

    def cancel(self, scope: Scope, now: float) -> None:
        """Nothing of this flow run starts any more; runs in flight are left to end by themselves.

        Parcels none of whose runs has been reported yet are the shell's to drop: it tells
        with `drop_parcel`.
        """
        scope.cancelled = True
        for stage in scope.stages:
            while stage.ready:
                self._cancel(stage.ready.popleft(), now)
        timers, self._timers = self._timers, []
        for due, order, run in timers:
            if run.stage.scope is not scope:
                heapq.heappush(self._timers, (due, order, run))
            elif run.state not in FINAL:
                self._cancel(run, now)

    def refuse(self, error: BaseException, now: float) -> None:
        """The cluster is gone for good: everything that is not final crashes with `error`."""
        self.refusal = error
        for parcel_id in list(self.parcels):
            self.parcel_failed(parcel_id, now, str(error))
        for lane in self._order:
            for stage in list(lane.ready):
                while stage.ready:
                    self._refuse(stage.ready.popleft(), now)
        timers, self._timers = self._timers, []
        for _, _, run in timers:
            self._refuse(run, now)

    def _refuse(self, run: Run, at: float) -> None:
        if run.redo:
            run.redo, run.error = False, self.refusal
            self._settle(run, at)
        elif run.state not in FINAL:
            self._end(run, CRASHED, at, str(self.refusal), self.refusal)

    def drop_parcel(self, parcel_id: int, now: float) -> None:
        """The shell dropped this parcel on the cluster; what had not ended is cancelled."""
        parcel = self._close(parcel_id)
        if parcel is None:
            return
        for run in list(parcel.open.values()):
            run.parcel = None
            self._cancel(run, now)

    # -- values that live on workers -----------------------------------------------------------

    def let_go(self, run: Run) -> None:
        """Nobody holds the future of `run` any more."""
        run.held = False
        self._drop_value(run)

    def value_lost(self, run: Run) -> None:
        """The worker that held the value of `run` is gone; it is made again when it is needed."""
        if run.state in SUCCESSFUL and run.kept:
            run.value, run.kept = None, False
            if run.dependents:
                self._hold_back()

    def value_needed(self, run: Run) -> None:
        """Somebody waits for the value of a run that has succeeded; execute it again if lost."""
        if run.state in SUCCESSFUL and not run.kept and not run.redo and run.error is None:
            run.redo = True
            run.waiting = 0
            if self._connect(run, again=True) is None and not run.waiting:
                self._enqueue(run)

    # -- packing -------------------------------------------------------------------------------

    def pack(self, now: float) -> None:
        """Turn ready runs into parcels, as far as the window allows."""
        if not self.slots:
            return
        for lane in self._order:
            room = window(lane, self.slots, self.rules)
            idle = 0  # stages in a row that had nothing to send
            while room > 0 and idle < len(lane.ready):
                stage = lane.ready.popleft()
                if self._pack_stage(lane, stage, now):
                    room -= 1
                    idle = 0
                else:
                    idle += 1
                if stage.ready:
                    lane.ready.append(stage)
                elif idle:
                    idle -= 1

    def _pack_stage(self, lane: Lane, stage: Stage, now: float) -> bool:
        ready = stage.ready
        while ready and (ready[0].state in FINAL and not ready[0].redo):
            ready.popleft()  # cancelled while it was queued
        if not ready:
            return False
        probe = stage.estimate.seconds is None and not lane.key.is_async
        if probe and stage.probing >= self.rules.depth * self.slots:
            return False
        first = ready.popleft()
        if first.solo or first.redo:
            runs = [first]
        else:
            base = [first]
            size = parcel_size(stage, self.slots, self.rules) if not probe else 1
            while len(base) < size and ready and not (ready[0].solo or ready[0].redo):
                base.append(ready.popleft())
            runs = fuse(base, self.rules)
        self._send(lane, runs, now, stage if probe else None)
        return True

    def _send(self, lane: Lane, runs: list[Run], now: float, probe_of: Stage | None) -> None:
        box_s = 2 * self.rules.target_s if len(runs) > 1 and not lane.key.is_async else None
        parcel = Parcel(self._next_parcel, lane, runs, box_s, now)
        self._next_parcel += 1
        for run in runs:
            run.parcel = parcel
        lane.parcels += 1
        lane.runs += len(runs)
        if probe_of is not None:
            parcel.probe_of = probe_of
            probe_of.probing += 1
        self.parcels[parcel.id] = parcel
        self._decisions.send.append(parcel)

    # -- inside --------------------------------------------------------------------------------

    def _lane(self, key: LaneKey) -> Lane:
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane(key)
            self._order.append(lane)
            self._order.sort(key=lambda each: -each.key.priority)
        return lane

    def _enqueue(self, run: Run) -> None:
        stage = run.stage
        if not stage.ready:
            lane = self._lane(stage.lane_key)
            if stage not in lane.ready:
                lane.ready.append(stage)
        stage.ready.append(run)

    def _connect(self, run: Run, *, again: bool = False) -> Run | None:
        """Record the edges of `run`; return an input that ended badly and is not allowed to."""
        allowed = run.allowed or ()
        unique: dict[Run, bool] = {}
        for slot, dep in enumerate(run.deps):
            unique[dep] = unique.get(dep, True) and slot in allowed
        taken = run.deps[: run.taken]
        if run.parents is None:
            run.parents = tuple(dep.number for dep in unique if dep.number >= 0) or None
        for dep, may_fail in unique.items():
            if dep.state in FINAL and not dep.redo:
                bad = dep.state not in SUCCESSFUL or dep.error is not None
                if bad and not may_fail:
                    return dep
                if bad:
                    dep.looked_at = True
                if bad or dep.kept or dep not in taken:
                    continue
                self.value_needed(dep)
            run.waiting += 1
            if dep.children is None:
                dep.children = []
            dep.children.append(run)
        if not again:
            for dep in unique:
                dep.dependents += 1
        return None

    def _executed(self, run: Run, outcome: Outcome, worker: str | None, pid: int | None) -> None:
        run.parcel = None
        ended_at = outcome.started_at + outcome.run_s
        if run.redo:
            self._redone(run, outcome)
            return
        run.attempt += 1
        run.started_at, run.run_s = outcome.started_at, outcome.run_s
        run.cpu_s, run.encode_s = outcome.cpu_s, outcome.encode_s
        run.worker, run.pid = worker, pid
        if run.state == PENDING:
            run.state = RUNNING
        elif run.state == AWAITING_RETRY:
            run.state = RETRYING
        if outcome.ok:
            run.value = outcome.value
            run.result_bytes = outcome.result_bytes
            self._end(run, COMPLETED, ended_at, None, None)
            return
        error = outcome.error
        assert error is not None
        text = describe(error)
        if outcome.crashed:
            crash = TaskCrashed(run.task_run_id, f"the task asked its process to end: {text}")
            crash.__cause__ = error
            self._end(run, CRASHED, ended_at, text, crash)
            return
        run.failures += 1
        delay = retry_delay(run.stage.policy, run.failures, self.jitter())
        retry_if = run.stage.retry_if
        if delay is None or (retry_if is not None and not retry_if(run, error)):
            self._end(run, FAILED, ended_at, text, error)
        elif run.stage.scope.cancelled:
            self._cancel(run, ended_at)
        else:
            run.stage.retried += 1
            self._await_retry(run, ended_at, ended_at + delay, text)

    def _redone(self, run: Run, outcome: Outcome) -> None:
        run.redo = False
        if outcome.ok:
            run.value, run.kept = outcome.value, True
        else:
            run.error = outcome.error
        self._settle(run, outcome.started_at + outcome.run_s)

    def _crashed(self, run: Run, now: float, cause: str) -> None:
        run.parcel = None
        run.solo = True  # never again beside others: they must not pay for it
        run.crashes += 1
        run.stage.crashes += 1
        if run.redo:  # its outcome is known; only the value is wanted back
            self._again(run)
            return
        run.attempt += 1
        delay = crash_backoff(run.stage.policy, run.crashes)
        if run.state in (PENDING, AWAITING_RETRY):
            self._move(run, RUNNING if run.state == PENDING else RETRYING)
        if run.stage.scope.cancelled:
            self._cancel(run, now)
        elif delay is None:
            text = f"worker lost {run.crashes} times while executing it, the last time: {cause}"
            self._end(run, CRASHED, now, text, TaskCrashed(run.task_run_id, text))
        else:
            self._await_retry(run, now, now + delay, f"worker lost: {cause}")

    def _await_retry(self, run: Run, at: float, due: float, message: str) -> None:
        self._move(run, AWAITING_RETRY)
        self._note(run, at, AWAITING_RETRY, message, run.attempt)
        heapq.heappush(self._timers, (due, run.number, run))

    def _return(self, runs: Sequence[Run]) -> None:
        """Put runs that were not executed back, in their old order, before newer ones."""
        for run in runs:
            run.parcel = None
        for run in reversed(runs):
            if run.stage.scope.cancelled and not run.redo:
                self._cancel(run, run.created_at)
            elif not run.waiting:
                self._again(run)

    def _again(self, run: Run) -> None:
        """Queue a run that was queued before, in front; inputs lost meanwhile are made again."""
        taken = run.deps[: run.taken]
        missing = [dep for dep in taken if not dep.kept and dep.error is None]
        if missing:
            for dep in dict.fromkeys(missing):
                self.value_needed(dep)
                run.waiting += 1
                dep.children = [*(dep.children or ()), run]
            return
        self._enqueue(run)
        run.stage.ready.rotate(1)

    def _hold_back(self) -> None:
        """A value was lost: queued runs that take it must wait for it again."""
        for lane in self._order:
            for stage in list(lane.ready):
                queued, stage.ready = stage.ready, type(stage.ready)()
                for run in queued:
                    if any(not dep.kept for dep in run.deps[: run.taken]):
                        self._again(run)
                    else:
                        stage.ready.append(run)

    def _end(
        self, run: Run, state: str, at: float, message: str | None, error: BaseException | None
    ) -> None:
        if run.state in FINAL:
            return
        check_transition(run.state, state, repr(run))
        run.ended_at, run.message, run.error = at, message, error
        run.state = state  # last: whoever sees a final state finds the rest in place
        stage = run.stage
        stage.counts[state] = stage.counts.get(state, 0) + 1
        scope = stage.scope
        scope.open -= 1
        if state not in SUCCESSFUL:
            scope.failed.append(run)
        deps = run.deps
        if not isinstance(run.value, Remote):
            run.payload, run.deps = None, ()
        for dep in set(deps) if len(deps) > 1 else deps:
            dep.dependents -= 1
            if dep.dependents <= 0:
                self._drop_value(dep)
        self._decisions.final.append(run)
        self._settle(run, at)

    def _settle(self, run: Run, at: float) -> None:
        """Tell those that wait for `run`; with its value nobody waits for, let that go."""
        children, run.children = run.children, None
        if children:
            bad = run.state not in SUCCESSFUL or run.error is not None
            for child in children:
                if child.state in FINAL and not child.redo:
                    continue
                if child.stage.scope.cancelled and child.parcel is None and not child.redo:
                    self._cancel(child, at)
                    continue
                if bad and not self._may_fail(child, run):
                    self._not_ready(child, run, at)
                    continue
                if bad:
                    run.looked_at = True
                child.waiting -= 1
                if not child.waiting and child.parcel is None:
                    self._enqueue(child)
        self._drop_value(run)

    def _may_fail(self, run: Run, dep: Run) -> bool:
        allowed = run.allowed
        return allowed is not None and all(
            slot in allowed for slot, each in enumerate(run.deps) if each is dep
        )

    def _drop_value(self, run: Run) -> None:
        if not run.held and run.dependents <= 0 and isinstance(run.value, Remote):
            run.value, run.kept = None, False

    def _not_ready(self, run: Run, cause: Run, at: float) -> None:
        if run.redo:
            run.redo = False
            run.error = cause.error
            self._settle(run, at)
            return
        if run.parcel is not None:  # rode in the parcel of the input that failed
            run.parcel.lane.runs -= run.parcel.open.pop(run.number, None) is not None
            run.parcel = None
        if run.stage.scope.cancelled:
            self._cancel(run, at)
            return
        root = cause.cause or cause
        text = f"{root.label} ended {root.state}: {root.message}"
        run.cause = root
        self._note(run, at, NOT_READY, text, 0)
        self._end(run, NOT_READY, at, text, UpstreamFailed(run.task_run_id, text))

    def _cancel(self, run: Run, at: float) -> None:
        run.parcel = None
        if run.state in FINAL:
            return
        text = "cancelled with its flow run"
        self._note(run, at, CANCELLED, text, run.attempt)
        self._end(run, CANCELLED, at, text, TaskCancelled(run.task_run_id, text))

    def _close(self, parcel_id: int) -> Parcel | None:
        parcel = self.parcels.pop(parcel_id, None)
        if parcel is None:
            self.late += 1
            return None
        parcel.lane.parcels -= 1
        parcel.lane.runs -= len(parcel.open)
        if parcel.probe_of is not None:
            parcel.probe_of.probing -= 1
        self._decisions.done.append(parcel)
        return parcel

    def _move(self, run: Run, state: str) -> None:
        check_transition(run.state, state, repr(run))
        run.state = state

    def _note(
        self,
        run: Run,
        at: float,
        state: str,
        message: str | None,
        attempt: int,
        worker: str | None = None,
    ) -> None:
        self._decisions.transitions.append(
            Transition(run, at, state, message, attempt, worker or run.worker)
        )


def describe(error: BaseException) -> str:
    """One line for a message: the error's type and text."""
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
