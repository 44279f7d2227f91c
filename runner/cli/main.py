"""The `daskflow` command: finds the subcommand, loads only that, turns errors into exit codes.

`daskflow --help` answers from the table below and imports no subcommand, so it stays as quick as
click itself.  Every subcommand raises `DaskflowError`; the one place that prints it and picks the
exit code is `_Commands.invoke`.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import click

from daskflow.errors import DaskflowError
from daskflow.runner.cli.exits import ExitCode, exit_code_of_error

__all__ = ["COMMANDS", "cli", "main"]

# name -> where the command lives, and its line in `--help` (a test holds it to the command's own)
COMMANDS = {
    "run": ("daskflow.runner.cli.run:run", "Run a flow from a file and show how it goes."),
    "runs": ("daskflow.runner.cli.runs:runs", "Look at recorded flow runs."),
    "cache": ("daskflow.runner.cli.cache:cache", "Look at stored results, and clean up."),
    "bench": ("daskflow.runner.cli.bench:bench", "Measure what a cluster spends per task run."),
    "doctor": ("daskflow.runner.cli.doctor:doctor", "Check that flows can run here."),
    "config": ("daskflow.runner.cli.settings:config", "Show each setting and where it comes from."),
}


class _Commands(click.Group):
    """A group that imports a subcommand when it is called, not when it is listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()  # a reader that left shows here, not at interpreter exit
        except DaskflowError as error:
            click.echo(f"error: {error}", err=True)
            ctx.exit(exit_code_of_error(error))
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(ExitCode.INTERRUPTED)
        except BrokenPipeError:
            # What is still buffered has no reader; without this the interpreter would complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(ExitCode.BROKEN_PIPE)
        return result


def _print_version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        # slow (reads the installed metadata) and needed for nothing else
        from importlib.metadata import version

        click.echo(f"daskflow {version('daskflow')}")
        ctx.exit()


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
def cli() -> None:
    """Python workflows on a Dask cluster.

    RUN in the commands below is an id, a unique beginning of one, a name, or @last.
    """


def main() -> None:
    """Run the command line; the console script `daskflow` calls this."""
    cli(prog_name="daskflow")


if __name__ == "__main__":
    main()
