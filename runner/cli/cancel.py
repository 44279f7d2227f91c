"""`daskflow runs cancel`: end a flow run of another process, and say what came of it."""

from __future__ import annotations

from typing import NamedTuple

import click

from daskflow.runner.cancelling import cancel_flow_run
from daskflow.runner.cli.exits import ExitCode
from daskflow.runner.cli.output import print_json, styled
from daskflow.runner.cli.text import one_line, printable
from daskflow.runner.core.states import CANCELLED

__all__ = ["CancelAsk", "cancel"]


class CancelAsk(NamedTuple):
    """What the command line asks for."""

    ref: str
    grace_s: float | None
    wait: bool
    as_json: bool


def cancel(ask: CancelAsk) -> ExitCode:
    """Cancel a flow run and return the exit code: 1 when it has ended otherwise meanwhile.

    Raises
    ------
    NotFoundError
        No such flow run.
    UsageError
        It has ended already.
    """
    found = cancel_flow_run(ask.ref, grace_seconds=ask.grace_s, wait=ask.wait)
    run = found.flow_run
    if ask.as_json:
        told = {"id": run.flow_run_id, "name": run.name, "state": run.state}
        print_json({**told, "message": run.message, "asked_by": found.asked_by})
    elif found.ended:
        message = one_line(run.message or "", 300)
        shown = f"{printable(run.name)} {styled(run.state)}"
        click.echo(f"{shown}{': ' if message else ''}{message}")
    else:
        click.echo(f"{printable(run.name)} is asked to end; it is {styled(run.state)}")
    done = not found.ended or run.state == CANCELLED
    return ExitCode.COMPLETED if done else ExitCode.FAILED
