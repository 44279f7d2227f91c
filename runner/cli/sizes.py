"""Sizes and ages on the command line: ``50GB``, ``30d``, and back."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

__all__ = ["AGE", "SIZE", "size_text"]

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_BINARY = {"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40}
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_NUMBER = re.compile(r"(\d+(?:\.\d+)?)\s*([a-zA-Z]*)")


if TYPE_CHECKING:
    _ParamType = click.ParamType[float]
else:
    _ParamType = click.ParamType  # is no generic in the oldest click that serves


class _Measure(_ParamType):
    """A number with a unit."""

    def __init__(self, name: str, units: dict[str, Any], example: str) -> None:
        self.name = name
        self._units = units
        self._example = example

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return bytes or seconds."""
        found = _NUMBER.fullmatch(str(value).strip())
        factor = self._units.get(found.group(2).lower()) if found else None
        if found is None or factor is None:
            self.fail(f"{value!r} is no {self.name}; write it like {self._example}", param, ctx)
        return float(found.group(1)) * float(factor)


SIZE = _Measure("size", {**_UNITS, **_BINARY}, "50GB, 500MB or 2GiB")
AGE = _Measure("age", _SECONDS, "30d, 12h or 2w")


def size_text(size_bytes: float) -> str:
    """Three figures and a unit."""
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < 1000:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.3g} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.3g} TB"
