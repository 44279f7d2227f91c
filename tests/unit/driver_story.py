"""A driver and whoever tells it what happens, in words: a test reads as the story of its runs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from daskflow.errors import TaskTimedOut
from daskflow.runner.core.decisions import Transition
from daskflow.runner.core.driver import Driver
from daskflow.runner.core.graph import CacheNote, LaneKey, Outcome, Remote, Run, Scope, Stage
from daskflow.runner.core.packing import PackingRules
from daskflow.runner.core.retries import RetryPolicy


class Large(Remote):
    """A value that stays on its worker."""

    __slots__ = ()


class Story:
    """One driver on a cluster of `slots` slots; time passes only when the test says so."""

    def __init__(self, slots: int = 1, rules: PackingRules | None = None) -> None:
        self.driver = Driver(rules)
        self.driver.slots = slots
        self.scope = Scope("f")
        self.now = 100.0
        self.final: list[Run] = []
        self.notes: list[Transition] = []
        self._numbers = itertools.count()

    # -- the flow ------------------------------------------------------------------------------

    def task(
        self,
        name: str = "t",
        *,
        scope: Scope | None = None,
        lane: LaneKey | None = None,
        takes_s: float | None = None,
        retry_if: object = None,
        **policy: object,
    ) -> Stage:
        """A task; `takes_s` is what is known of its duration."""
        stage = Stage(
            scope or self.scope,
            name,
            RetryPolicy(**policy),  # type: ignore[arg-type]
            lane_key=lane,
            retry_if=retry_if,  # type: ignore[arg-type]
        )
        stage.estimate.seconds = takes_s
        return stage

    def submit(
        self, task: Stage, *deps: Run, allow: Sequence[int] = (), taken: int | None = None
    ) -> Run:
        """Submit one run; `allow` names the slots of inputs that may fail."""
        allowed = frozenset(allow) or None
        run = Run(task, next(self._numbers), "payload", deps, self.now, allowed, taken)
        self.driver.submit(run)
        return run

    def submit_cached(self, task: Stage, note: CacheNote, *deps: Run) -> Run:
        """Submit a run that is to be looked up."""
        run = Run(task, next(self._numbers), "payload", deps, self.now)
        run.cache = note
        self.driver.submit(run)
        return run

    def chain(self, task: Stage, length: int) -> list[Run]:
        """Submit runs of which each takes the one before."""
        runs = [self.submit(task)]
        while len(runs) < length:
            runs.append(self.submit(task, runs[-1]))
        return runs

    def let_go(self, *runs: Run) -> None:
        """Drop the futures of runs."""
        for run in runs:
            self.driver.let_go(run)

    # -- the shell -----------------------------------------------------------------------------

    def sent(self) -> list[list[Run]]:
        """Let the driver pack; return what each new parcel holds."""
        self.driver.pack(self.now)
        taken = self.driver.take()
        self.final += taken.final
        self.notes += taken.transitions
        return [parcel.runs for parcel in taken.send]

    def later(self, seconds: float) -> list[list[Run]]:
        """Let time pass; return what is sent then."""
        self.now += seconds
        self.driver.tick(self.now)
        return self.sent()

    def told(self, run: Run) -> list[str]:
        """The transitions of `run` that were recorded."""
        self.sent()
        return [note.state for note in self.notes if note.run is run]

    # -- the workers ---------------------------------------------------------------------------

    def ok(self, *runs: Run, value: object = "value", run_s: float = 0.001) -> None:
        """These runs were executed well; parcels in which nothing is open are done."""
        for run in runs:
            self._outcome(run, Outcome(run.number, True, self.now, run_s, value))

    def fails(self, *runs: Run, error: BaseException | None = None, exits: bool = False) -> None:
        """These runs raised."""
        for run in runs:
            raised = error or ValueError("no good")
            outcome = Outcome(run.number, False, self.now, 0.001, None, raised, exits)
            self._outcome(run, outcome)

    def times_out(self, run: Run, run_s: float = 1.0) -> None:
        """This run is told to have taken too long; its body goes on, and so does its parcel."""
        assert run.parcel is not None
        error = TaskTimedOut(run.task_run_id, "ran longer than it may")
        outcome = Outcome(run.number, False, self.now, run_s, None, error, timed_out=True)
        self.driver.outcomes(run.parcel.id, [outcome], "w", 7)

    def _outcome(self, run: Run, outcome: Outcome) -> None:
        parcel = run.parcel
        assert parcel is not None, f"{run!r} is not with a worker"
        self.driver.outcomes(parcel.id, [outcome], "w", 7)
        if not parcel.open:
            self.driver.parcel_done(parcel.id)

    def starts(self, run: Run) -> None:
        """A worker tells that this run is executing."""
        assert run.parcel is not None
        self.driver.started(run.parcel.id, run.number, self.now, "w")

    def hand_back(self, *runs: Run) -> None:
        """A worker will not start these runs, which share a parcel; it is done with it."""
        parcel = runs[0].parcel
        assert parcel is not None
        self.driver.handed_back(parcel.id, [run.number for run in runs])
        if not parcel.open:
            self.driver.parcel_done(parcel.id)

    def lose(
        self,
        run: Run,
        *,
        executing: Sequence[Run] | None = None,
        expected: bool = False,
        alone: bool = True,
    ) -> None:
        """The worker that has the parcel of `run` is lost; `executing` is what is known."""
        assert run.parcel is not None
        numbers = None if executing is None else {each.number for each in executing}
        self.driver.parcel_lost(
            run.parcel.id, self.now, "killed", executing=numbers, expected=expected, alone=alone
        )

    def lose_value(self, *runs: Run) -> None:
        """The worker that held the values of these runs is lost."""
        for run in runs:
            self.driver.value_lost(run)
