"""What a run would find in the cache: judged by the record of the last one.  Pure.

What is not recorded cannot be known: calls that the last run did not make, and whether a task run
that is executed again gives equal content, in which case what is below it hits after all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from daskflow.caching.keys import explain
from daskflow.runner.cache_status import read_status
from daskflow.runner.store.rows import TaskRow, TaskRunRow

__all__ = ["Prediction", "predict"]

_CODE = "code "


class Prediction(NamedTuple):
    """What the runs of one task would come to.

    Attributes
    ----------
    task : str
    known : int
        Runs that the last flow run made.
    hit : int
        Whose results would be found.
    depends : int
        Whose inputs are made by runs that would be executed: they hit if those give equal content.
    executed : int
    because : dict of str to int
        Why, and of how many runs.
    """

    task: str
    known: int
    hit: int
    depends: int
    executed: int
    because: dict[str, int]


def predict(
    tasks: Sequence[TaskRow],
    rows: Sequence[TaskRunRow],
    entries: Mapping[str, Any],
    code_of: Mapping[str, Mapping[str, str]],
) -> list[Prediction]:
    """Judge each task of a recorded flow run.

    Parameters
    ----------
    tasks, rows : sequence
        Of the flow run.
    entries : mapping
        By key: what the result store has now.
    code_of : mapping
        By task: the parts of its code now; tasks that are not known are taken as they were.
    """
    names = {task.task_number: task.name for task in tasks}
    verdicts: dict[int, str] = {}
    judged: dict[str, Counter[str]] = {task.name: Counter() for task in tasks}
    reasons: dict[str, Counter[str]] = {task.name: Counter() for task in tasks}
    for row in sorted(rows, key=lambda each: each.number):  # inputs come before what takes them
        name = names.get(row.task_number, "task")
        verdict, why = _judge(row, name, entries, code_of)
        if verdict == "hit" and any(verdicts.get(n, "hit") != "hit" for n in row.parents or ()):
            verdict, why = "depends", "an input is made again"
        verdicts[row.number] = verdict
        judged.setdefault(name, Counter())[verdict] += 1
        if why:
            reasons.setdefault(name, Counter())[why] += 1
    return [
        Prediction(
            name,
            sum(counts.values()),
            counts["hit"],
            counts["depends"],
            counts["executed"],
            dict(reasons[name]),
        )
        for name, counts in judged.items()
    ]


def _judge(
    row: TaskRunRow,
    name: str,
    entries: Mapping[str, Any],
    code_of: Mapping[str, Mapping[str, str]],
) -> tuple[str, str | None]:
    status = read_status(row.cache)
    if status is None:
        return "executed", "its task does not cache"
    if status.key is None:
        return "executed", status.why
    entry = entries.get(status.key)
    if entry is None:
        return "executed", "its result is not stored, or has expired"
    now = code_of.get(name)
    then = {part: digest for part, digest in entry.parts.items() if part.startswith(_CODE)}
    if now is None or not then:
        return "hit", None
    changes = explain(then, {f"{_CODE}{part}": digest for part, digest in now.items()})
    return ("executed", str(changes[0])) if changes else ("hit", None)
