"""`daskflow bench`: what a cluster spends on a task run, and how long a task had better be."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from daskflow.runner.cli.output import json_option, print_json, print_table
from daskflow.runner.cli.progress import wants_live_view
from daskflow.runner.cli.text import short_time

__all__ = ["bench"]


@click.command("bench")
@click.option(
    "--task-runner",
    metavar="ADDRESS",
    help="Address of a Dask cluster, or processes or threads; default: the setting.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.5, max=3600),
    default=10.0,
    show_default=True,
    help="About how long to measure.",
)
@json_option
def bench(task_runner: str | None, seconds: float, as_json: bool) -> None:
    """Measure what a cluster spends per task run."""
    # the engine and Dask: never for `daskflow bench --help`
    from daskflow.runner.measuring import OVERHEAD_SHARE, measure_cluster

    with _progress() as progress:
        found = measure_cluster(task_runner, seconds=seconds, progress=progress)
    if as_json:
        print_json(found._asdict())
        return
    rows = [
        ("slots", f"{found.slots:,}"),
        ("per task run", f"{short_time(found.per_run_s)} ({found.task_runs:,} that do nothing)"),
        ("round trip", f"{short_time(found.round_trip_s)} from submit to result"),
        ("large results", _rate(found.result_bytes_per_s)),
        (
            "slots in use",
            f"{found.slot_use:.0%} by tasks of {short_time(found.worthwhile_s)}",
        ),
    ]
    print_table(("figure", "measured"), rows)
    click.echo(
        f"\nthis cluster spends {short_time(found.per_run_s)} per task run; a task of "
        f"{short_time(found.worthwhile_s)} or more spends less than 10 % on overhead: make "
        "smaller ones larger, or leave them"
    )
    if found.slot_use < 1 - OVERHEAD_SHARE:
        click.echo(
            f"when tried, tasks of that duration filled only {found.slot_use:.0%} of the slots: "
            "measure for longer (--seconds), or again when the machines are quiet"
        )


def _rate(bytes_per_s: float | None) -> str:
    if bytes_per_s is None:
        return "stay in this process"
    return f"{bytes_per_s / 1e6:,.0f} MB/s from a worker to the flow"


@contextmanager
def _progress() -> Iterator[Callable[[float, str], object]]:
    """Yield what is told how far we are: a bar on a terminal, a line a step elsewhere."""
    if not wants_live_view(sys.stderr):
        yield _Lines()
        return
    # rich: for a terminal only
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        step = bar.add_task("measuring", total=1.0)
        yield lambda share, what: bar.update(step, completed=share, description=what)


class _Lines:
    """Writes each step once."""

    def __init__(self) -> None:
        self._last = ""

    def __call__(self, _share: float, what: str) -> None:
        if what != self._last:
            self._last = what
            click.echo(f"measuring: {what}" if what != "done" else "measured", err=True)
