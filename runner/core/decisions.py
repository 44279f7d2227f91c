"""What the driver decides, in the form in which its shell takes it away."""

from __future__ import annotations

from typing import NamedTuple

from daskflow.runner.core.graph import Parcel, Run

__all__ = ["Decisions", "Transition", "describe"]


class Transition(NamedTuple):
    """A change of state that the final row of its run does not tell by itself."""

    run: Run
    at: float
    state: str
    message: str | None
    attempt: int
    worker: str | None


class Decisions(NamedTuple):
    """What the shell has to carry out."""

    send: list[Parcel]
    final: list[Run]
    transitions: list[Transition]
    done: list[Parcel]  # nothing more is expected of these


def describe(error: BaseException) -> str:
    """One line for a message: the error's type and text."""
    try:
        text = str(error)
    except Exception as broken:  # user code: a __str__ that raises must not take the driver down
        text = f"(its __str__ raises {type(broken).__name__})"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
