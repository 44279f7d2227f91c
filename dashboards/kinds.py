"""What a person sees of a state: ten kinds, each with a word, a colour, an icon and a hatch.

Pure.  The record knows fifteen state names; a picture needs fewer, and each must be told apart
without its colour.  A kind's position in `KINDS` is its code in numpy columns.  Every colour has
a contrast of 3 : 1 or more on both the light and the dark panel (tested).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

__all__ = ["CODES", "KINDS", "KIND_OF_STATE", "PROBLEM_FROM", "Kind", "kind_of"]


class Kind(NamedTuple):
    """One kind of state.

    Attributes
    ----------
    name : str
        Also the name of the CSS class and of the icon.
    label : str
        What a person reads.
    color : str
        Of bars and icons; never the only cue.
    hatch : str
        Bokeh's hatch pattern for bars, a space for none.
    """

    name: str
    label: str
    color: str
    hatch: str


# In order of severity: where bars share a pixel the later kind wins.
KINDS = (
    Kind("pending", "pending", "#7d8795", " "),
    Kind("cached", "cached", "#6f80ee", "."),
    Kind("completed", "completed", "#259a70", " "),
    Kind("recovered", "recovered", "#15803d", "+"),
    Kind("running", "running", "#2b8cf0", ">"),
    Kind("cancelled", "cancelled", "#757e8a", "-"),
    Kind("notready", "not ready", "#8a6d5a", "|"),
    Kind("retrying", "retried attempt", "#b8790b", "/"),
    Kind("lost", "lost with its worker", "#cc3a97", "x"),
    Kind("failed", "failed", "#e0393f", "\\"),
)
CODES: Mapping[str, int] = MappingProxyType({kind.name: code for code, kind in enumerate(KINDS)})
PROBLEM_FROM = CODES["retrying"]  # this code and every later one always wins its pixel

KIND_OF_STATE: Mapping[str, str] = MappingProxyType(
    {
        "Scheduled": "pending",
        "Late": "pending",
        "Pending": "pending",
        "Paused": "pending",
        "Cached": "cached",
        "Completed": "completed",
        "Running": "running",
        "Cancelling": "cancelled",
        "Cancelled": "cancelled",
        "NotReady": "notready",
        "Retrying": "retrying",
        "AwaitingRetry": "retrying",
        "Crashed": "lost",
        "TimedOut": "failed",
        "Failed": "failed",
    }
)


def kind_of(state: str) -> str:
    """Name of the kind that shows `state`; a state of a newer daskflow shows as pending."""
    return KIND_OF_STATE.get(state, "pending")
