"""One HTML file with pictures and tables of results, which needs nothing else: no request is made.

BokehJS stands in the file.  Words come from files of results, so they go through Jinja's
autoescape.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bokeh.embed import components
from bokeh.resources import Resources
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from benchmarks import pictures
from benchmarks.journal import Recorded
from benchmarks.results import summaries
from benchmarks.tables import result_rows, setting_line

__all__ = ["render_page", "write_page"]


def write_page(runs: Sequence[Recorded], path: Path) -> Path:
    """Write the page of these runs to a file and return where it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render_page(runs), encoding="utf-8")
    return path


def render_page(runs: Sequence[Recorded]) -> str:
    """Return the page of these runs as HTML."""
    cases = pictures.newest(summaries(run.measurements) for run in runs)
    drawn = [
        (title, text, plot)
        for title, text, plot in (
            ("Throughput against number", "No-op task runs, by a loop, by map, and consumed by "
             "as_completed; both axes are logarithmic.", pictures.throughput(cases)),
            ("Use of the slots against duration of a task", "1 is what a serial loop does on each "
             "slot without any overhead.", pictures.slot_use(cases)),
            ("Throughput against parcel size", "No-op task runs with other values of "
             "runner.target_parcel_seconds.", pictures.parcel_sizes(cases)),
            ("CPU per task run by process: daskflow", "All work until the processes are idle "
             "again; loop is Dask's event loop in the flow's process.",
             pictures.cpu_by_process(cases, "daskflow")),
            ("CPU per task run by process: plain Dask", "The same work through client.submit and "
             "client.map; mind the other scale.", pictures.cpu_by_process(cases, "dask")),
        )
        if plot is not None
    ]  # fmt: skip
    scripts, drawing, divs = "", "", ()
    if drawn:
        drawing, divs = components(tuple(plot for _, _, plot in drawn))
        scripts = Resources(mode="inline", components=["bokeh"], minified=True).render_js()
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template("page.html").render(
        pictures=[
            {"title": title, "text": text, "div": Markup(div)}
            for (title, text, _), div in zip(drawn, divs, strict=True)
        ],
        runs=[_run(run) for run in runs],
        scripts=Markup(scripts),
        drawing=Markup(drawing),
    )


def _run(run: Recorded) -> dict[str, Any]:
    return {
        "setting": setting_line(run.setting),
        "rows": result_rows(summaries(run.measurements)),
    }
