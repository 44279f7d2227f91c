"""`daskflow run FILE[:FLOW]`: run a flow and show how it goes."""

from __future__ import annotations

import click

from daskflow.runner.cli.launch import launch
from daskflow.runner.cli.parameters import parse_parameters
from daskflow.runner.cli.target import parse_target

__all__ = ["run"]


@click.command("run")
@click.argument("target", metavar="FILE[:FLOW]")
@click.option(
    "-p",
    "--param",
    "params",
    multiple=True,
    metavar="KEY=VALUE",
    help="A parameter of the flow, as JSON or else as text; @file.json for a file of them.",
)
@click.option("--params-json", metavar="OBJECT", help="All parameters as one JSON object.")
@click.option(
    "--task-runner",
    metavar="RUNNER",
    help="processes, threads, sync or the address of a Dask scheduler.",
)
@click.option("--name", help="The name of the flow run.")
@click.option(
    "--refresh",
    multiple=True,
    metavar="TASK",
    help="Look up no results of this task, and replace them; '*' for all tasks.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Run nothing; say which calls of the last run would be found in the cache.",
)
@click.option("--no-cache", is_flag=True, help="Neither look results up nor store them.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print how the run ended as one JSON object; the flow's own prints go to stderr.",
)
@click.pass_context
def run(
    ctx: click.Context,
    target: str,
    params: tuple[str, ...],
    params_json: str | None,
    task_runner: str | None,
    name: str | None,
    refresh: tuple[str, ...],
    no_cache: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Run a flow from a file and show how it goes.

    FILE is the path of a Python file or the dotted name of a module; FLOW may be left out
    where it defines one flow.  Progress and errors go to stderr.
    """
    parameters = parse_parameters(params, params_json)
    ctx.exit(
        launch(
            parse_target(target),
            parameters,
            task_runner=task_runner,
            name=name,
            refresh=refresh,
            no_cache=no_cache,
            dry=dry_run,
            as_json=as_json,
        )
    )
