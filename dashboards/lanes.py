"""Which line of the timeline each task run is drawn on: a few lines for each worker.

Pure.  Runs of a worker that overlap (several threads, async tasks) get lines of their own, first
fit, up to a bound; with too many workers for a screen, neighbours share a line.  So the picture
has at most `MAX_LANES` lines whatever the cluster.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np

from daskflow.dashboards.data import Floats, Ints

__all__ = ["MAX_LANES", "LanePlan", "assign_lanes"]

MAX_LANES = 96
_LANES_OF_A_WORKER = 8


@dataclass(frozen=True)
class LanePlan:
    """The line of each span, and where each worker's lines are.

    Attributes
    ----------
    lane : Ints
        Line of each span.
    count : int
        Number of lines.
    first : tuple of int
        First line of each worker, in the order of the workers.
    """

    lane: Ints
    count: int
    first: tuple[int, ...]


def assign_lanes(
    worker: Ints,
    start: Floats,
    end: Floats,
    *,
    workers: int,
    slack_s: float = 0.0,
    max_lanes: int = MAX_LANES,
) -> LanePlan:
    """Give each span a line such that spans of a line do not overlap, where there is room.

    Parameters
    ----------
    worker : Ints
        Position of each span's worker, 0 or more.
    start, end : Floats
    workers : int
        Number of workers; each gets a line at least, as long as there are enough.
    slack_s : float, default 0.0
        An overlap that is not longer does not count: too small to be seen, or rounding.
    max_lanes : int, default 96

    Returns
    -------
    LanePlan
    """
    if workers == 0:
        return LanePlan(np.zeros(len(worker), np.int64), 0, ())
    if workers > max_lanes:  # neighbours share a line
        fold = np.arange(workers) * max_lanes // workers
        return LanePlan(fold[worker], max_lanes, tuple(fold.tolist()))
    most = min(_LANES_OF_A_WORKER, max_lanes // workers)
    sublane, used = _first_fit(worker, start, end - slack_s, workers, most)
    first = np.concatenate(([0], np.cumsum(used)[:-1])).astype(np.int64)
    return LanePlan(first[worker] + sublane, int(used.sum()), tuple(first.tolist()))


def _first_fit(
    worker: Ints, start: Floats, end: Floats, workers: int, most: int
) -> tuple[Ints, Ints]:
    """Line of each span within its worker's lines, and how many lines each worker needs."""
    sublane = np.zeros(len(worker), np.int64)
    used = np.ones(workers, np.int64)
    order = np.lexsort((start, worker))
    free: list[int] = []  # lines that are free again, the topmost first
    busy: list[tuple[float, int]] = []  # (end, line)
    current, lines = -1, 0
    chosen = []
    for owner, begins, ends in zip(
        worker[order].tolist(), start[order].tolist(), end[order].tolist(), strict=True
    ):
        if owner != current:
            current, lines, free, busy = owner, 0, [], []
        while busy and busy[0][0] <= begins:
            heapq.heappush(free, heapq.heappop(busy)[1])
        if free:
            line = heapq.heappop(free)
        elif lines < most:
            line, lines = lines, lines + 1
            used[owner] = lines
        else:  # no room left: over the run that ends first
            line = heapq.heappop(busy)[1]
        heapq.heappush(busy, (ends, line))
        chosen.append(line)
    sublane[order] = np.array(chosen, dtype=np.int64)
    return sublane, used
