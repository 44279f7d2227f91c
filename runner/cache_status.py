"""What the record says of a task run and the cache: one text, written and read here.

``hit KEY SECONDS``, ``miss KEY``, ``miss KEY why it is not stored``, or why it was not looked up.
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["REFRESHED", "CacheStatus", "hit_status", "miss_status", "read_status"]

_KEYED = re.compile(r"(hit|miss) ([0-9a-f]{8,128})(?: (.*))?", re.DOTALL)


REFRESHED = "refreshed"  # why a run was not looked up that was asked to be made again


class CacheStatus(NamedTuple):
    """What the cache made of a task run.

    Attributes
    ----------
    hit : bool
        Its result was found.
    key : str or None
    saved_s : float
        How long it took when it was executed, for a hit.
    why : str or None
        Why it was not looked up, or not stored.
    """

    hit: bool
    key: str | None
    saved_s: float
    why: str | None


def hit_status(key: str, saved_s: float | None) -> str:
    """Of a run whose result was found."""
    return f"hit {key} {saved_s or 0.0:.6f}"


def miss_status(key: str | None, why: str | None) -> str | None:
    """Of a run that was executed."""
    if key is None:
        return why
    return f"miss {key} {why}" if why else f"miss {key}"


def read_status(text: str | None) -> CacheStatus | None:
    """Read the text; None for a run of a task that does not cache."""
    if not text:
        return None
    found = _KEYED.fullmatch(text)
    if found is None:
        return CacheStatus(False, None, 0.0, text)
    word, key, rest = found.groups()
    if word == "miss":
        return CacheStatus(False, key, 0.0, rest)
    try:
        return CacheStatus(True, key, float(rest or 0.0), None)
    except ValueError:  # written by another hand
        return CacheStatus(True, key, 0.0, None)
