"""`daskflow config`: each setting, its value and where it comes from."""

from __future__ import annotations

import re

import click

from daskflow.config import settings_with_origins
from daskflow.runner.cli.output import json_option, print_json, print_table

__all__ = ["config", "without_password"]

_PASSWORD = re.compile(r"(?<=://)([^:/@\s]*):[^@/\s]*@")


def without_password(text: str) -> str:
    """Return `text` with the password of a URL in it replaced by ``***``."""
    return _PASSWORD.sub(r"\1:***@", text)


@click.command("config")
@json_option
def config(as_json: bool) -> None:
    """Show each setting and where it comes from."""
    found = settings_with_origins()
    if as_json:
        for key, value, origin in found:
            shown = value if isinstance(value, int | float | None) else without_password(str(value))
            print_json({"key": key, "value": shown, "origin": origin})
        return
    rows = [
        (key, "none" if value is None else without_password(str(value)), origin)
        for key, value, origin in found
    ]
    print_table(("setting", "value", "from"), rows)
