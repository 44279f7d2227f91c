"""The queues of ready runs, and the parcels that they leave in.

A lane holds the runs that may share parcels.  Each lane has a window of its own: with a common one,
long runs of one lane would keep more urgent runs, or runs for other resources, from being sent at
all.  What is in flight of more urgent lanes that could use the same slots fills the window too, or
tiny runs of many lanes would overtake each other.  Within a lane the stages take turns.

Invariants: a run is in one queue or one parcel, never in both; a queued run waits for nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from daskflow.runner.core.graph import Lane, LaneKey, Parcel, Run, Stage
from daskflow.runner.core.packing import (
    PROBE_AGAIN_S,
    PackingRules,
    async_room,
    async_size,
    fuse,
    parcel_share,
    parcel_size,
    probes_by,
    ready_work_s,
    time_box_s,
    window,
)

__all__ = ["Lanes"]


class Lanes:
    """Ready runs and parcels in flight, by lane.

    Parameters
    ----------
    rules : PackingRules
    """

    def __init__(self, rules: PackingRules) -> None:
        self.rules = rules
        self.parcels: dict[int, Parcel] = {}
        self._lanes: dict[LaneKey, Lane] = {}
        self._order: list[Lane] = []  # highest priority first
        self._next_parcel = 0
        self.next_due: float | None = None  # when `pack` may send more though nothing happens

    # -- ready runs ----------------------------------------------------------------------------

    def put(self, run: Run) -> None:
        """Queue a run."""
        stage = run.stage
        stage.ready.append(run)
        if not stage.queued:
            self._take_turns(stage)

    def put_first(self, run: Run) -> None:
        """Queue a run before all others of its stage."""
        stage = run.stage
        stage.ready.appendleft(run)
        if not stage.queued:
            self._take_turns(stage)

    def _take_turns(self, stage: Stage) -> None:
        key = stage.lane_key
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._new_lane(key)
        lane.turns.put(stage)
        stage.queued = True

    def _new_lane(self, key: LaneKey) -> Lane:
        lane = self._lanes[key] = Lane(key)
        self._order.append(lane)
        self._order.sort(key=lambda each: -each.key.priority)
        for each in self._order:
            each.above = [
                other
                for other in self._order
                if other.key == each.key._replace(priority=other.key.priority)
                and other.key.priority > each.key.priority
            ]
        return lane

    def has_ready(self) -> bool:
        """Whether any run is queued."""
        return any(lane.turns for lane in self._order)

    def take_out(self, unwanted: Callable[[Run], bool]) -> list[Run]:
        """Take all queued runs for which `unwanted` holds out of their queues, in order."""
        taken: list[Run] = []
        for lane in self._order:
            for stage in lane.turns:
                kept: deque[Run] = deque()
                for run in stage.ready:
                    (taken if unwanted(run) else kept).append(run)
                stage.ready = kept
        return taken

    def drain(self) -> Iterator[Run]:
        """Take all queued runs out, those too that are queued meanwhile."""
        while stage := next((s for lane in self._order for s in lane.turns if s.ready), None):
            while stage.ready:
                yield stage.ready.popleft()

    # -- parcels -------------------------------------------------------------------------------

    def pack(self, slots: int, now: float, send: list[Parcel]) -> None:
        """Turn ready runs into parcels, as far as each lane's window allows.

        Parameters
        ----------
        slots : int
            Threads on the cluster, 1 or more.
        now : float
        send : list of Parcel
            Gets the new parcels.
        """
        self.next_due = None
        for lane in self._order:
            sent = -1
            while len(send) > sent and lane.turns and (room := window(lane, slots, self.rules)) > 0:
                sent = len(send)
                self._pack_lane(lane, room, slots, now, send)
                if not lane.key.is_async:  # what overlaps takes no slot, and may all go
                    break

    def _pack_lane(self, lane: Lane, room: int, slots: int, now: float, send: list[Parcel]) -> None:
        turns, rules, is_async = lane.turns, self.rules, lane.key.is_async
        blocked: list[Stage] = []  # may send nothing now
        waiting_s = ready_work_s(turns, rules)
        while room > 0 and turns:
            turn = turns.next()
            stage, share, alone = turn.stage, 0.0, turns.is_alone(turn)
            while room > 0:
                parcel = self._next_parcel_of(lane, stage, waiting_s, slots, room, now)
                if parcel is None:
                    if stage.ready:
                        blocked.append(stage)
                    break
                send.append(parcel)
                room = min(room - 1, window(lane, slots, rules)) if is_async else room - 1
                waiting_s = max(0.0, waiting_s - parcel.work_s)
                share += parcel_share(parcel, rules)
                if not (alone and stage.ready):
                    break
            stage.queued = bool(stage.ready)
            turns.end(turn, share, more=stage.queued and stage not in blocked)
        for stage in blocked:
            turns.put(stage)

    def _next_parcel_of(
        self, lane: Lane, stage: Stage, waiting_s: float, slots: int, room: int, now: float
    ) -> Parcel | None:
        """The next parcel of `stage`; None when nothing of it may go for now."""
        ready, rules = stage.ready, self.rules
        if not ready:  # taken out of their queue
            return None
        is_async = lane.key.is_async
        probe = stage.estimate.seconds is None and not is_async
        if probe:
            if not stage.probing:
                stage.probed_at = now
            if stage.probing >= rules.depth * slots:
                return None
            if stage.probing >= probes_by(now - stage.probed_at, rules):
                self.next_due = now + PROBE_AGAIN_S
                return None
        if is_async:
            size = min(async_size(stage, room, rules), async_room(lane, slots, rules))
        else:
            size = 1 if probe else parcel_size(stage, waiting_s, lane.work_s, slots, rules)
        runs = [ready.popleft()]
        if runs[0].solo or runs[0].redo:
            work_s = (stage.estimate.seconds or 0.0) + rules.overhead_s
        else:
            while len(runs) < size and ready and not (ready[0].solo or ready[0].redo):
                runs.append(ready.popleft())
            runs, work_s = fuse(runs, slots, rules)
        box_s = time_box_s(work_s, rules) if len(runs) > 1 and not is_async else None
        parcel = Parcel(self._next_parcel, lane, runs, work_s, box_s, now)
        self._take_off(parcel, stage if probe else None)
        return parcel

    def _take_off(self, parcel: Parcel, probe_of: Stage | None) -> None:
        lane, runs = parcel.lane, parcel.runs
        self._next_parcel += 1
        for run in runs:
            run.parcel = parcel
        lane.parcels += 1
        lane.work_s += parcel.work_s
        lane.runs += len(runs)
        if probe_of is not None:
            parcel.probe_of = probe_of
            probe_of.probing += 1
        self.parcels[parcel.id] = parcel

    def close(self, parcel_id: int) -> Parcel | None:
        """Forget a parcel; its runs without an outcome are in no parcel from now on.

        They are what is left in `Parcel.open`.
        """
        parcel = self.parcels.pop(parcel_id, None)
        if parcel is None:
            return None
        for run in parcel.open.values():
            run.parcel = None
        if not parcel.gave_way:
            _frees_slot(parcel)
        parcel.lane.runs -= len(parcel.open)
        if parcel.probe_of is not None:
            parcel.probe_of.probing -= 1
        return parcel

    def give_way(self, parcel_id: int) -> None:
        """A parcel in flight occupies no slot any more: the window is open for another one."""
        parcel = self.parcels.get(parcel_id)
        if parcel is not None and not parcel.gave_way:
            parcel.gave_way = True
            _frees_slot(parcel)
            if parcel.probe_of is not None:  # its own runs may be of the same task
                parcel.probe_of.probing -= 1
                parcel.probe_of = None

    def take_back(self, parcel: Parcel, number: int) -> Run | None:
        """Take an open run out of a parcel in flight; None when it is not open there."""
        run = parcel.open.pop(number, None)
        if run is not None:
            parcel.lane.runs -= 1
            run.parcel = None
        return run


def _frees_slot(parcel: Parcel) -> None:
    lane = parcel.lane
    lane.parcels -= 1
    lane.work_s = lane.work_s - parcel.work_s if lane.parcels else 0.0  # rounding does not add up
