"""Flow parameters from the command line: ``-p key=value``, ``-p @file.json``, ``--params-json``.

Pure but for reading the named files.  A value is JSON where it parses as JSON and text where it
does not, so ``-p n=3`` is a number, ``-p name=may`` a string, ``-p code='"3"'`` the string "3".
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from daskflow.errors import UsageError

__all__ = ["parse_parameters", "parse_value"]


def parse_parameters(given: Sequence[str], params_json: str | None = None) -> dict[str, Any]:
    """Return the parameters of a flow; what is named later wins, ``params_json`` counts first.

    Raises
    ------
    UsageError
        An entry has no ``=``, a file cannot be read, or JSON is not an object.
    """
    parameters = {} if params_json is None else _json_object(params_json, "--params-json")
    for one in given:
        if one.startswith("@"):
            parameters.update(_json_object(_read(one), f"-p {one}"))
            continue
        key, equals, value = one.partition("=")
        if not equals or not key.isidentifier():
            raise UsageError(
                f"-p {one!r} is no parameter: write -p key=value, with the name of an argument "
                "of the flow as key, or -p @file.json"
            )
        parameters[key] = parse_value(value)
    return parameters


def parse_value(text: str) -> Any:
    """Return `text` read as JSON, or `text` itself where it is no JSON."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return text


def _no_constant(name: str) -> float:
    # NaN and Infinity are Python's own addition to JSON, and more likely somebody's text
    raise ValueError(name)


def _json_object(text: str, source: str) -> dict[str, Any]:
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{source} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise UsageError(f'{source} is {value!r}: write a JSON object such as {{"month": 3}}')
    return value


def _read(entry: str) -> str:
    try:
        return Path(entry[1:]).expanduser().read_text("utf-8")
    except (OSError, ValueError) as error:
        raise UsageError(f"-p {entry} cannot be read: {error}") from error
