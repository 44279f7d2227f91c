"""Named points at which this process kills itself, for tests of what a crash leaves behind.

``DASKFLOW_CRASH_AT=parcel-sent`` sends SIGKILL to the flow process the first time that it comes
there, ``parcel-sent:3`` the third time.  Where the variable is not set nothing is looked at:
`arm` wraps what has the point in it when the first flow run starts, and never otherwise.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import os
import signal
from collections.abc import Callable
from typing import Any, NamedTuple

from daskflow.errors import UsageError

__all__ = ["CRASH_AT", "POINTS", "Point", "arm", "parse_crash_at"]

CRASH_AT = "DASKFLOW_CRASH_AT"


class Point(NamedTuple):
    """Where a point is.

    Attributes
    ----------
    where : str
        ``module:Class.method`` below `daskflow.runner`.
    when : str
        ``"before"`` or ``"after"`` the call.
    what : str
        In words.
    counts : callable, optional
        Whether a call counts, by its arguments.
    """

    where: str
    when: str
    what: str
    counts: Callable[..., bool] | None = None


def _has_final(_journal: object, final: Any, _transitions: object) -> bool:
    return bool(final)


def _is_final(_run: object, state: str, _message: object) -> bool:
    from daskflow.runner.core.states import FINAL  # workers' path to this module needs none

    return state in FINAL


POINTS = {
    "flow-started": Point("engine:FlowRun.begin", "after", "the flow run is Running"),
    "submitted": Point("task_runs:TaskRuns.submit", "after", "a task run was submitted"),
    "parcel-sending": Point("cluster.dispatch:Dispatch.send", "before", "a parcel is to be sent"),
    "parcel-sent": Point("cluster.dispatch:Dispatch.send", "after", "a parcel was sent"),
    "result-committed": Point(
        "cache_notes:RunCache.told", "before", "a result is stored, its run not yet ended"
    ),
    "outcome-taken": Point(
        "outcomes:Journal.write", "before", "runs have ended, the record is not told", _has_final
    ),
    "outcome-told": Point(
        "outcomes:Journal.write", "after", "the record is told, nothing is written", _has_final
    ),
    "record-writing": Point(
        "store.sqlite:SqliteWriter.commit", "before", "the record is to be written"
    ),
    "record-written": Point("store.sqlite:SqliteWriter.commit", "after", "the record was written"),
    "flow-returned": Point("engine:FlowRun.end", "before", "the flow function has returned"),
    "flow-settled": Point("engine:FlowRun.conclude", "before", "all task runs have ended"),
    "flow-ended": Point(
        "engine:FlowRun._change", "after", "the end is told, not written", _is_final
    ),
}


def parse_crash_at(text: str) -> tuple[str, int]:
    """Return the point of ``name`` or ``name:count``, and how often it is passed before.

    Raises
    ------
    UsageError
        For a point that does not exist.
    """
    name, _, count = text.partition(":")
    if name not in POINTS or (count and (not count.isdecimal() or int(count) < 1)):
        raise UsageError(
            f"{CRASH_AT}={text!r} names no crash point; there are {', '.join(POINTS)}, each with "
            ":2, :3 … for a later time"
        )
    return name, int(count or 1)


def arm() -> None:
    """Make the point that ``DASKFLOW_CRASH_AT`` names deadly, if it names one.

    Raises
    ------
    UsageError
        For a point that does not exist.
    """
    text = os.environ.get(CRASH_AT)
    if text:
        _arm(*parse_crash_at(text))


@functools.cache
def _arm(name: str, count: int) -> None:
    point = POINTS[name]
    module, _, path = point.where.partition(":")
    owner, method = path.split(".")
    place = getattr(importlib.import_module(f"daskflow.runner.{module}"), owner)
    setattr(place, method, _deadly(getattr(place, method), point, count))


def _deadly(call: Callable[..., Any], point: Point, count: int) -> Callable[..., Any]:
    passed = itertools.count(1)

    @functools.wraps(call)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        deadly = (point.counts is None or point.counts(*args)) and next(passed) == count
        if deadly and point.when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = call(*args, **kwargs)
        if deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return wrapped
