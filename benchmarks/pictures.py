"""The pictures of the report, drawn with Bokeh from runs of results.

A contender has the same colour in every picture.  What a file does not hold is not drawn: then a
picture is None.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from bokeh.models import (
    ColumnDataSource,
    FixedTicker,
    HoverTool,
    Legend,
    LegendItem,
    NumeralTickFormatter,
)
from bokeh.plotting import figure

from benchmarks.results import CaseSummary, ContenderSummary
from benchmarks.workloads import SLOTS

__all__ = ["cpu_by_process", "newest", "parcel_sizes", "slot_use", "throughput"]

Points = dict[str, list[tuple[float, float]]]

_COLOURS = {
    "daskflow": "#1f5fbf",
    "daskflow, record off": "#7fb0ee",
    "dask": "#d9772b",
    "dask.delayed": "#a0522d",
    "ray": "#2e8b57",
    "parsl": "#8a5fbf",
    "joblib": "#b03060",
    "prefect": "#00808a",
    "prefect-dask": "#5c6b00",
}
_OTHER = "#666666"
# How W1 is submitted; a way has the same line in every contender's colour.
_WAYS = {"submit": "loop", "map": "map", "growth": "as_completed", "million": "as_completed"}
_DASHES = {"map": "dashed", "as_completed": "dotted"}
_TICKS_MS = [1, 2, 5, 10, 20, 50]
_PROCESSES = {
    "driver": "#1f5fbf", "loop": "#7fb0ee", "scheduler": "#d9772b", "workers": "#f0b070",
    "rest": "#999999",
}  # fmt: skip
_HEIGHT = 340
# Their CPU time is that of the work itself, or of a round trip: another scale.
_NOT_PER_RUN = ("W5.", "W10", "latency", "parcels", "peers")


def throughput(cases: Sequence[CaseSummary]) -> figure | None:
    """Task runs a second against their number, for all of W1."""
    points: Points = {}
    for case in cases:
        if not case.case.removeprefix("peers.").startswith("W1."):
            continue
        way = _WAYS[case.case.rpartition(".")[2]]
        for who in case.contenders:
            if who.name.endswith(("held", "record off")):
                continue  # measured for its memory, and for its CPU time
            name = f"{_family(who.name)}, {way}"
            points.setdefault(name, []).append((who.runs, who.runs / who.wall_s.median))
    return _lines(points, "task runs", "task runs a second")


def slot_use(cases: Sequence[CaseSummary]) -> figure | None:
    """Share of the slots' time that tasks fill, against their duration."""
    points: Points = {}
    for case in cases:
        if case.case.startswith("W5.") and case.case.endswith("ms"):
            duration_ms = float(case.case.removeprefix("W5.").removesuffix("ms"))
            for who in case.contenders[1:]:
                points.setdefault(_family(who.name), []).append(
                    (duration_ms, who.speedup.median / SLOTS)
                )
    plot = _lines(points, "duration of a task, ms", "use of the slots", y_log=False)
    if plot is not None:
        plot.xaxis.ticker = FixedTicker(ticks=_TICKS_MS)
        plot.xaxis.formatter = NumeralTickFormatter(format="0")
    return plot


def parcel_sizes(cases: Sequence[CaseSummary]) -> figure | None:
    """Task runs a second against how many a parcel held."""
    points: Points = {}
    for case in cases:
        for who in case.contenders if case.case == "parcels" else ():
            points.setdefault("daskflow", []).append(
                (who.figures["parcel_runs"], who.runs / who.wall_s.median)
            )
    return _lines(points, "task runs in a parcel, mean", "task runs a second", y_log=False)


def cpu_by_process(cases: Sequence[CaseSummary], contender: str) -> figure | None:
    """CPU time per task run of one contender, by process, one bar a case."""
    rows: list[tuple[str, ContenderSummary]] = []
    for case in cases:
        for who in case.contenders:
            many = who.runs >= 300 and not case.case.startswith(_NOT_PER_RUN)
            if many and (who.name == contender or _is_sized(who.name, contender)):
                label = case.case if who.name == contender else f"W1 {who.name[len(contender) :]}"
                rows.append((label.replace(" , ", " "), who))
    if not rows:
        return None
    rows = list({label: (label, who) for label, who in rows}.values())[::-1]
    labels = [label for label, _ in rows]
    parts = {
        name: [1e6 * float(getattr(who.cpu_s_per_run, name)) for _, who in rows]
        for name in _PROCESSES
    }
    parts = {name: values for name, values in parts.items() if max(values) > 0}
    plot = figure(
        y_range=labels, height=90 + 26 * len(rows), sizing_mode="stretch_width",
        toolbar_location=None, x_axis_label="CPU time per task run, µs",
    )  # fmt: skip
    source = ColumnDataSource({"case": labels, **parts})
    bars = plot.hbar_stack(
        list(parts), y="case", height=0.7, source=source,
        color=[_PROCESSES[name] for name in parts],
    )  # fmt: skip
    plot.add_tools(HoverTool(tooltips=[("", "@case"), ("$name", "@$name{0.0} µs")]))
    items = [LegendItem(label=n, renderers=[bar]) for n, bar in zip(parts, bars, strict=True)]
    plot.add_layout(Legend(items=items, orientation="horizontal", border_line_color=None), "above")
    plot.x_range.start = 0
    plot.ygrid.grid_line_color = None
    return plot


def _lines(points: Points, x_label: str, y_label: str, *, y_log: bool = True) -> figure | None:
    points = {name: _one_a_place(own) for name, own in points.items()}
    if not points:
        return None
    few = len(points) <= 2
    plot = figure(
        height=_HEIGHT + (0 if few else 18 * len(points)), sizing_mode="stretch_width",
        toolbar_location=None,
        x_axis_label=x_label, y_axis_label=y_label,
        x_axis_type="log", y_axis_type="log" if y_log else "linear",
    )  # fmt: skip
    items = []
    for name, own in points.items():
        engine, _, way = name.rpartition(", ")
        colour = _COLOURS.get(name) or _COLOURS.get(engine, _OTHER)
        source = ColumnDataSource({
            "x": [x for x, _ in own], "y": [y for _, y in own], "who": [name] * len(own)
        })  # fmt: skip
        line = plot.line("x", "y", source=source, color=colour, line_width=2,
                         line_dash=_DASHES.get(way, "solid"))  # fmt: skip
        dots = plot.scatter("x", "y", source=source, color=colour, size=8)
        items.append(LegendItem(label=name, renderers=[line, dots]))
    plot.add_tools(HoverTool(tooltips=[("", "@who"), (x_label, "@x{0,0.[00]}"),
                                       (y_label, "@y{0,0.[00]}")]))  # fmt: skip
    legend = Legend(items=items, orientation="horizontal", border_line_color=None)
    # two columns of long names would not fit a narrow window
    legend.ncols, legend.location, legend.spacing = (2 if few else 1), "left", 0
    plot.add_layout(legend, "above")
    if not y_log:
        plot.y_range.start = 0
    else:
        plot.yaxis.formatter = NumeralTickFormatter(format="0,0")
    return plot


def _one_a_place(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return points in order; what was measured at one place more than once has its median."""
    places: dict[float, list[float]] = {}
    for x, y in points:
        places.setdefault(x, []).append(y)
    return [(x, statistics.median(places[x])) for x in sorted(places)]


def _family(name: str) -> str:
    """Name contenders that differ in size only alike: ``daskflow, 100,000`` is daskflow."""
    return name if name in _COLOURS else name.partition(",")[0]


def _is_sized(name: str, contender: str) -> bool:
    rest = name.removeprefix(f"{contender}, ")
    return rest != name and rest.replace(",", "").isdecimal()


def newest(runs: Iterable[Sequence[CaseSummary]]) -> list[CaseSummary]:
    """Return the last summary of each case; later runs replace earlier ones."""
    found = {case.case: case for cases in runs for case in cases}
    return list(found.values())
