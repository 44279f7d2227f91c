"""Level of detail: a timeline of any number of task runs in a bounded number of bars.

Pure numpy.  Runs that are wide enough keep a bar of their own; narrow ones share the bar of
their pixel, where a problem always wins and otherwise the kind that filled most of it.  The
buckets grow until everything fits.  Bars come ordered by severity, so whoever draws them in
order paints problems on top.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from daskflow.dashboards.data import Floats, Ints
from daskflow.dashboards.kinds import PROBLEM_FROM

__all__ = ["MAX_BARS", "Bars", "Spans", "level_of_detail"]

MAX_BARS = 6_000
_PROBLEM_PIXELS = 3  # what a problem is wide at least, so that it is seen
_FINEST = 2  # buckets a pixel at first, so that there is something to zoom into
_SHRINK = 0.75  # of the number of buckets, from one try to the next


class Spans(NamedTuple):
    """What is to be drawn: one entry a stretch of work, in any order."""

    lane: Ints
    start: Floats
    end: Floats
    task: Ints
    kind: Ints
    run: Ints  # position of the task run in its columns


class Bars(NamedTuple):
    """What is drawn: `members` is the number of spans; `run` is -1 where it is more than one."""

    lane: Ints
    left: Floats
    right: Floats
    task: Ints
    kind: Ints
    run: Ints
    members: Ints


def level_of_detail(
    spans: Spans, *, length_s: float, pixels: int = 1_200, max_bars: int = MAX_BARS
) -> Bars:
    """Draw `spans` in at most `max_bars` bars.

    Parameters
    ----------
    spans : Spans
        Lanes count from 0, times lie within 0 and `length_s`.
    length_s : float
        What the width of the picture stands for.
    pixels : int, default 1200
        Width of the picture.  No bar is narrower than a pixel.
    max_bars : int, default 6000
        Must be at least the number of lanes.

    Returns
    -------
    Bars
        Every span is counted in exactly one bar, and where a problem starts the bar drawn last
        is a problem.
    """
    length_s = max(length_s, 1e-9)
    bars = _fitting(spans, length_s, pixels, max_bars)
    pixel = length_s / pixels
    least = np.where(bars.kind >= PROBLEM_FROM, _PROBLEM_PIXELS * pixel, pixel)
    bars = bars._replace(right=np.maximum(bars.right, bars.left + least))
    order = np.lexsort((bars.left, bars.kind))
    return Bars._make(column[order] for column in bars)


def _fitting(spans: Spans, length_s: float, pixels: int, max_bars: int) -> Bars:
    """The finest bars that are not too many."""
    count = len(spans.lane)
    if count <= max_bars:
        return Bars(*spans, members=np.ones(count, np.int64))
    lanes = int(spans.lane.max()) + 1
    if lanes > max_bars:
        raise ValueError(f"{lanes} lanes do not fit into {max_bars} bars; fold lanes first")
    certain = max_bars // lanes  # buckets a lane that fit whatever is drawn
    buckets = max(pixels * _FINEST, certain)
    while buckets >= certain:
        bars = _merge(spans, length_s, buckets)
        if len(bars.lane) <= max_bars:
            return bars
        buckets = int(buckets * _SHRINK)
    return _paint(spans, length_s, certain)


def _merge(spans: Spans, length_s: float, buckets: int) -> Bars:
    """Wide spans as they are; narrow ones by bucket, equal neighbours joined."""
    width = length_s / buckets
    narrow = (spans.end - spans.start) < 2 * width
    wide = _take(spans, ~narrow)
    cells = _buckets_won(_take(spans, narrow), length_s, buckets)
    ones = np.ones(len(wide.lane), np.int64)
    alone = Bars(wide.lane, wide.start, wide.end, wide.task, wide.kind, wide.run, ones)
    return _concat(alone, _join_neighbours(cells))


def _paint(spans: Spans, length_s: float, buckets: int) -> Bars:
    """Every bucket in the looks of what covers it: `lanes * buckets` bars at most, whatever comes.

    A span is counted where it starts, so a bar over which spans only continue counts none.
    """
    width = length_s / buckets
    lanes = int(spans.lane.max()) + 1
    begins = np.clip((spans.start / width).astype(np.int64), 0, buckets - 1)
    ends = np.clip((spans.end / width).astype(np.int64), begins, buckets - 1)
    looks = spans.kind * (int(spans.task.max()) + 1) + spans.task
    best = np.zeros((lanes, buckets))
    winner = np.full((lanes, buckets), -1, np.int64)
    for look in np.unique(looks).tolist():
        mine = np.flatnonzero(looks == look)
        edges = np.zeros((lanes, buckets + 1))
        np.add.at(edges, (spans.lane[mine], begins[mine]), 1.0)
        np.add.at(edges, (spans.lane[mine], ends[mine] + 1), -1.0)
        kind = int(spans.kind[mine[0]])
        severity = kind * 1e9 if kind >= PROBLEM_FROM else 0.0
        covered = np.cumsum(edges, axis=1)[:, :-1]
        wins = (covered > 0.5) & (covered + severity > best)
        best[wins] = (covered + severity)[wins]
        winner[wins] = mine[0]
    lane, place = np.nonzero(winner >= 0)
    chosen = winner[lane, place]
    starts = np.bincount(spans.lane * buckets + begins, minlength=lanes * buckets)
    count = starts.reshape(lanes, buckets)[lane, place].astype(np.int64)
    left, nobody = place.astype(np.float64) * width, np.full(len(lane), -1, np.int64)
    return _join_neighbours(
        Bars(lane, left, left + width, spans.task[chosen], spans.kind[chosen], nobody, count)
    )


def _take(spans: Spans, which: npt.NDArray[np.bool_]) -> Spans:
    return Spans._make(column[which] for column in spans)


def _concat(first: Bars, second: Bars) -> Bars:
    return Bars._make(np.concatenate(pair) for pair in zip(first, second, strict=True))


def _buckets_won(spans: Spans, length_s: float, buckets: int) -> Bars:
    """One bar for each bucket in which a span starts, in the looks of whoever wins it."""
    if not len(spans.lane):
        none = np.zeros(0, np.int64)
        return Bars(none, none.astype(float), none.astype(float), none, none, none, none)
    width = length_s / buckets
    place = np.clip((spans.start / width).astype(np.int64), 0, buckets - 1)
    cell = spans.lane * buckets + place
    looks = spans.kind * (int(spans.task.max()) + 1) + spans.task
    pair, member = np.unique(cell * (int(looks.max()) + 1) + looks, return_inverse=True)
    filled = np.bincount(member, spans.end - spans.start + 1e-9)
    first = np.full(len(pair), len(spans.lane), np.int64)
    np.minimum.at(first, member, np.arange(len(spans.lane)))
    problem = np.where(spans.kind[first] >= PROBLEM_FROM, spans.kind[first], 0)
    order = np.lexsort((filled, problem, cell[first]))  # the winner of each cell comes last
    last = np.flatnonzero(np.append(np.diff(cell[first][order]) != 0, True))
    winner = first[order][last]
    cells, count = np.unique(cell, return_counts=True)
    left = (cells % buckets) * width
    # The span that starts last in a bucket may reach beyond it; its bar does too.
    reach = np.zeros(len(cells))
    np.maximum.at(reach, np.searchsorted(cells, cell), spans.end)
    right = np.maximum(left + width, np.minimum(reach, left + 2 * width))
    run = np.where(count == 1, spans.run[winner], -1)
    return Bars(spans.lane[winner], left, right, spans.task[winner], spans.kind[winner], run, count)


def _join_neighbours(bars: Bars) -> Bars:
    """Join bars of one lane and one look that touch; input is ordered by lane and time."""
    if not len(bars.lane):
        return bars
    touching = bars.left[1:] <= bars.right[:-1] + 1e-9
    same = (
        (bars.lane[1:] == bars.lane[:-1])
        & (bars.task[1:] == bars.task[:-1])
        & (bars.kind[1:] == bars.kind[:-1])
    )
    begins = np.flatnonzero(np.append(True, ~(touching & same)))
    count = np.add.reduceat(bars.members, begins)
    return Bars(
        bars.lane[begins],
        bars.left[begins],
        np.maximum.reduceat(bars.right, begins),
        bars.task[begins],
        bars.kind[begins],
        np.where(
            np.append(np.diff(begins), len(bars.lane) - begins[-1]) == 1, bars.run[begins], -1
        ),
        count,
    )
