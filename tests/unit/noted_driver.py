"""A driver that is told wall-clock times which may be set, and writes down what it is told.

It is where the simulated world meets the core: every event passes here, so the story of a seed
can be printed step by step.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from daskflow.runner.core.driver import Driver
from daskflow.runner.core.graph import Outcome, Run, Scope
from daskflow.runner.core.packing import PackingRules

__all__ = ["NotedDriver", "labels"]


def labels(runs: Collection[Run]) -> str:
    """Names of runs, for a line of a story."""
    return ", ".join(run.label for run in runs)


class NotedDriver(Driver):
    """The product's driver.

    Parameters
    ----------
    rules : PackingRules or None
    jitter : callable
    story : list of str or None
        Gets one line for each event; None writes nothing down.
    """

    def __init__(self, rules: PackingRules | None, jitter: Any, story: list[str] | None) -> None:
        super().__init__(rules, jitter)
        self.offset_s = 0.0  # of the wall clock, which somebody sets
        self.story = story
        self.lost_values: set[object] = set()  # that it was told of

    def note(self, text: str) -> None:
        """Write down what happens."""
        if self.story is not None:
            self.story.append(f"{self._attempts.clock:9.3f}  {text}")

    def _named(self, parcel_id: int, numbers: Collection[int]) -> str:
        parcel = self.parcels.get(parcel_id)
        if parcel is None:
            return f"parcel {parcel_id}, which is done with: runs {sorted(numbers)}"
        names = {run.number: run.label for run in parcel.runs}
        told = ", ".join(names.get(number, str(number)) for number in numbers)
        return f"parcel {parcel_id}: {told or 'no run'}"

    # -- the flow ------------------------------------------------------------------------------

    def submit(self, run: Run) -> None:
        self.note(f"submit {run.label} after [{labels(run.deps)}]")
        super().submit(run)

    def let_go(self, run: Run) -> None:
        self.note(f"nobody holds {run.label}")
        super().let_go(run)

    def value_needed(self, run: Run) -> None:
        self.note(f"the value of {run.label} is asked for")
        super().value_needed(run)

    def cancel(self, scope: Scope, now: float) -> None:
        self.note(f"cancel flow run {scope.flow_run_id}")
        super().cancel(scope, now + self.offset_s)

    def cancel_run(self, run: Run, now: float) -> None:
        self.note(f"cancel {run.label}")
        super().cancel_run(run, now + self.offset_s)

    def refuse(self, error: BaseException, now: float) -> None:
        self.note(f"the cluster is gone for good: {error}")
        super().refuse(error, now + self.offset_s)

    # -- the cache -----------------------------------------------------------------------------

    def found(self, run: Run, value: Any, size: int | None, at: float) -> None:
        self.note(f"found {run.label} in the cache")
        super().found(run, value, size, at + self.offset_s)

    def missed(self, run: Run, at: float) -> None:
        self.note(f"did not find {run.label} in the cache")
        super().missed(run, at + self.offset_s)

    # -- the workers ---------------------------------------------------------------------------

    def started(self, parcel_id: int, number: int, at: float, worker: str | None) -> None:
        if self.story is not None:
            self.note(f"{worker} executes {self._named(parcel_id, [number])}")
        super().started(parcel_id, number, at + self.offset_s, worker)

    def outcomes(  # type: ignore[override]
        self, parcel_id: int, outcomes: Sequence[Outcome], worker: str | None, pid: int | None
    ) -> None:
        if self.story is not None:
            ways = "".join("+" if each.ok else "t" if each.timed_out else "-" for each in outcomes)
            named = self._named(parcel_id, [each.number for each in outcomes])
            self.note(f"{worker} tells of {named} ({ways})")
        super().outcomes(parcel_id, outcomes, worker, pid)

    def handed_back(self, parcel_id: int, numbers: Sequence[int]) -> None:  # type: ignore[override]
        if self.story is not None:
            self.note(f"handed back of {self._named(parcel_id, numbers)}")
        super().handed_back(parcel_id, numbers)

    def parcel_done(self, parcel_id: int) -> None:
        self.note(f"final report of parcel {parcel_id}")
        super().parcel_done(parcel_id)

    def parcel_waits(self, parcel_id: int) -> None:
        self.note(f"parcel {parcel_id} gives way")
        super().parcel_waits(parcel_id)

    def parcel_lost(
        self,
        parcel_id: int,
        now: float,
        cause: str,
        *,
        executing: Collection[int] | None,
        expected: bool = False,
    ) -> None:
        if self.story is not None:
            known = "nobody knows what" if executing is None else sorted(executing)
            why = f"{cause}, expected" if expected else cause
            self.note(f"parcel {parcel_id} lost ({why}), executing: {known}")
        at = now + self.offset_s
        super().parcel_lost(parcel_id, at, cause, executing=executing, expected=expected)

    def parcel_failed(self, parcel_id: int, now: float, reason: str) -> None:
        self.note(f"parcel {parcel_id} failed: {reason}")
        super().parcel_failed(parcel_id, now + self.offset_s, reason)

    def drop_parcel(self, parcel_id: int, now: float) -> None:
        self.note(f"parcel {parcel_id} dropped")
        super().drop_parcel(parcel_id, now + self.offset_s)

    def value_lost(self, run: Run) -> None:
        self.note(f"the value of {run.label} was lost")
        if run.value is not None:
            self.lost_values.add(run.value)
        super().value_lost(run)
