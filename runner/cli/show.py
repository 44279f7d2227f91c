"""`daskflow runs show`: one flow run on one page, and the same as one JSON object."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import click

from daskflow.runner.cache_status import read_status
from daskflow.runner.cli.account import account_lines
from daskflow.runner.cli.output import print_table, styled
from daskflow.runner.cli.summary import (
    ErrorGroup,
    StageSummary,
    busy_workers,
    flow_run_as_dict,
    group_errors,
    lost_workers,
    run_names,
    summarize_stages,
)
from daskflow.runner.cli.text import clock, count_line, duration, one_line, printable
from daskflow.runner.core.states import AWAITING_RETRY, FINAL
from daskflow.runner.store import RunStore
from daskflow.runner.store.rows import EventRow, FlowRunRow, TransitionRow

__all__ = ["RunPage", "print_page", "read_page"]

RESUMED = "daskflow.flow_run.resumed"  # the event, as in runner/starting.py
_SHOWN = 10  # causes and losses on the page; --json has them all


class RunPage(NamedTuple):
    """Everything that `runs show` says about a flow run."""

    run: FlowRunRow
    now: float
    counts: dict[str, int]
    stages: list[StageSummary]
    errors: list[ErrorGroup]
    losses: list[EventRow]
    busy: list[EventRow]  # slots that given-up bodies keep, and workers recycled for them
    subflows: list[FlowRunRow]
    saved_s: float = 0.0  # what cached task runs took when they were executed
    transitions: Sequence[TransitionRow] = ()  # of the flow run itself, oldest first
    account: Mapping[str, Any] | None = None  # of the last resume

    def as_dict(self) -> dict[str, Any]:
        """Return the page for ``--json``."""
        return {
            "flow_run": flow_run_as_dict(self.run, self.now),
            "counts": self.counts,
            "saved_s": self.saved_s,
            "resumed": self.account,
            "transitions": [
                {"at": t.at, "state": t.state, "message": t.message, "attempt": t.attempt}
                for t in self.transitions
            ],
            "retries": sum(stage.retries for stage in self.stages),
            "stages": [stage._asdict() for stage in self.stages],
            "errors": [group._asdict() for group in self.errors],
            "lost_workers": [loss._asdict() for loss in self.losses],
            "busy_workers": [each._asdict() for each in self.busy],
            "subflows": [flow_run_as_dict(child, self.now) for child in self.subflows],
        }


def read_page(store: RunStore, ref: str) -> RunPage:
    """Read the page of the flow run that `ref` means."""
    run = store.find_flow_run(ref)
    tasks, task_runs = store.tasks(run.flow_run_id), store.task_runs(run.flow_run_id)
    events = store.events(run.flow_run_id)
    accounts = [event.payload for event in events if event.event == RESUMED]
    return RunPage(
        run=run,
        now=time.time(),
        counts=store.counts(run.flow_run_id),
        stages=summarize_stages(tasks, task_runs),
        errors=group_errors(task_runs, run_names(tasks, task_runs)),
        losses=lost_workers(events),
        busy=busy_workers(events),
        subflows=store.children(run.flow_run_id),
        transitions=store.transitions(run.flow_run_id, None),
        account=accounts[-1] if accounts else None,
        saved_s=sum(found.saved_s for row in task_runs if (found := read_status(row.cache))),
    )


def print_page(page: RunPage) -> None:
    """Print the page; sections that have nothing to say are left out."""
    run = page.run
    head = flow_run_as_dict(run, page.now)
    click.echo(f"{click.style(printable(run.name), bold=True)}  {styled(run.state)}")
    for label, text in _facts(page, head):
        click.echo(f"{label:<12} {text}")
    _print_stages(page.stages)
    _print_problems(page)
    if page.subflows:
        click.echo("\nSUBFLOWS")
        print_table(*table_of_runs(page.subflows, page.now))
    if isinstance(head["environment"], dict) and head["environment"]:
        click.echo("\nENVIRONMENT")
        for key, value in head["environment"].items():
            click.echo(f"{printable(str(key)):<12} {one_line(_plain(value), 200)}")


def _facts(page: RunPage, head: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    run = page.run
    yield "id", run.flow_run_id
    version = f" (version {run.flow_version})" if run.flow_version else ""
    yield "flow", printable(f"{run.flow_name}{version}")
    if run.message:
        yield "message", one_line(run.message, 300)
    yield "started", f"{clock(run.started_at)} on {printable(run.host)}, pid {run.pid}"
    yield "took", duration(head["duration_s"])
    if run.attempt > 1:
        yield "attempt", str(run.attempt)
        for each in page.transitions:
            if each.attempt < run.attempt and each.state in {*FINAL, AWAITING_RETRY}:
                why = f": {each.message}" if each.message else ""
                yield "before", one_line(f"attempt {each.attempt} ended {each.state}{why}", 300)
    if page.account is not None:
        yield "resumed", account_lines(page.account)[0]
    yield "task runner", printable(run.task_runner)
    if run.entrypoint:
        yield "entrypoint", printable(run.entrypoint)
    if head["parameters"]:
        yield "parameters", one_line(_pairs(head["parameters"]), 300)
    if head["tags"]:
        yield "tags", one_line(_plain(head["tags"]), 300)
    if run.parent_flow_run_id:
        asked = "" if run.parent_task_run is None else f"-{run.parent_task_run}"  # a task run's id
        yield "called by", f"{run.parent_flow_run_id}{asked}"
    yield "task runs", count_line(page.counts, lost_workers=len(page.losses))
    if cached := page.counts.get("Cached"):
        yield "cached", f"{cached:,} task runs, which saved {duration(page.saved_s)}"


def _print_stages(stages: list[StageSummary]) -> None:
    if not stages:
        return
    click.echo("\nSTAGES")
    header = ("task", "total", "completed", "cached", "failed", "other", "retries", "lost")
    rows = []
    for stage in stages:
        completed, cached = stage.states.get("Completed", 0), stage.states.get("Cached", 0)
        failed = sum(stage.states.get(s, 0) for s in ("Failed", "TimedOut", "Crashed"))
        figures = (
            stage.total,
            completed,
            cached,
            failed,
            stage.total - completed - cached - failed,
        )
        counts = (f"{n:,}" if n else "-" for n in (*figures, stage.retries, stage.crashes))
        times = (duration(s) for s in (stage.p50_s, stage.p95_s, stage.max_s))
        rows.append((one_line(stage.task, 40), *counts, *times))
    print_table((*header, "p50", "p95", "max"), rows)


def _print_problems(page: RunPage) -> None:
    if page.errors:
        click.echo("\nERRORS")
        for group in page.errors[:_SHOWN]:
            more = " …" if group.size > len(group.task_runs) else ""
            click.echo(f"{group.size:,} × {styled(group.state)}  {group.message}")
            click.echo(f"    {one_line(', '.join(group.task_runs), 200)}{more}")
        if len(page.errors) > _SHOWN:
            click.echo(f"… and {len(page.errors) - _SHOWN} more causes, see --json")
    _print_workers("LOST WORKERS", page.losses)
    _print_workers("BUSY WORKERS", page.busy, names_event=True)


def _print_workers(title: str, events: list[EventRow], *, names_event: bool = False) -> None:
    if not events:
        return
    click.echo(f"\n{title}")
    for each in events[:_SHOWN]:
        what = f"{each.event.rpartition('.')[2]} " if names_event else ""
        said = one_line(_pairs(each.payload), 200)
        when, worker = clock(each.at, with_date=False), printable(each.resource)
        click.echo(f"{when} {worker}  {what}{said}")
    if len(events) > _SHOWN:
        click.echo(f"… and {len(events) - _SHOWN} more, see --json")


def table_of_runs(
    runs: list[FlowRunRow], now: float
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the header and the rows of a table of flow runs."""
    header = ("name", "flow", "state", "started", "took", "id")
    rows: list[tuple[str, ...]] = []
    for run in runs:
        taken = flow_run_as_dict(run, now)["duration_s"]
        rows.append(
            (
                one_line(run.name, 40),
                one_line(run.flow_name, 30),
                run.state,
                clock(run.started_at),
                duration(taken),
                run.flow_run_id[:12],
            )
        )
    return header, rows


def _pairs(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={_plain(item)}" for key, item in value.items())
    return _plain(value)


def _plain(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return str(value)
