"""`daskflow runs …`: look at recorded flow runs, and let them go on."""

from __future__ import annotations

import importlib
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from daskflow.config import get_settings
from daskflow.runner.cli.output import json_option, print_json, print_table
from daskflow.runner.cli.record import opened_store, read_logs
from daskflow.runner.cli.show import print_page, read_page, table_of_runs
from daskflow.runner.cli.summary import flow_run_as_dict
from daskflow.runner.cli.text import printable
from daskflow.runner.core.states import STATES

__all__ = ["runs"]

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_run_argument = click.argument("ref", metavar="RUN")


@click.group()
def runs() -> None:
    """Look at recorded flow runs.

    RUN is an id, a unique beginning of one, a name, or @last.
    """


@runs.command("ls")
@click.option("--state", type=click.Choice(STATES, case_sensitive=False), help="Only this state.")
@click.option("--flow", help="Only runs of the flow of this name.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=20, show_default=True, help="At most so many."
)
@json_option
def ls(state: str | None, flow: str | None, limit: int, as_json: bool) -> None:
    """List flow runs, newest first."""
    now = time.time()
    with opened_store() as store:
        found = store.flow_runs(state=state, flow=flow, limit=limit)
    if as_json:
        for run in found:
            print_json(flow_run_as_dict(run, now))
    elif found:
        print_table(*table_of_runs(found, now))
    else:
        click.echo(f"no flow runs to list in {get_settings().store.url}", err=True)


@runs.command("show")
@_run_argument
@json_option
def show(ref: str, as_json: bool) -> None:
    """Show a flow run: states, stages, retries, losses, errors, subflows, environment."""
    with opened_store() as store:
        page = read_page(store, ref)
    if as_json:
        print_json(page.as_dict())
    else:
        print_page(page)


@runs.command("logs")
@_run_argument
@click.option("--task", help="Only this task, or this task run (its name, number or id).")
@click.option(
    "--level",
    type=click.Choice(_LEVELS, case_sensitive=False),
    default="DEBUG",
    show_default=True,
    help="Only lines at least as severe.",
)
@click.option("--search", help="Only lines that hold this text.")
@click.option("-n", "--tail", type=click.IntRange(min=0), help="Only so many of the last lines.")
@json_option
def logs(
    ref: str, task: str | None, level: str, search: str | None, tail: int | None, as_json: bool
) -> None:
    """Print the logs of a flow run, in the order in which they arrived."""
    at_least = logging.getLevelNamesMapping()[level]
    with opened_store() as store:
        run = store.find_flow_run(ref)
        lines = read_logs(
            store, run.flow_run_id, task=task, level=at_least, search=search, tail=tail
        )
        nothing = True
        for line in lines:
            nothing = False
            if as_json:
                print_json(line.as_dict())
            else:
                click.echo(line.as_text())
    if nothing and not as_json:
        narrowed = task is not None or search is not None or at_least > logging.DEBUG
        what = "no log lines fit" if narrowed else "nothing was logged"
        click.echo(f"{what} in flow run {printable(run.name)}", err=True)


@runs.command("cancel")
@_run_argument
@click.option(
    "--grace",
    "grace_s",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="How long running task runs may go on; by default what the flow says.",
)
@click.option("--wait/--no-wait", default=True, show_default=True, help="Until it has ended.")
@json_option
@click.pass_context
def cancel(
    ctx: click.Context, /, ref: str, grace_s: float | None, wait: bool, as_json: bool
) -> None:
    """Cancel a flow run that another process executes.

    Nothing new starts, and what is queued is dropped. Running task runs may look at
    runtime.task_run.cancelled(); what executes after the grace ends with its worker process.
    """
    # the other commands that look need none of it
    from daskflow.runner.cli.cancel import CancelAsk, cancel

    ctx.exit(cancel(CancelAsk(ref, grace_s, wait, as_json)))


def _going_on(command: Callable[..., None]) -> Callable[..., None]:
    """The options that `resume` and `retry` share."""
    options = (
        _run_argument,
        click.argument("target", metavar="[FILE[:FLOW]]", required=False),
        click.option(
            "-p",
            "--param",
            "params",
            multiple=True,
            metavar="KEY=VALUE",
            help="A parameter that the record does not hold, or that is to be another one.",
        ),
        click.option("--task-runner", metavar="RUNNER", help="As for `daskflow run`."),
        click.option(
            "--rerun-changed",
            is_flag=True,
            help="Run again what is committed but whose code has changed since.",
        ),
        json_option,
    )
    for option in reversed(options):
        command = option(command)
    return command


@runs.command("resume")
@_going_on
@click.pass_context
def resume(ctx: click.Context, /, **given: Any) -> None:
    """Let a flow run go on that failed, crashed or was cancelled.

    The flow function runs again under the same flow run, with the same parameters. Task runs
    whose results persist are taken from the record. FILE says where the flow is now, if it is
    somewhere else.
    """
    ctx.exit(_go_on(given, failed_only=False))


@runs.command("retry")
@_going_on
@click.option("--failed", is_flag=True, required=True, help="Run again what did not succeed.")
@click.pass_context
def retry(ctx: click.Context, /, failed: bool, **given: Any) -> None:
    """Run the task runs of a flow run again that failed, crashed or were not ready.

    As `resume`, and also for a flow run that has completed all the same.
    """
    ctx.exit(_go_on(given, failed_only=failed))


def _go_on(given: dict[str, Any], *, failed_only: bool) -> int:
    # the engine: the commands that only look need none
    from daskflow.runner.cli.parameters import parse_parameters
    from daskflow.runner.cli.resume import ResumeAsk, resume

    return resume(
        ResumeAsk(
            given["ref"],
            given["target"],
            parse_parameters(given["params"]),
            given["task_runner"],
            given["rerun_changed"],
            failed_only,
            given["as_json"],
        )
    )


@runs.command("report")
@_run_argument
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("report.html"),
    show_default=True,
    help="The file to write.",
)
def report(ref: str, output: Path) -> None:
    """Write a flow run as one self-contained HTML file."""
    # By name: the pages are built on the runner, so the runner may not import them.
    dashboards = importlib.import_module("daskflow.dashboards.report")
    with opened_store() as store:
        run = store.find_flow_run(ref)
        dashboards.write_report(store, run.flow_run_id, output)
    click.echo(str(output))
