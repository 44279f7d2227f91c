"""Futures met while arguments are pickled: each gets a slot, and the run depends on them.

Pickling already visits every object, so this finds a future at any depth of any object, and costs
nothing where there is none.
"""

from __future__ import annotations

import threading

from daskflow.errors import UsageError
from daskflow.runner.core.graph import Run

__all__ = ["Collected", "collecting", "current_collection"]


class Collected:
    """Futures met while arguments are pickled; each gets a slot."""

    __slots__ = ("_known", "allowed", "runs")

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.allowed: set[int] = set()
        self._known: dict[tuple[Run, bool], int] = {}

    def slot(self, run: Run, *, allowed: bool = False) -> int:
        """The slot of `run`; plain and allowed use of the same run have one each."""
        slot = self._known.get((run, allowed))
        if slot is None:
            slot = self._known[run, allowed] = len(self.runs)
            self.runs.append(run)
            if allowed:
                self.allowed.add(slot)
        return slot


_collecting = threading.local()


class collecting:  # used as `with collecting() as found`
    """While active in this thread, pickling a future notes it and writes its slot."""

    def __init__(self, *, off: bool = False) -> None:
        self._off = off

    def __enter__(self) -> Collected:
        self._outer = getattr(_collecting, "now", None)
        found = Collected()
        _collecting.now = None if self._off else found
        return found

    def __exit__(self, *exc: object) -> None:
        _collecting.now = self._outer


def current_collection() -> Collected:
    """What is being collected in this thread.

    Raises
    ------
    UsageError
        When nothing is: a future is being pickled outside of a submission.
    """
    found: Collected | None = getattr(_collecting, "now", None)
    if found is None:
        raise UsageError(
            "a future cannot be pickled; hand it to a task as an argument of submit or map, or "
            "take its value with .result() first"
        )
    return found
