"""`daskflow doctor`: check that flows can run here, and say what to do where they cannot."""

from __future__ import annotations

from collections.abc import Iterator

import click

from daskflow.runner.cli.checks import (
    Check,
    check_cluster,
    check_settings,
    check_store,
    check_versions,
)
from daskflow.runner.cli.exits import ExitCode
from daskflow.runner.cli.output import json_option, print_json
from daskflow.runner.cli.text import one_line

__all__ = ["doctor"]

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command("doctor")
@click.option("--address", help="Check this Dask cluster instead of starting local workers.")
@json_option
@click.pass_context
def doctor(ctx: click.Context, address: str | None, as_json: bool) -> None:
    """Check that flows can run here."""
    failed = False
    for check in _examine(address):
        failed |= check.status == "fail"
        if as_json:
            print_json(check._asdict())
        else:
            _print(check)
    ctx.exit(ExitCode.UNREACHABLE if failed else ExitCode.COMPLETED)


def _examine(address: str | None) -> Iterator[Check]:
    yield from check_versions()
    for check in check_settings():
        yield check
        if check.status == "fail":
            return  # store and cluster are found through the settings
    yield from check_store()
    yield from check_cluster(address)


def _print(check: Check) -> None:
    status = click.style(f"{check.status:<4}", fg=_COLOURS[check.status])
    click.echo(f"{status} {check.name:<12} {one_line(check.found, 300)}")
    if check.advice:
        click.echo(f"     {'':<12} → {check.advice}")
