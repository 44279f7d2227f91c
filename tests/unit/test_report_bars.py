"""Level of detail and lanes: bounded whatever comes, every run counted, no problem hidden."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskflow.dashboards.bars import Bars, Spans, level_of_detail
from daskflow.dashboards.kinds import CODES, KINDS, PROBLEM_FROM
from daskflow.dashboards.lanes import assign_lanes

LENGTH_S = 100.0


def spans_of(rows: list[tuple[int, float, float, int, int]]) -> Spans:
    lane, start, length, task, kind = (list(column) for column in zip(*rows, strict=True))
    begins = np.array(start, dtype=float)
    return Spans(
        np.array(lane),
        begins,
        np.minimum(begins + np.array(length, dtype=float), LENGTH_S),
        np.array(task),
        np.array(kind),
        np.arange(len(rows)),
    )


span = st.tuples(
    st.integers(0, 4),
    st.floats(0, LENGTH_S),
    st.one_of(st.floats(0, 0.05), st.floats(0, LENGTH_S)),
    st.integers(0, 3),
    st.sampled_from(sorted(CODES.values())),
)
many_spans = st.lists(span, min_size=1, max_size=120).map(spans_of)
few_bars, few_pixels = st.integers(5, 60), st.integers(1, 50)


@given(many_spans, few_bars, few_pixels)
def test_never_more_bars_than_allowed_and_every_span_in_exactly_one(
    spans: Spans, max_bars: int, pixels: int
) -> None:
    bars = level_of_detail(spans, length_s=LENGTH_S, pixels=pixels, max_bars=max_bars)
    assert 0 < len(bars.lane) <= max_bars
    assert bars.members.sum() == len(spans.lane)
    alone = bars.run[bars.run >= 0]
    assert len(set(alone.tolist())) == len(alone)
    assert set(bars.lane.tolist()) == set(spans.lane.tolist())


@given(many_spans, few_bars, few_pixels)
def test_where_a_problem_starts_what_is_painted_last_is_a_problem(
    spans: Spans, max_bars: int, pixels: int
) -> None:
    bars = level_of_detail(spans, length_s=LENGTH_S, pixels=pixels, max_bars=max_bars)
    for at in np.flatnonzero(spans.kind >= PROBLEM_FROM):
        painted = painted_at(bars, int(spans.lane[at]), float(spans.start[at]))
        assert KINDS[painted].name in ("retrying", "lost", "failed")


def painted_at(bars: Bars, lane: int, at: float) -> int:
    rounding = LENGTH_S * 1e-9
    here = (bars.lane == lane) & (bars.left <= at + rounding) & (bars.right >= at - rounding)
    assert here.any()
    return int(bars.kind[np.flatnonzero(here)[-1]])


@given(many_spans, few_bars, few_pixels)
def test_no_bar_is_narrower_than_a_pixel(spans: Spans, max_bars: int, pixels: int) -> None:
    bars = level_of_detail(spans, length_s=LENGTH_S, pixels=pixels, max_bars=max_bars)
    assert (bars.right - bars.left >= LENGTH_S / pixels * (1 - 1e-9)).all()


def test_spans_that_fit_keep_a_bar_each_with_their_own_times() -> None:
    spans = spans_of([(0, 0.0, 10.0, 0, CODES["completed"]), (1, 5.0, 50.0, 1, CODES["cached"])])
    bars = level_of_detail(spans, length_s=LENGTH_S, pixels=1000)
    assert sorted(zip(bars.run, bars.left, bars.right, strict=True)) == [(0, 0, 10), (1, 5, 55)]


def test_wide_spans_keep_their_bar_among_thousands_of_narrow_ones() -> None:
    narrow = [(0, i / 1000, 0.0005, 0, CODES["completed"]) for i in range(9_000)]
    spans = spans_of([(1, 20.0, 60.0, 1, CODES["completed"]), *narrow])
    bars = level_of_detail(spans, length_s=LENGTH_S)
    wide = np.flatnonzero(bars.run == 0)
    assert [(bars.left[i], bars.right[i]) for i in wide] == [(20.0, 80.0)]


def test_a_failure_of_a_tenth_of_a_millisecond_is_seen_among_thousands_in_its_pixel() -> None:
    busy = [(0, i / 100, 0.009, 0, CODES["completed"]) for i in range(9_000)]
    spans = spans_of([*busy, (0, 45.001, 0.0001, 0, CODES["failed"])])
    bars = level_of_detail(spans, length_s=LENGTH_S, pixels=1_000)
    assert painted_at(bars, 0, 45.001) == CODES["failed"]
    failed = bars.kind == CODES["failed"]
    assert (bars.right - bars.left)[failed].tolist() == pytest.approx([3 * LENGTH_S / 1_000])


def test_overlapping_wide_spans_are_still_bounded() -> None:
    rows = [
        (lane, 0.0, LENGTH_S, task, CODES["running"]) for lane in range(8) for task in range(99)
    ]
    spans = spans_of([*rows, (7, 50.0, 0.0, 0, CODES["failed"])])
    bars = level_of_detail(spans, length_s=LENGTH_S, max_bars=100)
    assert len(bars.lane) <= 100
    assert painted_at(bars, 7, 50.0) == CODES["failed"]


def test_more_lanes_than_bars_is_refused() -> None:
    spans = spans_of([(lane, 0.0, 1.0, 0, 2) for lane in range(12)])
    with pytest.raises(ValueError, match="12 lanes do not fit into 10 bars"):
        level_of_detail(spans, length_s=LENGTH_S, max_bars=10)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.floats(0, 50), st.floats(0.01, 20)), max_size=80),
    st.integers(1, 12),
)
def test_lanes_are_bounded_and_runs_of_a_lane_overlap_only_where_lanes_ran_out(
    rows: list[tuple[int, float, float]], max_lanes: int
) -> None:
    worker = np.array([row[0] for row in rows], dtype=np.int64)
    start = np.array([row[1] for row in rows])
    end = start + np.array([row[2] for row in rows])
    lanes = assign_lanes(worker, start, end, workers=6, max_lanes=max_lanes)
    assert lanes.count <= max_lanes
    assert len(lanes.first) == 6
    assert all(0 <= lane < lanes.count for lane in lanes.lane.tolist())
    if max_lanes < 6:
        return
    used = np.diff(np.append(lanes.first, lanes.count))
    room = min(8, max_lanes // 6)
    for owner in range(6):
        if used[owner] == room:
            continue  # as many lanes as it may have: overlaps are allowed
        mine = worker == owner
        for lane in np.unique(lanes.lane[mine]):
            which = mine & (lanes.lane == lane)
            order = np.argsort(start[which])
            assert (end[which][order][:-1] <= start[which][order][1:]).all()


def test_overlaps_within_the_slack_share_a_lane() -> None:
    worker, start, end = np.zeros(2, np.int64), np.array([0.0, 0.999]), np.array([1.0, 2.0])
    assert assign_lanes(worker, start, end, workers=1).count == 2
    assert assign_lanes(worker, start, end, workers=1, slack_s=0.01).count == 1
