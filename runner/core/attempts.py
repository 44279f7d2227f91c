"""What the end of one execution means for its run: final, or once more and when.

`retries` are spent by exceptions, `crash_retries` by lost workers.  A run that is executed again
only because its value was lost (`Run.redo`) spends what its budgets have left, and keeps its state.

Delays are counted by the clock of `tick` alone, from when the driver hears of an end: what workers
and the record go by are wall clocks, which differ and are set.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

from daskflow.errors import TaskCrashed, TaskTimedOut
from daskflow.runner.core.decisions import describe
from daskflow.runner.core.endings import Endings
from daskflow.runner.core.graph import Outcome, Run, Scope
from daskflow.runner.core.retries import crash_backoff, retry_delay
from daskflow.runner.core.states import (
    AWAITING_RETRY,
    CACHED,
    CRASHED,
    FAILED,
    FINAL,
    PENDING,
    RETRYING,
    RUNNING,
    TIMED_OUT,
)

__all__ = ["Attempts"]


class Attempts:
    """Decides on executions that ended, and keeps the runs whose retry is delayed.

    Parameters
    ----------
    endings : Endings
    jitter : callable
        Returns numbers in [0, 1) for `retry_jitter_factor`.
    """

    def __init__(self, endings: Endings, jitter: Callable[[], float]) -> None:
        self._endings = endings
        self._jitter = jitter
        self.clock = 0.0  # what `tick` was told last
        self._delayed: list[tuple[float, int, Run]] = []
        self._order = itertools.count()

    # -- executions ----------------------------------------------------------------------------

    def started(self, run: Run, at: float, worker: str | None) -> None:
        """`run` has been executing for a while."""
        if run.state == PENDING:
            self._endings.move(run, RUNNING)
        elif run.state == AWAITING_RETRY:
            self._endings.move(run, RETRYING)
        else:  # told already, or only its lost value is being made again
            return
        run.started_at, run.worker = at, worker
        self._endings.note(run, at, run.state, None, run.attempt + 1)

    def executed(self, run: Run, outcome: Outcome, worker: str | None, pid: int | None) -> None:
        """A worker executed `run` to its end."""
        _, ok, started_at, run_s, value, error, _, cpu_s, encode_s, result_bytes, _ = outcome
        ended_at = started_at + run_s
        if run.redo:
            self._executed_again(run, outcome, ended_at)
            return
        run.attempt += 1
        run.started_at, run.run_s = started_at, run_s
        run.cpu_s, run.encode_s = cpu_s, encode_s
        run.worker, run.pid = worker, pid
        noted = True
        if run.state == PENDING:
            run.state, noted = RUNNING, False
        elif run.state == AWAITING_RETRY:
            run.state, noted = RETRYING, False
        if ok:
            run.value, run.result_bytes = value, result_bytes
            if run.cache is not None and run.cache.hit:
                self._endings.end(run, CACHED, ended_at, None, None)
            else:
                self._endings.complete(run, ended_at)
            return
        assert error is not None
        text = describe(error)
        if outcome.timed_out and isinstance(error, TaskTimedOut):
            text = error.message
        if outcome.crashed:
            self._endings.end(run, CRASHED, ended_at, text, _ended_its_process(run, error))
            return
        delay = self._retry_delay(run, error)
        if delay is None:
            state = TIMED_OUT if outcome.timed_out else FAILED
            self._endings.end(run, state, ended_at, text, error)
        elif run.stage.scope.cancelled:
            self._endings.cancel(run, ended_at)
        else:
            run.stage.retried += 1
            if not noted:  # the row will tell of the last attempt only
                self._endings.note(run, outcome.started_at, run.state, None, run.attempt)
            self._await_retry(run, ended_at, delay, text)

    def _executed_again(self, run: Run, outcome: Outcome, ended_at: float) -> None:
        if outcome.ok:
            run.value, run.kept = outcome.value, True
            self._endings.remade(run, ended_at)
            return
        error = outcome.error
        assert error is not None
        if outcome.crashed:
            self._endings.remade(run, ended_at, _ended_its_process(run, error))
            return
        delay = self._retry_delay(run, error)
        if delay is None:
            self._endings.remade(run, ended_at, error)
        else:
            self._delay(run, delay)

    def crashed(self, run: Run, now: float, cause: str) -> None:
        """The worker was lost while it executed `run`."""
        run.solo = True  # never again beside others: they must not pay for it
        run.crashes += 1
        run.stage.crashes += 1
        delay = crash_backoff(run.stage.policy, run.crashes)
        text = f"worker lost {run.crashes} times while executing it, the last time: {cause}"
        if run.redo:
            if delay is None:
                self._endings.remade(run, now, TaskCrashed(run.task_run_id, text))
            else:
                self._delay(run, delay)
            return
        run.attempt += 1
        if run.state == PENDING:
            self._endings.move(run, RUNNING)
        elif run.state == AWAITING_RETRY:
            self._endings.move(run, RETRYING)
        if run.stage.scope.cancelled:
            self._endings.cancel(run, now)
        elif delay is None:
            self._endings.end(run, CRASHED, now, text, TaskCrashed(run.task_run_id, text))
        else:
            self._await_retry(run, now, delay, f"worker lost: {cause}")

    def put_back(self, run: Run) -> None:
        """A parcel came back without an outcome of `run`, which is charged nothing."""
        self._endings.unstart(run)
        scope = run.stage.scope
        if scope.cancelled and not run.redo:
            self._endings.cancel(run, scope.cancelled_at or run.created_at)
        elif not run.waiting:
            self._endings.inputs.ready(run, first=True)

    def _retry_delay(self, run: Run, error: BaseException) -> float | None:
        run.failures += 1
        stage = run.stage
        delay = retry_delay(stage.policy, run.failures, self._jitter())
        if delay is not None and stage.retry_if is not None and not stage.retry_if(run, error):
            return None
        return delay

    # -- delayed retries -----------------------------------------------------------------------

    def _await_retry(self, run: Run, at: float, delay_s: float, message: str) -> None:
        self._endings.move(run, AWAITING_RETRY)
        self._endings.note(run, at, AWAITING_RETRY, message, run.attempt)
        self._delay(run, delay_s)

    def _delay(self, run: Run, delay_s: float) -> None:
        run.waiting += 1  # for the clock; it may wait for an input that was lost with it, too
        heapq.heappush(self._delayed, (self.clock + delay_s, next(self._order), run))

    def next_due(self) -> float | None:
        """When `tick` has something to do; None for never."""
        return self._delayed[0][0] if self._delayed else None

    def tick(self, now: float) -> None:
        """Let retries go whose delay is over."""
        self.clock = now
        while self._delayed and self._delayed[0][0] <= now:
            _, _, run = heapq.heappop(self._delayed)
            if run.state in FINAL and not run.redo:
                continue  # an input of it failed meanwhile
            run.waiting -= 1
            if not run.waiting:
                self._endings.inputs.ready(run)

    def take_delayed(self, scope: Scope | None = None) -> list[Run]:
        """Take out the delayed runs (of `scope` only) that have no final state."""
        delayed, self._delayed = self._delayed, []
        taken = []
        for entry in sorted(delayed):  # a sorted list is a heap
            run = entry[2]
            if scope is None or (run.stage.scope is scope and not run.redo):
                taken.append(run)
            else:
                self._delayed.append(entry)
        return taken


def _ended_its_process(run: Run, error: BaseException) -> TaskCrashed:
    crash = TaskCrashed(run.task_run_id, f"the task asked its process to end: {describe(error)}")
    crash.__cause__ = error
    return crash
