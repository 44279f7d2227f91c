"""The Bokeh figure of a run: task runs that ended per second, above a timeline by worker.

Text that users wrote never enters the figure: bars carry codes, and the page's script turns
them into words from its own escaped list.  There is no JavaScript in the figure either, so it
works under a content security policy without `unsafe-eval`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from bokeh.embed import json_item
from bokeh.layouts import column
from bokeh.models import (
    BasicTicker,
    BoxZoomTool,
    ColumnDataSource,
    FixedTicker,
    HoverTool,
    NumeralTickFormatter,
    PanTool,
    Range1d,
    ResetTool,
    TimedeltaTicker,
    TimedeltaTickFormatter,
    WheelZoomTool,
)
from bokeh.models.renderers import DataRenderer
from bokeh.plotting import figure
from bokeh.transform import linear_cmap

from daskflow.dashboards.bars import Bars, Spans, level_of_detail
from daskflow.dashboards.data import FLOW_PROCESS, RunColumns
from daskflow.dashboards.kinds import CODES, KINDS, PROBLEM_FROM
from daskflow.dashboards.lanes import LanePlan, assign_lanes
from daskflow.dashboards.problems import Attempt
from daskflow.dashboards.summary import ended_per_second

__all__ = ["TASK_COLORS", "Timeline", "draw_timeline", "worker_label"]

TASK_COLORS = (
    "#4f8ef7", "#259a70", "#9b7bf0", "#c9831a", "#1f9fb0", "#e0609f", "#7a9e1f",
    "#7a8ba8", "#c07d48", "#5b6ee1", "#3d9d6d", "#b26fd0", "#a8891f",
)  # fmt: skip
_AXIS_TEXT = "#7d8795"  # until the page's script sets the theme's own
_LABELS = 24  # of workers beside the timeline
_LOSSES = 50  # lost workers that get a line


@dataclass(frozen=True)
class Timeline:
    """What the page needs to show the figure.

    Attributes
    ----------
    item : dict
        Bokeh's JSON for `Bokeh.embed.embed_item`.
    words : dict
        What the codes of the bars mean; the page's script reads it.
    spans, bars : int
        Task runs and earlier attempts drawn, and the number of bars that took.
    """

    item: dict[str, Any]
    words: dict[str, Any]
    spans: int
    bars: int


def worker_label(position: int, address: str) -> str:
    """Short name of a worker, the same in figure and tables."""
    return "flow" if address == FLOW_PROCESS else f"worker {position}"


def draw_timeline(
    columns: RunColumns, attempts: Sequence[Attempt], began: float, lost_at: Sequence[float]
) -> Timeline | None:
    """Draw a run, or return None where nothing of it ever started.

    Parameters
    ----------
    columns : RunColumns
    attempts : sequence of Attempt
        Earlier attempts that ended badly; each is a mark at its end.
    began : float
        Unix seconds that `columns` counts from.
    lost_at : sequence of float
        Unix seconds at which workers were lost.
    """
    spans, lanes = _spans(columns, attempts, began)
    if not len(spans.lane):
        return None
    bars = level_of_detail(spans, length_s=columns.length_s)
    x_range = Range1d(start=0, end=max(columns.length_s, 1e-3) * 1000 * 1.005, name="time")
    rate = _rate(columns, x_range)
    main = _lanes(columns, bars, lanes, x_range)
    lost_ms = [(at - began) * 1000 for at in lost_at[:_LOSSES]]
    for plot in (rate, main):
        plot.vspan(x=lost_ms, line_color=KINDS[CODES["lost"]].color, line_width=1.5,
                   line_dash=[4, 3], name="lost")  # fmt: skip
    item = json_item(column(rate, main, sizing_mode="stretch_width", spacing=0))
    return Timeline(dict(item), _words(columns, lanes), len(spans.lane), len(bars.lane))


def _spans(
    columns: RunColumns, attempts: Sequence[Attempt], began: float
) -> tuple[Spans, LanePlan]:
    """Task runs that started, then earlier attempts, and the lanes that they need."""
    at = np.flatnonzero(columns.worker >= 0)
    start = np.clip(columns.start[at], 0.0, columns.length_s)
    end = np.clip(columns.end[at], start, columns.length_s)
    lanes = assign_lanes(
        columns.worker[at],
        start,
        end,
        workers=len(columns.workers),
        slack_s=columns.length_s / 10_000,
    )
    runs = Spans(lanes.lane, start, end, columns.task[at], columns.kind[at], at)
    place = {number: position for position, number in enumerate(columns.number.tolist())}
    known = {address: position for position, address in enumerate(columns.workers)}
    marks = []
    for attempt in attempts:
        row = place.get(attempt.number)
        worker = known.get(attempt.worker or "", -1 if row is None else int(columns.worker[row]))
        if row is None or worker < 0:
            continue
        when = min(max(attempt.at - began, 0.0), columns.length_s)
        lane, task = lanes.first[worker], int(columns.task[row])
        marks.append((lane, when, when, task, CODES[attempt.kind], row))
    if not marks:
        return runs, lanes
    return Spans(
        *(
            np.concatenate((mine, np.array(theirs, dtype=mine.dtype)))
            for mine, theirs in zip(runs, zip(*marks, strict=True), strict=True)
        )
    ), lanes


def _plot(height: int, **options: Any) -> figure:
    plot = figure(
        height=height, tools="", toolbar_location=None, sizing_mode="stretch_width",
        background_fill_color=None, border_fill_color=None, outline_line_color=None,
        min_border_left=72, min_border_right=8, **options,
    )  # fmt: skip
    for axis in plot.axis:
        axis.axis_line_color = axis.major_tick_line_color = axis.minor_tick_line_color = None
        axis.major_label_text_font = "system-ui, sans-serif"
        axis.major_label_text_font_size = "11px"
        axis.major_label_text_color = _AXIS_TEXT
    plot.grid.grid_line_color = "#8891a0"
    plot.grid.grid_line_alpha = 0.18
    return plot


def _rate(columns: RunColumns, x_range: Range1d) -> figure:
    """Area chart of the task runs that ended per second."""
    middle, per_second = ended_per_second(columns)
    source = ColumnDataSource({"x": (middle * 1000).astype("f4"), "y": per_second.astype("f4")})
    plot = _plot(
        96, x_range=x_range, y_range=Range1d(start=0, end=float(per_second.max()) * 1.08 or 1.0)
    )
    color = KINDS[CODES["completed"]].color
    plot.varea(x="x", y1=0, y2="y", fill_color=color, fill_alpha=0.2, source=source)
    plot.line("x", "y", line_color=color, line_width=1.6, source=source)
    plot.xaxis.visible = False
    plot.yaxis.ticker = BasicTicker(desired_num_ticks=3)
    plot.yaxis.formatter = NumeralTickFormatter(format="0.[0]a")
    plot.ygrid.ticker = plot.yaxis.ticker
    plot.xgrid.ticker = TimedeltaTicker()
    return plot


def _lanes(columns: RunColumns, bars: Bars, lanes: LanePlan, x_range: Range1d) -> figure:
    """The timeline: work coloured by task or by state, problems always by state and on top."""
    height = int(np.clip(lanes.count * 20, 90, 460)) + 34
    plot = _plot(height, x_range=x_range, y_range=Range1d(start=lanes.count - 0.42, end=-0.58))
    by_task = linear_cmap("shade", list(TASK_COLORS), -0.5, len(TASK_COLORS) - 0.5)
    place: dict[str, Any] = {
        "y": "lane", "left": "left", "right": "right", "height": 0.84, "line_color": None,
    }  # fmt: skip
    # One source a kind: BokehJS makes a pattern for each bar where the hatch is a column, which
    # costs seconds; one pattern for all bars of a renderer costs nothing.
    drawn: list[DataRenderer] = []
    for code in np.unique(bars.kind).tolist():
        kind, source = KINDS[code], _source(columns, bars, bars.kind == code)
        if code < PROBLEM_FROM:
            drawn.append(plot.hbar(fill_color=by_task, source=source, name="by-task", **place))
        hatched = plot.hbar(
            fill_color=kind.color, hatch_pattern=kind.hatch, hatch_color="#ffffff",
            hatch_alpha=0.6, hatch_scale=7, hatch_weight=1.2, source=source,
            name="problem" if code >= PROBLEM_FROM else "by-state",
            visible=code >= PROBLEM_FROM, **place,
        )  # fmt: skip
        drawn.append(hatched)
    pan, wheel = PanTool(dimensions="width"), WheelZoomTool(dimensions="width")
    wheel.modifiers = {"ctrl": True}  # so that the wheel alone scrolls the page
    hover = HoverTool(
        point_policy="follow_mouse",
        tooltips=[("", "@name"), ("", "@what"), ("", "@when"), ("", "@where")],
        renderers=drawn,
    )
    plot.add_tools(pan, wheel, BoxZoomTool(dimensions="width"), ResetTool(), hover)
    plot.toolbar.active_scroll, plot.toolbar.active_drag = wheel, pan
    plot.ygrid.grid_line_color = None
    plot.xaxis.ticker = TimedeltaTicker()
    plot.xaxis.formatter = TimedeltaTickFormatter(
        microseconds="%s.%MS%US s", milliseconds="%s.%MS s", seconds="%s s", minsec="%m:%S",
        minutes="%m:%S", hourmin="%h:%M h", hours="%h:%M h", days="%d d",
    )  # fmt: skip
    ticks = _worker_ticks(columns, lanes)
    plot.yaxis.ticker = FixedTicker(ticks=[at for at in ticks if isinstance(at, float)])
    plot.yaxis.major_label_overrides = ticks
    return plot


def _source(columns: RunColumns, bars: Bars, which: Any) -> ColumnDataSource:
    run = bars.run[which]
    index = np.where(run >= 0, columns.index[run], -1)
    return ColumnDataSource(
        {
            "lane": bars.lane[which].astype("f4"),
            "left": (bars.left[which] * 1000).astype("f4"),
            "right": (bars.right[which] * 1000).astype("f4"),
            "task": bars.task[which].astype("i4"),
            "shade": (bars.task[which] % len(TASK_COLORS)).astype("u1"),
            "kind": bars.kind[which].astype("u1"),
            "index": index.astype("i4"),
            "count": bars.members[which].astype("i4"),
        }
    )


def _worker_ticks(columns: RunColumns, lanes: LanePlan) -> dict[float | str, Any]:
    """Labels beside the lanes, in the middle of each worker's."""
    after = [*lanes.first[1:], lanes.count]
    step = -(-len(lanes.first) // _LABELS)
    return {
        (first + max(end, first + 1) - 1) / 2: worker_label(position, columns.workers[position])
        for position, (first, end) in enumerate(zip(lanes.first, after, strict=True))
        if position % step == 0
    }


def _words(columns: RunColumns, lanes: LanePlan) -> dict[str, Any]:
    owner = np.searchsorted(np.array(lanes.first), np.arange(lanes.count), side="right") - 1
    return {
        "tasks": list(columns.task_names),
        "kinds": [kind.label for kind in KINDS],
        "workers": [
            worker_label(position, columns.workers[position]) for position in owner.tolist()
        ],
    }
