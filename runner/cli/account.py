"""The account of a resumed flow run, for people: what was reused, what ran again, and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from daskflow.runner.cli.text import one_line

__all__ = ["account_lines", "print_account"]

_SHOWN = 3  # changes of one task's code; --json has them all


def account_lines(account: Mapping[str, Any]) -> list[str]:
    """Return the account as lines.

    Parameters
    ----------
    account : mapping
        From `Account.as_dict`.
    """
    reused, found = account["reused"], account["found_in_the_result_store"]
    executed = account["executed"]
    again = sum(count for reasons in executed.values() for count in reasons.values())
    kept = sum(reused.values()) + sum(found.values())
    lines = [f"{kept:,} task runs reused, {again:,} executed"]
    for name in sorted({*reused, *found}):
        count = reused.get(name, 0) + found.get(name, 0)
        line = f"  reused    {one_line(name, 40)} {count:,}"
        if (changed := account["reused_with_changed_code"].get(name)) is not None:
            changes = changed["changes"]
            what = ", ".join(changes[:_SHOWN]) + (" …" if len(changes) > _SHOWN else "")
            line += f" ({changed['task_runs']:,} although {one_line(what, 200)}; "
            line += "--rerun-changed runs them again)"
        lines.append(line)
    for name, reasons in executed.items():
        ends = account["had_ended"].get(name, {})
        before = ", ".join(f"{count:,} {state}" for state, count in ends.items())
        for why, count in reasons.items():
            more = f" (before: {before})" if before else ""
            lines.append(f"  executed  {one_line(name, 40)} {count:,}: {why}{more}")
    return lines


def print_account(account: Mapping[str, Any]) -> None:
    """Print the account."""
    for line in account_lines(account):
        click.echo(line)
