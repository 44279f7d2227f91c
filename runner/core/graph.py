"""The graph of task runs as the driver holds it: stages, runs, edges, parcels.

Plain slotted objects without behaviour beyond their own fields.  A finished run keeps no edge to
others, so one whose future nobody holds is freed by reference counting alone.  The exception is a
run whose value is `Remote`: it keeps its payload and inputs, the recipe by which a lost value is
made again.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import Any, NamedTuple

from daskflow.runner.core.retries import RetryPolicy
from daskflow.runner.core.states import PENDING
from daskflow.runner.core.turns import Turns

__all__ = [
    "CacheNote",
    "Estimate",
    "Lane",
    "LaneKey",
    "Outcome",
    "Parcel",
    "Remote",
    "Run",
    "Scope",
    "Stage",
    "executed_once",
    "once_only",
]


class Remote:
    """Base of values that live on a worker: they can be dropped, and they can be lost."""

    __slots__ = ()


class LaneKey(NamedTuple):
    """What task runs must share to travel in one parcel."""

    priority: int = 0
    is_async: bool = False
    resources: tuple[tuple[str, float], ...] = ()
    workers: tuple[str, ...] = ()


class Estimate:
    """What a run of a task takes: seconds, None until the first outcome, and bytes of its result.

    Recent batches of outcomes weigh most, the more the larger they are: sizes that change are
    followed within a parcel or two, and one long run among thousands is soon forgotten.
    """

    __slots__ = ("result_bytes", "seconds")

    def __init__(self) -> None:
        self.seconds: float | None = None
        self.result_bytes = 0.0

    def update(self, mean_s: float, mean_bytes: float = 0.0, count: int = 1) -> None:
        """Fold in the means of one batch of `count` outcomes."""
        mean_s = max(mean_s, 0.0)  # measured by a wall clock, which may be set back meanwhile
        known = self.seconds
        if known is None:
            self.seconds, self.result_bytes = mean_s, mean_bytes
        else:
            old = 0.5 / math.sqrt(count)
            self.seconds = old * known + (1.0 - old) * mean_s
            self.result_bytes = old * self.result_bytes + (1.0 - old) * mean_bytes


class Scope:
    """One flow run, as far as the driver must know it."""

    __slots__ = (
        "cancelled",
        "cancelled_at",
        "failed",
        "flow_run_id",
        "open",
        "stages",
        "submitted",
        "tag",
    )

    def __init__(self, flow_run_id: str, tag: object = None) -> None:
        self.flow_run_id = flow_run_id
        self.tag = tag  # whatever the shell wants to find again
        self.submitted = 0
        self.open = 0  # runs without a final state
        self.stages: list[Stage] = []
        self.failed: list[Run] = []  # ended badly, in that order
        self.cancelled = False
        self.cancelled_at: float | None = None


class Stage:
    """One task as used in one flow run: what all its task runs share."""

    __slots__ = (
        "code",
        "counts",
        "crashes",
        "depth",
        "estimate",
        "family",
        "lane_key",
        "name",
        "next_index",
        "number",
        "policy",
        "probed_at",
        "probing",
        "queued",
        "ready",
        "retried",
        "retry_if",
        "scope",
        "submitted",
    )

    def __init__(
        self,
        scope: Scope,
        name: str,
        policy: RetryPolicy,
        *,
        lane_key: LaneKey | None = None,
        estimate: Estimate | None = None,
        code: object = None,
        retry_if: Callable[[Run, BaseException], bool] | None = None,
        number: int | None = None,
        next_index: Callable[[], int] | None = None,
    ) -> None:
        self.scope = scope
        self.number = len(scope.stages) if number is None else number
        scope.stages.append(self)
        self.family = self.number  # the task without inputs that this one descends from
        self.depth = 0  # tasks between that one and this one, and this one
        self.next_index = next_index or itertools.count().__next__
        self.name = name
        self.policy = policy
        self.lane_key = lane_key or LaneKey()
        self.estimate = estimate or Estimate()
        self.code = code  # what the shell sends so that a worker can run it
        self.retry_if = retry_if
        self.ready: deque[Run] = deque()
        self.queued = False  # among the stages of its lane that have ready runs
        self.probing = 0  # parcels in flight that are to tell how long a run takes
        self.probed_at = 0.0  # since when there are any
        self.submitted = 0
        self.retried = 0
        self.crashes = 0
        self.counts: dict[str, int] = {}  # final runs by state

    def descend(self, from_stages: Iterable[Stage]) -> None:
        """Note what the inputs of the first run are made by."""
        above = max(from_stages, key=lambda stage: stage.depth)
        self.depth = above.depth + 1
        if above.scope is self.scope:
            self.family = above.family


class CacheNote:
    """What the core knows of a run that may be cached; the shell's class knows more."""

    __slots__ = ("hit", "lost", "status", "wanted")

    def __init__(self) -> None:
        self.status: str | None = None  # for the record
        self.wanted = True  # to be looked up before it is queued
        self.hit = False
        self.lost = False  # with its parcel, which may have stored its result untold


class Run:
    """One task run."""

    __slots__ = (
        "__weakref__",
        "allowed",
        "attempt",
        "cache",
        "callbacks",
        "cause",
        "children",
        "cpu_s",
        "crashes",
        "created_at",
        "dependents",
        "deps",
        "encode_s",
        "ended_at",
        "error",
        "failures",
        "held",
        "index",
        "kept",
        "looked_at",
        "message",
        "name",
        "number",
        "parcel",
        "parents",
        "payload",
        "pid",
        "redo",
        "result_bytes",
        "run_s",
        "solo",
        "stage",
        "started_at",
        "state",
        "taken",
        "value",
        "waiting",
        "worker",
    )

    def __init__(
        self,
        stage: Stage,
        number: int,
        payload: object,
        deps: tuple[Run, ...],
        created_at: float,
        allowed: frozenset[int] | None = None,
        taken: int | None = None,
    ) -> None:
        self.stage = stage
        self.number = number
        self.index = stage.next_index()
        self.payload = payload
        self.deps = deps  # by slot, as the payload refers to them
        self.taken = len(deps) if taken is None else taken  # values of the first so many go along
        self.allowed = allowed  # slots whose failure is handed on instead of spreading
        self.created_at = created_at
        self.waiting = 0
        self.children: list[Run] | None = None
        self.state = PENDING
        self.attempt = 0
        self.failures = 0
        self.crashes = 0
        self.parcel: Parcel | None = None
        self.parents: tuple[int, ...] | None = None
        self.value: Any = None
        self.kept = True  # False once `value` was dropped or lost after the run had succeeded
        self.redo = False  # executing again, only to get a lost value back
        self.held = True  # somebody holds the future
        self.dependents = 0  # runs without a final state that take this one's value
        self.error: BaseException | None = None
        self.cause: Run | None = None  # of a run that never ran: the one whose failure spread
        self.message: str | None = None
        self.started_at: float | None = None
        self.ended_at: float | None = None
        self.run_s: float | None = None
        self.cpu_s: float | None = None
        self.encode_s: float | None = None
        self.worker: str | None = None
        self.pid: int | None = None
        self.result_bytes: int | None = None
        self.solo = False
        self.looked_at = False
        self.name: str | None = None
        self.callbacks: list[Callable[[Run], object]] | None = None
        self.cache: CacheNote | None = None

    @property
    def task_run_id(self) -> str:
        """The id that users see."""
        return f"{self.stage.scope.flow_run_id}-{self.number}"

    @property
    def label(self) -> str:
        """The name that users see, for example ``clean-3``."""
        return self.name or f"{self.stage.name}-{self.index}"

    def __repr__(self) -> str:
        return (
            f"<Run {self.label} {self.state} attempt={self.attempt} failures={self.failures} "
            f"crashes={self.crashes} waiting={self.waiting} parcel={self.parcel}>"
        )


class Parcel:
    """Task runs that one worker executes in one go."""

    __slots__ = (
        "box_s",
        "early",
        "gave_way",
        "id",
        "lane",
        "open",
        "probe_of",
        "runs",
        "sent_at",
        "work_s",
    )

    def __init__(
        self,
        parcel_id: int,
        lane: Lane,
        runs: list[Run],
        work_s: float,
        box_s: float | None,
        sent_at: float,
    ) -> None:
        self.id = parcel_id
        self.lane = lane
        self.runs = runs  # in an order in which each finds its inputs done
        self.open = {run.number: run for run in runs}  # no outcome yet, not handed back
        self.work_s = work_s  # what they take together, as far as that is known
        self.box_s = box_s
        self.sent_at = sent_at
        self.probe_of: Stage | None = None
        self.gave_way = False  # it waits for other runs and occupies no slot
        self.early: list[Outcome] | None = None  # told before what their runs take

    def take_early(self) -> list[Outcome]:
        """Take out the outcomes that were told too early, in the order of their runs."""
        early, self.early = self.early or [], None
        places = {run.number: place for place, run in enumerate(self.runs)}
        return sorted(early, key=lambda outcome: places[outcome.number])

    def __repr__(self) -> str:
        return f"<Parcel {self.id}: {len(self.open)} of {len(self.runs)} open>"


def once_only(parcel: Parcel) -> list[int]:
    """Numbers of the open runs that must not be executed a second time, whatever happens."""
    return [n for n, run in parcel.open.items() if not run.stage.policy.crash_retries]


def executed_once(parcel: Parcel, executing: Collection[int]) -> list[int]:
    """Numbers of the open runs of a lost parcel that may run once only, and may have.

    Runs are executed in the parcel's order, so those before one that executes have ended untold.
    Where none executes, the parcel has not begun or is through: nobody can tell which.
    """
    places = [place for place, run in enumerate(parcel.runs) if run.number in executing]
    begun = {run.number for run in parcel.runs[: max(places, default=len(parcel.runs))]}
    return [number for number in once_only(parcel) if number in begun]


class Lane:
    """Task runs that may share parcels, with their queues and what is in flight."""

    __slots__ = ("above", "key", "parcels", "runs", "turns", "work_s")

    def __init__(self, key: LaneKey) -> None:
        self.key = key
        self.above: list[Lane] = []  # those that differ in a higher priority alone
        self.turns = Turns()  # of the stages that have ready runs
        self.parcels = 0  # in flight
        self.runs = 0  # in flight
        self.work_s = 0.0  # in flight, about


class Outcome(NamedTuple):
    """What a worker tells of one execution of one task run."""

    number: int
    ok: bool
    started_at: float
    run_s: float
    value: Any  # of the shell's making; the core hands it on
    error: BaseException | None = None
    crashed: bool = False  # the body asked its process to end: never again
    cpu_s: float | None = None
    encode_s: float | None = None
    result_bytes: int | None = None
    timed_out: bool = False  # it ran longer than its task allows; spends a retry as well
