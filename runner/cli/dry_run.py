"""`daskflow run FILE --dry-run`: which known calls would be found in the cache; nothing is run."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

import click

from daskflow.errors import NotFoundError, Uncacheable
from daskflow.runner.cache_status import read_status
from daskflow.runner.cli.cache import result_store
from daskflow.runner.cli.output import print_json, print_table
from daskflow.runner.cli.prediction import predict
from daskflow.runner.cli.record import opened_store
from daskflow.runner.cli.text import clock, one_line, printable
from daskflow.runner.record import as_json
from daskflow.runner.store.rows import FlowRunRow, TaskRow, TaskRunRow

if TYPE_CHECKING:
    from daskflow import Flow

__all__ = ["dry_run"]

_LOOKED_AT = 50  # flow runs of this flow, newest first


def dry_run(
    flow: Flow[..., Any], module: ModuleType, parameters: Mapping[str, Any], as_json_lines: bool
) -> None:
    """Print what is known.

    Raises
    ------
    NotFoundError
        When no run of the flow that used the cache is recorded.
    """
    run, tasks, rows = _last(flow.name)
    keys = [found.key for row in rows if (found := read_status(row.cache)) and found.key]
    entries = result_store(flow.options["result_storage"]).lookup(keys)
    predicted = predict(tasks, rows, entries, _code_now(module))
    if as_json_lines:
        for each in predicted:
            print_json(each._asdict())
        return
    click.echo(
        f"as {printable(run.name)} went at {clock(run.started_at)}; calls that it did not make are "
        "not known"
    )
    if parameters and run.parameters != as_json(dict(parameters)):
        click.echo(f"it had other parameters: {one_line(run.parameters, 200)}")
    header = ("task", "known", "found", "depends", "executed", "because")
    print_table(
        header,
        [
            (
                one_line(each.task, 40),
                *(f"{count:,}" for count in (each.known, each.hit, each.depends, each.executed)),
                one_line("; ".join(f"{why} ({n:,})" for why, n in each.because.items()), 80),
            )
            for each in predicted
        ],
    )


def _last(flow_name: str) -> tuple[FlowRunRow, list[TaskRow], list[TaskRunRow]]:
    with opened_store() as record:
        for run in record.flow_runs(flow=flow_name, limit=_LOOKED_AT):
            rows = record.task_runs(run.flow_run_id)
            if any((found := read_status(row.cache)) and found.key for row in rows):
                return run, record.tasks(run.flow_run_id), rows
    raise NotFoundError(
        f"no recorded run of flow {flow_name!r} has looked results up, so nothing is known of the "
        "next one; run it once"
    )


def _code_now(module: ModuleType) -> dict[str, Mapping[str, str]]:
    """The code of the tasks that a module has by name."""
    from daskflow import Task  # the engine is loaded by now, with the module

    found: dict[str, Mapping[str, str]] = {}
    for value in vars(module).values():
        if isinstance(value, Task):
            try:
                found[value.name] = value.code_digest.parts
            except Uncacheable:  # its runs say so by themselves
                continue
    return found
