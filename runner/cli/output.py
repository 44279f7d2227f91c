"""Where a command's words go: data on stdout, progress and complaints on stderr.

On a terminal tables and states have colour (rich, loaded only then); in a pipe they are plain
aligned text; with ``--json`` every record is one line of JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

from daskflow.runner.cli.text import aligned

__all__ = ["json_option", "print_json", "print_table", "state_style", "styled"]

_STYLES = {
    "Completed": "green",
    "Cached": "cyan",
    "Running": "blue",
    "Retrying": "yellow",
    "AwaitingRetry": "yellow",
    "Failed": "red",
    "TimedOut": "red",
    "Crashed": "magenta",
    "NotReady": "yellow",
    "Cancelling": "yellow",
    "Cancelled": "yellow",
}

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON, one object a line, for scripts."
)


def print_json(value: Mapping[str, Any]) -> None:
    """Print one object on one line; what JSON does not know is printed as text."""
    click.echo(json.dumps(value, default=str, ensure_ascii=False))


def state_style(state: str) -> str | None:
    """Return the colour of a state, if it has one."""
    return _STYLES.get(state)


def styled(state: str) -> str:
    """Return a state in its colour; `click.echo` takes the colour out again in a pipe."""
    return click.style(state, fg=_STYLES.get(state))


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows of text under a header; a cell that is a state's name has its colour."""
    if not sys.stdout.isatty():
        click.echo("\n".join(aligned(header, rows)))
        return
    # rich costs 60 ms to import, and a pipe has no use for it
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in header:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    Console(file=sys.stdout).print(table)
