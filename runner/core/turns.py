"""Whose turn it is in a lane: fair between flow runs and tasks, depth first within a graph.

Each flow run, and within it each family of tasks, gets the same share of the work that is sent
while it has runs that are ready.  A family is a task without inputs and all that descends from it;
in it the task that is furthest down goes first, so that values are used up before more are made.

Start-time fair queueing: who had the least so far comes next; who was away starts with as much as
those that are served now, so nobody saves turns up and nobody waits for ever.
"""

from __future__ import annotations

import bisect
import heapq
import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from daskflow.runner.core.graph import Stage

__all__ = ["Turn", "Turns"]

_REMEMBERED = 16  # entries of those that have nothing ready, besides as many as have


class _Entry:
    """Who takes turns: a flow run, or a family of tasks in one."""

    __slots__ = ("families", "key", "queued", "served", "stages")

    def __init__(self, key: str | int) -> None:
        self.key = key
        self.served = 0.0
        self.queued = False
        self.families = _Queue()  # of a flow run
        self.stages: list[Stage] = []  # of a family


class _Queue:
    """Those that have something ready, and what each was served so far."""

    __slots__ = ("_clock", "_entries", "_heap", "_order")

    def __init__(self) -> None:
        self._clock = 0.0
        self._entries: dict[str | int, _Entry] = {}
        self._heap: list[tuple[float, int, _Entry]] = []
        self._order = itertools.count()

    def __bool__(self) -> bool:
        return bool(self._heap)

    def __iter__(self) -> Iterator[_Entry]:
        return (entry for _, _, entry in sorted(self._heap, key=lambda each: each[:2]))

    def entry(self, key: str | int) -> _Entry:
        """The entry of `key`, a new one if it is not remembered."""
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _Entry(key)
        return entry

    def put(self, entry: _Entry) -> None:
        """`entry` has something ready."""
        if not entry.queued:
            entry.queued = True
            entry.served = max(entry.served, self._clock)
            heapq.heappush(self._heap, (entry.served, next(self._order), entry))

    def pop(self) -> _Entry:
        """Take out who was served least."""
        entry = heapq.heappop(self._heap)[2]
        entry.queued = False
        self._clock = max(self._clock, entry.served)
        return entry

    def forget(self) -> None:
        """Drop who has nothing ready and would start anew anyway, once there are many."""
        if not self._heap:  # nobody to compare with
            self._entries.clear()
        elif len(self._entries) > _REMEMBERED + 2 * len(self._heap):
            self._entries = {
                key: entry
                for key, entry in self._entries.items()
                if entry.queued or entry.served > self._clock
            }


class Turn(NamedTuple):
    """A stage whose turn it is; `Turns.end` takes it before anybody else has a turn."""

    scope: _Entry
    family: _Entry
    stage: Stage


class Turns:
    """The stages of one lane that have ready runs."""

    __slots__ = ("_scopes",)

    def __init__(self) -> None:
        self._scopes = _Queue()

    def __bool__(self) -> bool:
        return bool(self._scopes)

    def __iter__(self) -> Iterator[Stage]:
        for scope in self._scopes:
            for family in scope.families:
                yield from family.stages

    def put(self, stage: Stage) -> None:
        """`stage` has ready runs; it is not here yet."""
        scope = self._scopes.entry(stage.scope.flow_run_id)
        self._put(scope, scope.families.entry(stage.family), stage)

    def next(self) -> Turn:
        """Take out the stage whose turn it is; there must be one."""
        scope = self._scopes.pop()
        family = scope.families.pop()
        return Turn(scope, family, family.stages.pop(0))

    def is_alone(self, turn: Turn) -> bool:
        """Whether no other stage waits for its turn."""
        return not (self._scopes or turn.scope.families or turn.family.stages)

    def end(self, turn: Turn, work: float, *, more: bool) -> None:
        """The stage was served so much; `more` says whether it has further runs that may go."""
        scope, family, stage = turn
        scope.served += work
        family.served += work
        if more:
            self._put(scope, family, stage)
            return
        if family.stages:
            scope.families.put(family)
        else:
            scope.families.forget()
        if scope.families:
            self._scopes.put(scope)
        else:
            self._scopes.forget()

    def _put(self, scope: _Entry, family: _Entry, stage: Stage) -> None:
        bisect.insort(family.stages, stage, key=_shallowness)
        scope.families.put(family)
        self._scopes.put(scope)


def _shallowness(stage: Stage) -> int:
    return -stage.depth
