"""A simulation as a table and as a picture.

The picture is an SVG of two charts, one above the other: the share of the slots that execute runs,
and the driver's CPU per run, both over the simulated time.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from benchmarks.simulation import BINS, Sample, Simulation

__all__ = ["picture", "read_simulations", "simulation_json", "simulation_table"]

_WIDTH, _HEIGHT, _LEFT, _TOP, _GAP = 760, 170, 64, 46, 62
_COLOURS = ("#1f6f8b", "#c8553d", "#588157", "#6d597a")


def simulation_table(simulations: Sequence[Simulation]) -> str:
    """A Markdown table, one row a simulation."""
    head = (
        "| task runs | workers | lost | parcels | slot use | best possible | makespan / bound "
        "| driver per run | collector per run | pending at most | memory |\n"
        "|---|---|---|---|---|---|---|---|---|---|---|"
    )
    rows = [
        f"| {s.runs:,} | {s.workers:,} | {s.losses:,} | {s.parcels:,} | {s.use:.1%} "
        f"| {s.best_use:.1%} | {s.makespan_s:,.0f} s / {s.bound_s:,.0f} s | {s.driver_us:.1f} µs "
        f"| {s.collector_us:.1f} µs | {s.open_peak:,} | {s.rss_mb:,.0f} MB |"
        for s in simulations
    ]
    return "\n".join([head, *rows])


def simulation_json(simulation: Simulation) -> str:
    """One line that `read_simulations` reads."""
    samples = [sample._asdict() for sample in simulation.samples]
    return json.dumps({**simulation._asdict(), "samples": samples})


def read_simulations(path: Path) -> list[Simulation]:
    """Simulations of a file of such lines.

    Raises
    ------
    OSError, ValueError
    """
    found = []
    for line in path.read_text().splitlines():
        fields = json.loads(line)
        try:
            samples = [Sample(**each) for each in fields.pop("samples")]
            found.append(Simulation(**fields, samples=samples))
        except (KeyError, TypeError) as error:
            raise ValueError(f"{str(path)!r} holds no simulations: {error}") from error
    return found


def picture(simulations: Sequence[Simulation]) -> str:
    """An SVG with one line a simulation; the time of each goes from 0 to its makespan."""
    names = [f"{s.runs:,} runs on {s.workers:,} workers" for s in simulations]
    height = _TOP + 2 * _HEIGHT + 2 * _GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_LEFT + _WIDTH + 24} {height}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    for place, name in enumerate(names):
        x = _LEFT + place * 250
        colour = _COLOURS[place % len(_COLOURS)]
        parts.append(f'<rect x="{x}" y="14" width="14" height="4" fill="{colour}"/>')
        parts.append(f'<text x="{x + 20}" y="20" fill="#333">{escape(name)}</text>')
    most_us = 4.0 * math.ceil(max([8.0, *(2 * s.driver_us for s in simulations)]) / 4)
    parts += _chart(
        simulations, _TOP, "slots that execute runs", 1.0, "{:.0%}", lambda sample: sample.use, 0.0
    )
    parts += _chart(
        simulations,
        _TOP + _HEIGHT + _GAP,
        "CPU of the driver per task run that ends, µs",
        most_us,
        "{:.0f}",
        lambda sample: sample.driver_us,
        0.25,
    )
    return "\n".join([*parts, "</svg>", ""])


def _chart(
    simulations: Sequence[Simulation],
    top: float,
    title: str,
    most: float,
    label: str,
    of: Callable[[Sample], float],
    least: float,
) -> list[str]:
    # `least`: runs that a sample needs to be shown, as a part of those that it has in the mean
    bottom = top + _HEIGHT
    parts = [f'<text x="{_LEFT}" y="{top - 8}" fill="#333" font-weight="bold">{title}</text>']
    for step in range(5):
        y = bottom - step / 4 * _HEIGHT
        parts.append(f'<path d="M{_LEFT} {y}h{_WIDTH}" stroke="#ddd"/>')
        text = escape(label.format(most * step / 4))
        parts.append(
            f'<text x="{_LEFT - 8}" y="{y + 4}" text-anchor="end" fill="#555">{text}</text>'
        )
    for step in range(5):
        x = _LEFT + step / 4 * _WIDTH
        parts.append(
            f'<text x="{x}" y="{bottom + 18}" text-anchor="middle" fill="#555">'
            f"{step / 4:.0%}{' of the ideal time' if step == 2 else ''}</text>"
        )
    for place, simulation in enumerate(simulations):
        points = []
        for sample in simulation.samples:
            share = sample.at / simulation.ideal_s
            if share > 1.0 or sample.runs < least * simulation.runs / BINS:
                continue  # the tail belongs to a few long runs, and says nothing of the driver
            y = bottom - min(1.0, of(sample) / most) * _HEIGHT
            points.append(f"{_LEFT + share * _WIDTH:.1f},{y:.1f}")
        colour = _COLOURS[place % len(_COLOURS)]
        parts.append(
            f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" '
            'stroke-width="1.6"/>'
        )
    return parts
