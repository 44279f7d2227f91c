"""What any schedule of a simulated flow can reach, so that what a driver reaches has a measure.

Two figures: no makespan is shorter than the longest item, nor than the work divided by the slots.
And a list schedule without a driver, without losses and without messages: each slot that is free
takes the next item, the first one when the scheduler has got to it.  Nothing is packed, so nothing
waits in the wrong parcel; what is missing there to full use, the start takes.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Bound", "list_schedule"]

BINS = 2_000  # in the ideal time


class Bound(NamedTuple):
    """What can be reached."""

    makespan_s: float  # none is shorter
    use: float  # share of the slots' time that a list schedule uses until 9 of 10 runs have ended
    most_s: float  # when they have


def list_schedule(
    durations: Sequence[Sequence[float]], items: int, slots: int, scheduler_s: float
) -> Bound:
    """Play the schedule.

    Parameters
    ----------
    durations : sequence of sequences of float
        For each task that an item passes, what its runs take; they are used in turn, again and
        again.
    items : int
        1 or more.
    slots : int
    scheduler_s : float
        What the scheduler needs for the first item of each slot.
    """
    drawn = [itertools.cycle(each) for each in durations]
    free = [place * scheduler_s for place in range(1, slots + 1)]  # a sorted list is a heap
    mean_s = sum(sum(each) / len(each) for each in durations)
    bin_s = items * mean_s / slots / BINS
    ended: dict[int, int] = {}
    busy: dict[int, float] = {}
    work_s = longest_s = 0.0
    for _ in range(items):
        started = at = free[0]
        for task in drawn:
            start, at = at, at + next(task)
            place = int(at / bin_s)
            ended[place] = ended.get(place, 0) + 1
            for each in range(int(start / bin_s), place + 1):
                inside_s = min(at, (each + 1) * bin_s) - max(start, each * bin_s)
                busy[each] = busy.get(each, 0.0) + inside_s
        heapq.heapreplace(free, at)
        work_s += at - started
        longest_s = max(longest_s, at - started)
    most, place = len(drawn) * items * 9 // 10, -1
    while most > 0:
        place += 1
        most -= ended.get(place, 0)
    most_s = (place + 1) * bin_s
    used_s = sum(seconds for each, seconds in busy.items() if each <= place)
    return Bound(max(longest_s, work_s / slots), used_s / (slots * most_s), most_s)
