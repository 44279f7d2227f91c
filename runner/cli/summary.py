"""What a flow run comes to: stages, errors by cause, retries, losses.  Pure; rows in, values out.

`runs show` prints it and ``runs show --json`` dumps it, so both say the same.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from daskflow.runner.cli.text import one_line
from daskflow.runner.store.rows import EventRow, FlowRunRow, TaskRow, TaskRunRow

__all__ = [
    "WORKER_LOST",
    "ErrorGroup",
    "StageSummary",
    "busy_workers",
    "duration_of",
    "flow_run_as_dict",
    "group_errors",
    "lost_workers",
    "run_names",
    "summarize_stages",
]

WORKER_LOST = "daskflow.worker.lost"
_BUSY = ("daskflow.worker.busy", "daskflow.worker.recycled")
_BAD = frozenset({"Failed", "TimedOut", "Crashed"})
_FIGURES = re.compile(r"0x[0-9a-fA-F]+|\d+")


class StageSummary(NamedTuple):
    """The runs of one task, counted."""

    task: str
    total: int
    states: dict[str, int]
    retries: int
    crashes: int  # workers lost while a run of this task was executing
    p50_s: float | None
    p95_s: float | None
    max_s: float | None


class ErrorGroup(NamedTuple):
    """Task runs that ended badly for what looks like the same reason."""

    size: int  # how many
    state: str
    message: str  # of the first of them, one line
    task_runs: list[str]  # names of at most five


def run_names(tasks: Iterable[TaskRow], task_runs: Iterable[TaskRunRow]) -> dict[int, str]:
    """Return the name of each task run by its number."""
    names = {task.task_number: task.name for task in tasks}
    return {
        run.number: run.name or f"{names.get(run.task_number, 'task')}-{run.index}"
        for run in task_runs
    }


def summarize_stages(
    tasks: Sequence[TaskRow], task_runs: Iterable[TaskRunRow]
) -> list[StageSummary]:
    """Return one summary a task, in the order in which the flow first used them."""
    of_task: defaultdict[int, list[TaskRunRow]] = defaultdict(list)
    for run in task_runs:
        of_task[run.task_number].append(run)
    return [_stage(task.name, of_task[task.task_number]) for task in tasks]


def _stage(name: str, runs: Sequence[TaskRunRow]) -> StageSummary:
    took = sorted(run.run_s for run in runs if run.run_s is not None)
    return StageSummary(
        task=name,
        total=len(runs),
        states=dict(Counter(run.state for run in runs)),
        # an attempt that ended with its worker is counted as a crash, not as a retry too
        retries=sum(max(run.attempt - 1 - run.crashes, 0) for run in runs),
        crashes=sum(run.crashes for run in runs),
        p50_s=_quantile(took, 0.5),
        p95_s=_quantile(took, 0.95),
        max_s=took[-1] if took else None,
    )


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else None


def group_errors(task_runs: Iterable[TaskRunRow], names: Mapping[int, str]) -> list[ErrorGroup]:
    """Return the bad endings by cause, most frequent first.

    Messages that differ in figures only (a row number, an address) are one cause.
    """
    groups: defaultdict[tuple[str, str], list[TaskRunRow]] = defaultdict(list)
    for run in task_runs:
        if run.state in _BAD:
            message = one_line(run.message or "no message", 300)
            groups[run.state, _FIGURES.sub("#", message)].append(run)
    found = [
        ErrorGroup(
            size=len(runs),
            state=state,
            message=one_line(runs[0].message or "no message", 300),
            task_runs=[names[run.number] for run in runs[:5]],
        )
        for (state, _), runs in groups.items()
    ]
    return sorted(found, key=lambda group: -group.size)


def lost_workers(events: Iterable[EventRow]) -> list[EventRow]:
    """Return the events that tell of a lost worker, one a loss."""
    return [event for event in events if event.event == WORKER_LOST]


def busy_workers(events: Iterable[EventRow]) -> list[EventRow]:
    """Return the events that tell of slots kept by given-up bodies, and of what became of them."""
    return [event for event in events if event.event in _BUSY]


def duration_of(run: FlowRunRow, now: float) -> float | None:
    """Return how long the flow run took, or has taken until `now` while it runs."""
    if run.started_at is None:
        return None
    return (run.ended_at if run.ended_at is not None else now) - run.started_at


def flow_run_as_dict(run: FlowRunRow, now: float) -> dict[str, Any]:
    """Return the row with its JSON columns read, plus its duration."""
    columns = run._asdict()
    for column in ("parameters", "tags", "environment"):
        columns[column] = _read(columns[column])
    return {**columns, "duration_s": duration_of(run, now)}


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text  # a record that another hand wrote is shown as it is
