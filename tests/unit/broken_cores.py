"""The core, broken on purpose in one place each: what a simulator that is any good finds.

Each function patches the product's classes; `pytest.MonkeyPatch` puts them back.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

import pytest

from daskflow.runner.core import attempts, inputs
from daskflow.runner.core.attempts import Attempts
from daskflow.runner.core.driver import Driver
from daskflow.runner.core.endings import Endings
from daskflow.runner.core.inputs import Inputs
from daskflow.runner.core.lanes import Lanes
from daskflow.runner.core.states import COMPLETED, FINAL

__all__ = ["BROKEN"]

Break = Callable[[pytest.MonkeyPatch], None]


def takes_outcomes_of_old_attempts(patch: pytest.MonkeyPatch) -> None:
    """News of a parcel that is done with is taken for news of wherever its runs are now."""
    right = Driver.outcomes

    def outcomes(self, parcel_id, told, worker, pid):
        told = list(told)
        if parcel_id not in self.parcels:
            for outcome in told:
                for parcel in list(self.parcels.values()):
                    if outcome.number in parcel.open:
                        right(self, parcel.id, [outcome], worker, pid)
            return
        right(self, parcel_id, told, worker, pid)

    patch.setattr(Driver, "outcomes", outcomes)


def counts_outcomes_before_their_inputs(patch: pytest.MonkeyPatch) -> None:
    """A run completes though nothing is known of the input that went before it."""
    right = Driver.outcomes

    def outcomes(self, parcel_id, told, worker, pid):
        parcel = self.parcels.get(parcel_id)
        told = list(told)
        for outcome in told if parcel else ():
            if (run := parcel.open.get(outcome.number)) is not None:
                run.waiting = 0
        right(self, parcel_id, told, worker, pid)

    patch.setattr(Driver, "outcomes", outcomes)


def charges_all_that_was_queued(patch: pytest.MonkeyPatch) -> None:
    """The loss of a worker is charged to every run of its parcel."""
    right = Driver.parcel_lost

    def parcel_lost(self, parcel_id, now, cause, *, executing, expected=False):
        if executing and parcel_id in self.parcels:
            executing = set(self.parcels[parcel_id].open)
        right(self, parcel_id, now, cause, executing=executing, expected=expected)

    patch.setattr(Driver, "parcel_lost", parcel_lost)


def charges_expected_losses(patch: pytest.MonkeyPatch) -> None:
    """A worker that was retired counts like one that died."""
    right = Driver.parcel_lost

    def parcel_lost(self, parcel_id, now, cause, *, executing, expected=False):
        right(self, parcel_id, now, cause, executing=executing, expected=False)

    patch.setattr(Driver, "parcel_lost", parcel_lost)


def charges_nobody(patch: pytest.MonkeyPatch) -> None:
    """A run that kills its workers is never stopped."""
    right = Driver.parcel_lost

    def parcel_lost(self, parcel_id, now, cause, *, executing, expected=False):
        right(self, parcel_id, now, cause, executing=(), expected=True)

    patch.setattr(Driver, "parcel_lost", parcel_lost)


def changes_final_states(patch: pytest.MonkeyPatch) -> None:
    """A run of a flow run that is cancelled becomes Cancelled, whatever it was."""
    right = Driver.cancel

    def cancel(self, scope, now):
        for parcel in self.parcels.values():
            for run in parcel.runs:
                if run.stage.scope is scope and run.state == COMPLETED:
                    run.state = "Cancelled"
        right(self, scope, now)

    patch.setattr(Driver, "cancel", cancel)


def retries_once_too_often(patch: pytest.MonkeyPatch) -> None:
    """A budget of n exceptions is spent by the n + 2nd."""
    right = attempts.retry_delay
    patch.setattr(attempts, "retry_delay", lambda policy, n, jitter: right(policy, n - 1, jitter))


def crashes_once_too_often(patch: pytest.MonkeyPatch) -> None:
    """A budget of n lost workers is spent by the n + 2nd."""
    right = attempts.crash_backoff
    patch.setattr(attempts, "crash_backoff", lambda policy, n: right(policy, max(1, n - 1)))


def forgets_a_delayed_retry(patch: pytest.MonkeyPatch) -> None:
    """The end of its delay is noted, and the run is not queued."""

    def tick(self, now):
        self.clock = now
        while self._delayed and self._delayed[0][0] <= now:
            _, _, run = heapq.heappop(self._delayed)
            if run.state not in FINAL or run.redo:
                run.waiting -= 1

    patch.setattr(Attempts, "tick", tick)


def delays_by_the_clock_of_the_worker(patch: pytest.MonkeyPatch) -> None:
    """A retry is due when the wall clock of its worker, and a delay, say so."""

    def _await_retry(self, run, at, delay_s, message):
        self._endings.move(run, "AwaitingRetry")
        self._endings.note(run, at, "AwaitingRetry", message, run.attempt)
        self._delay(run, at - self.clock + delay_s)

    patch.setattr(Attempts, "_await_retry", _await_retry)


def loses_what_is_handed_back(patch: pytest.MonkeyPatch) -> None:
    """Runs that a worker gives back are in no parcel and in no queue."""

    def handed_back(self, parcel_id, numbers):
        parcel = self.parcels.get(parcel_id)
        for number in numbers if parcel else ():
            self._lanes.take_back(parcel, number)

    patch.setattr(Driver, "handed_back", handed_back)


def queues_what_is_handed_back_twice(patch: pytest.MonkeyPatch) -> None:
    """Runs that a worker gives back stay in their parcel, too."""

    def handed_back(self, parcel_id, numbers):
        parcel = self.parcels.get(parcel_id)
        runs = [parcel.open.get(number) for number in numbers] if parcel else []
        self._put_back([run for run in runs if run is not None])

    patch.setattr(Driver, "handed_back", handed_back)


def sends_before_all_inputs(patch: pytest.MonkeyPatch) -> None:
    """A run goes when the first of its inputs has ended."""
    right = Endings._tell

    def _tell(self, run, at):
        for child in run.children or ():
            if child.parcel is None and child.state == "Pending":
                child.waiting = min(child.waiting, 1)
        right(self, run, at)

    patch.setattr(Endings, "_tell", _tell)


def hands_on_what_failed(patch: pytest.MonkeyPatch) -> None:
    """Every input may fail, whether the flow allowed it or not."""
    patch.setattr("daskflow.runner.core.endings._may_fail", lambda run, dep: True)


def starts_what_is_cancelled(patch: pytest.MonkeyPatch) -> None:
    """Queued runs of a cancelled flow run are left in their queues."""

    def cancel(self, scope, now):
        scope.cancelled, scope.cancelled_at = True, now

    patch.setattr(Driver, "cancel", cancel)


def does_not_hear_of_lost_values(patch: pytest.MonkeyPatch) -> None:
    """A value is thought to be where it was."""
    patch.setattr(Inputs, "lost", lambda self, run: None)


def makes_nothing_again(patch: pytest.MonkeyPatch) -> None:
    """A lost value stays lost."""
    patch.setattr(Inputs, "need", lambda self, run: None)


def sends_without_lost_inputs(patch: pytest.MonkeyPatch) -> None:
    """Runs in the queue are sent though a value that they take was lost meanwhile."""
    patch.setattr(inputs, "_misses_inputs", lambda run: False)


def takes_every_answer(patch: pytest.MonkeyPatch) -> None:
    """An answer about a look-up counts as often as it comes."""
    patch.setattr(Driver, "_answers", lambda self, run: run.state not in FINAL)


def ends_twice(patch: pytest.MonkeyPatch) -> None:
    """An end is told again when the last report of its parcel comes."""
    right = Driver.parcel_done

    def parcel_done(self, parcel_id):
        parcel = self.parcels.get(parcel_id)
        right(self, parcel_id)
        if parcel is not None and parcel.runs[0].state in FINAL:
            self._endings.decisions.final.append(parcel.runs[0])

    patch.setattr(Driver, "parcel_done", parcel_done)


def forgets_parcels_of_a_lost_worker(patch: pytest.MonkeyPatch) -> None:
    """Nobody puts back what was open in them."""

    def parcel_lost(self, parcel_id, now, cause, *, executing, expected=False):
        self._close(parcel_id)

    patch.setattr(Driver, "parcel_lost", parcel_lost)


def miscounts_parcels(patch: pytest.MonkeyPatch) -> None:
    """A parcel that gave its slot back frees it once more when it ends."""
    right = Lanes.close

    def close(self, parcel_id):
        parcel = self.parcels.get(parcel_id)
        if parcel is not None:
            parcel.gave_way = False
        return right(self, parcel_id)

    patch.setattr(Lanes, "close", close)


BROKEN: dict[str, Break] = {
    each.__name__: each
    for each in (
        takes_outcomes_of_old_attempts,
        counts_outcomes_before_their_inputs,
        charges_all_that_was_queued,
        charges_expected_losses,
        charges_nobody,
        changes_final_states,
        retries_once_too_often,
        crashes_once_too_often,
        forgets_a_delayed_retry,
        delays_by_the_clock_of_the_worker,
        loses_what_is_handed_back,
        queues_what_is_handed_back_twice,
        sends_before_all_inputs,
        hands_on_what_failed,
        starts_what_is_cancelled,
        does_not_hear_of_lost_values,
        makes_nothing_again,
        sends_without_lost_inputs,
        takes_every_answer,
        ends_twice,
        forgets_parcels_of_a_lost_worker,
        miscounts_parcels,
    )
}
