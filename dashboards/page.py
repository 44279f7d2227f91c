"""Everything that the report of a run shows, read from the record and put into words.

The template lays out what `page_of` returns and computes nothing.  Long lists are cut here, and
what was cut is counted, so that a page of a million task runs stays as small as one of a thousand.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from daskflow.dashboards import summary
from daskflow.dashboards.data import columns, run_began, task_run_name
from daskflow.dashboards.kinds import KINDS, kind_of
from daskflow.dashboards.problems import past_attempts, problems, workers_lost
from daskflow.dashboards.timeline import TASK_COLORS, draw_timeline, worker_label
from daskflow.dashboards.wording import as_items, clip_text
from daskflow.runner.store.rows import (
    EventRow,
    FlowRunRow,
    LogRow,
    TaskRow,
    TaskRunRow,
    TransitionRow,
)

__all__ = ["ReportSource", "page_of"]

_STAGES, _PROBLEMS, _WORKERS, _CHILDREN = 200, 40, 100, 50
_WORST_LOGS, _LAST_LOGS = 100, 200
_LABEL = {kind.name: kind.label for kind in KINDS}
_LEVELS = ((50, "CRITICAL"), (40, "ERROR"), (30, "WARNING"), (20, "INFO"), (0, "DEBUG"))
_FINAL = frozenset(
    {"Completed", "Cached", "Failed", "TimedOut", "NotReady", "Crashed", "Cancelled"}
)


class ReportSource(Protocol):
    """The part of the run store's reading side that a report needs."""

    def find_flow_run(self, ref: str) -> FlowRunRow: ...
    def tasks(self, flow_run_id: str) -> list[TaskRow]: ...
    def task_runs(self, flow_run_id: str) -> list[TaskRunRow]: ...
    def stored_transitions(self, flow_run_id: str) -> list[TransitionRow]: ...
    def logs(
        self,
        flow_run_id: str,
        *,
        level: int = 0,
        after: int | None = None,
        limit: int | None = None,
    ) -> list[LogRow]: ...
    def events(self, flow_run_id: str) -> list[EventRow]: ...
    def children(self, flow_run_id: str) -> list[FlowRunRow]: ...


def page_of(store: ReportSource, flow_run_id: str, *, now: float) -> dict[str, Any]:
    """Read one flow run and return what its page shows.

    Parameters
    ----------
    store : ReportSource
    flow_run_id : str
    now : float
        Unix seconds; where the bars of runs under way end.

    Returns
    -------
    dict
        Variables of ``templates/report.html``.
    """
    run = store.find_flow_run(flow_run_id)
    flow_run_id = run.flow_run_id
    rows = store.task_runs(flow_run_id)
    data = columns(run, store.tasks(flow_run_id), rows, now=now)
    began = run_began(run)
    attempts = past_attempts(store.stored_transitions(flow_run_id))
    lost = workers_lost(store.events(flow_run_id), attempts)
    place = {number: row for row, number in enumerate(data.number.tolist())}

    def task_of(number: int) -> str:
        row = place.get(number)
        return "?" if row is None else data.task_names[int(data.task[row])]

    def name_of(number: int) -> str:
        row = place.get(number)
        return f"task run {number}" if row is None else task_run_name(rows[row], task_of(number))

    key = summary.totals(data)
    stages = summary.stages(data)
    timeline = draw_timeline(data, attempts, began, list(lost.values()))
    grouped = problems(rows, attempts, task_of, name_of)
    return {
        "run": run,
        "state_kind": kind_of(run.state),
        "final": run.state in _FINAL,
        "began": began,
        "message": clip_text(run.message, 4_000) if run.message else "",
        "duration_s": (run.ended_at if run.ended_at is not None else now) - began,
        "length_s": data.length_s,
        "tags": [value for _, value in as_items(run.tags) if value and value != "[]"],
        "key": key,
        "label": _LABEL,
        "lost": len(lost),
        "segments": _segments(key.by_kind, key.task_runs),
        "stages": [(stage, _segments(stage.by_kind, stage.runs)) for stage in stages[:_STAGES]],
        "stages_more": max(0, len(stages) - _STAGES),
        "shades": len(TASK_COLORS),
        "slow": [
            (slow, name_of(int(data.number[slow.row])), rows[slow.row])
            for slow in summary.slowest(data, stages)
        ],
        "problems": grouped[:_PROBLEMS],
        "problems_more": max(0, len(grouped) - _PROBLEMS),
        "workers": [
            (worker_label(position, line.address), line, _lost_at(lost, line.address, began))
            for position, line in enumerate(summary.worker_lines(data)[:_WORKERS])
        ],
        "workers_more": max(0, len(data.workers) - _WORKERS),
        "timeline": timeline,
        "parameters": as_items(run.parameters, 2_000),
        "environment": as_items(run.environment),
        "children": store.children(flow_run_id)[:_CHILDREN],
        "kind_of": kind_of,
        **_logs(store, flow_run_id, name_of, data.workers),
    }


def _lost_at(lost: dict[str, float], address: str, began: float) -> float | None:
    return lost[address] - began if address in lost else None


def _segments(by_kind: dict[str, int], count: int) -> list[tuple[str, int, float, float]]:
    """Parts of a bar of 100: kind, number, where it begins, how long it is; all can be seen."""
    order = ("completed", "recovered", "cached", "running", "retrying", "pending",
             "notready", "cancelled", "lost", "failed")  # fmt: skip
    present = [(name, by_kind[name]) for name in order if by_kind.get(name)]
    widths = [max(100 * number / count, 1.0) for _, number in present]
    scale = 100 / sum(widths) if widths else 1.0
    parts, begins = [], 0.0
    for (name, number), width in zip(present, widths, strict=True):
        parts.append((name, number, round(begins, 3), round(width * scale, 3)))
        begins += width * scale
    return parts


def _logs(
    store: ReportSource, flow_run_id: str, name_of: Any, workers: Sequence[str]
) -> dict[str, Any]:
    """The first warnings and errors, since they tell the cause, and the last lines of all."""
    label = {address: worker_label(place, address) for place, address in enumerate(workers)}
    lines = _count_of_logs(store, flow_run_id)
    last = store.logs(flow_run_id, after=max(lines - _LAST_LOGS, 0) - 1, limit=_LAST_LOGS)
    worst = store.logs(flow_run_id, level=30, limit=_WORST_LOGS + 1)

    def shown(row: LogRow) -> tuple[LogRow, str, str, str, str]:
        level = next(name for least, name in _LEVELS if row.level >= least)
        whose = "flow" if row.number is None else name_of(row.number)
        where = label.get(row.worker or "", "")
        return row, level, whose, where, clip_text(row.message, 2_000)

    return {
        "worst": [shown(row) for row in worst[:_WORST_LOGS]],
        "worst_more": len(worst) > _WORST_LOGS,
        "last": [shown(row) for row in last],
        "log_lines": lines,
    }


def _count_of_logs(store: ReportSource, flow_run_id: str) -> int:
    """Number of log lines, found by halving: a million lines are not read to show the last 200."""

    def lines_follow(sequence: int) -> bool:
        return bool(store.logs(flow_run_id, after=sequence, limit=1))

    if not lines_follow(-1):
        return 0
    low, high = -1, 1_000  # a line follows `low`; none shall follow `high`
    while lines_follow(high):
        low, high = high, high * 4
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if lines_follow(middle) else (low, middle)
    return high + 1
