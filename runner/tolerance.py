"""How many runs of a map may fail: `tolerate=`, and the one error for more than that.

Failures within the tolerance count as looked at.  Beyond it, whoever asks for the results gets an
error that groups the failures; if nobody does, the flow fails with it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from daskflow.errors import TooManyFailed, UsageError
from daskflow.runner.core.driver import describe
from daskflow.runner.core.states import FINAL, SUCCESSFUL
from daskflow.runner.futures import TaskFuture, looked_at

__all__ = ["Tolerance", "check_tolerate", "others_failed"]

_GROUPS = 5
_EXAMPLES = 3
_MESSAGE = 200


def check_tolerate(value: Any) -> int | float:
    """A number of runs, or a fraction of them.

    Raises
    ------
    UsageError
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, float) and 0.0 <= value <= 1.0:
        return value
    raise UsageError(
        f"tolerate={value!r} must be a number of runs such as 3, or a fraction of them such as 0.1"
    )


class Tolerance:
    """Watches over the failures of one map.

    Parameters
    ----------
    limit : int or float
        A number of runs, or a fraction of them.
    task_name : str
        For the message.

    Attributes
    ----------
    told : bool
        The flow has got the error: what becomes of it is the flow's business.
    """

    def __init__(self, limit: int | float, task_name: str) -> None:
        self.limit = limit
        self.told = False
        self._task_name = task_name
        self._count = 0
        self._open: list[Any] = []
        self._failed: list[Any] = []
        self._sweep_at = 1000

    def add(self, future: TaskFuture[Any]) -> None:
        """One more run of the map was submitted."""
        self._count += 1
        self._open.append(future._run)
        if len(self._open) >= self._sweep_at:  # a map may go on for ever: keep what matters
            self._sweep()
            self._sweep_at = 2 * len(self._open) + 1000

    def _sweep(self) -> None:
        waiting = []
        for run in self._open:
            if run.state not in FINAL:
                waiting.append(run)
            elif run.state not in SUCCESSFUL:
                self._failed.append(run)
        self._open = waiting

    def judge(self) -> TooManyFailed | None:
        """The error, if more of the runs that have ended failed than may."""
        self._sweep()
        failed = self._failed
        for run in failed:
            looked_at(run)
        if len(failed) <= self._allowed():
            return None
        error = TooManyFailed(
            failed[0].task_run_id.rpartition("-")[0],
            f"{len(failed)} of {self._count} runs of {self._task_name}.map() failed, "
            f"{self._allowed()} may (tolerate={self.limit!r}): {_grouped(failed)}",
            [run.task_run_id for run in failed],
        )
        error.__cause__ = failed[0].error
        return error

    def _allowed(self) -> int:
        if isinstance(self.limit, int):
            return self.limit
        return math.floor(self.limit * self._count + 1e-9)  # 0.07 of 100 is 7.000000000000001


def _grouped(failed: Sequence[Any]) -> str:
    """Failures by type and message, the most frequent first, each with some examples."""
    groups: dict[str, list[str]] = {}
    for run in failed:
        what = describe(run.error) if run.error is not None else str(run.message)
        first, *more = what.splitlines() or [""]
        shown = first if not more and len(first) <= _MESSAGE else f"{first[:_MESSAGE]}…"
        groups.setdefault(shown, []).append(run.label)
    told = []
    for what, labels in sorted(groups.items(), key=lambda group: -len(group[1]))[:_GROUPS]:
        examples = ", ".join(labels[:_EXAMPLES]) + (", …" if len(labels) > _EXAMPLES else "")
        told.append(f"{len(labels)} × {what} ({examples})")
    if len(groups) > _GROUPS:
        told.append(f"and {len(groups) - _GROUPS} other kinds of failure")
    return "; ".join(told)


def others_failed(futures: Sequence[TaskFuture[Any]], raised: TaskFuture[Any]) -> str | None:
    """What to add to the error of one run: how many others of its list have failed, by type."""
    kinds: Counter[str] = Counter()
    waiting = 0
    for future in futures:
        run = future._run
        if run.state not in FINAL:
            waiting += 1
        elif future is not raised and run.state not in SUCCESSFUL:
            kinds[type(run.error).__name__ if run.error is not None else run.state] += 1
    if not kinds:
        return None
    told = ", ".join(f"{count} × {kind}" for kind, count in kinds.most_common())
    open_ones = f" ({waiting} are not done yet)" if waiting else ""
    return (
        f"{raised.name} is one of {kinds.total() + 1} runs of {len(futures)} in this list that "
        f"ended badly; the others: {told}{open_ones}"
    )
