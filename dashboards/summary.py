"""Figures and tables of a run: totals, stages, slowest runs, workers, task runs per second.

Pure: everything is computed from `RunColumns`, in numpy, so 100,000 task runs take milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from daskflow.dashboards.data import Floats, RunColumns
from daskflow.dashboards.kinds import CODES, KINDS

__all__ = [
    "SlowRun",
    "StageLine",
    "Totals",
    "WorkerLine",
    "ended_per_second",
    "slowest",
    "stages",
    "totals",
    "worker_lines",
]

_DONE = tuple(CODES[name] for name in ("completed", "recovered", "cached"))
_FAILED = tuple(CODES[name] for name in ("failed", "lost"))


class Totals(NamedTuple):
    """The key figures of a run."""

    task_runs: int
    by_kind: dict[str, int]
    done: int
    failed: int
    retries: int
    crashes: int
    recovered: int
    busy_s: float


class StageLine(NamedTuple):
    """One task of the flow with all of its runs."""

    position: int
    name: str
    runs: int
    by_kind: dict[str, int]
    done: int
    failed: int
    retries: int
    p50_s: float
    p95_s: float
    total_s: float


class SlowRun(NamedTuple):
    """A task run that took long; `row` is its position in the columns."""

    row: int
    task: int
    kind: str
    run_s: float
    of_task_p50: float


class WorkerLine(NamedTuple):
    """One worker's share of the work."""

    address: str
    runs: int
    failed: int
    busy_s: float
    first_s: float
    last_s: float


def totals(columns: RunColumns) -> Totals:
    """Add up a whole run."""
    count = np.bincount(columns.kind, minlength=len(KINDS))
    by_kind = {kind.name: int(count[code]) for code, kind in enumerate(KINDS) if count[code]}
    return Totals(
        task_runs=len(columns),
        by_kind=by_kind,
        done=int(count[list(_DONE)].sum()),
        failed=int(count[list(_FAILED)].sum()),
        retries=int(np.maximum(columns.attempt - 1, 0).sum()),
        crashes=int(columns.crashes.sum()),
        recovered=int(count[CODES["recovered"]]),
        busy_s=float(np.nansum(columns.run_s)),
    )


def stages(columns: RunColumns) -> list[StageLine]:
    """One line a task, in the order in which the flow first used them."""
    order = np.argsort(columns.task, kind="stable")
    bounds = np.searchsorted(columns.task[order], np.arange(len(columns.task_names) + 1))
    lines = []
    for position, name in enumerate(columns.task_names):
        rows = order[bounds[position] : bounds[position + 1]]
        kind = columns.kind[rows]
        count = np.bincount(kind, minlength=len(KINDS))
        took = columns.run_s[rows]
        took = took[np.isin(kind, _DONE) & ~np.isnan(took)]
        p50, p95 = np.percentile(took, [50, 95]).tolist() if len(took) else (np.nan, np.nan)
        lines.append(
            StageLine(
                position=position,
                name=name,
                runs=len(rows),
                by_kind={k.name: int(count[c]) for c, k in enumerate(KINDS) if count[c]},
                done=int(count[list(_DONE)].sum()),
                failed=int(count[list(_FAILED)].sum()),
                retries=int(np.maximum(columns.attempt[rows] - 1, 0).sum()),
                p50_s=p50,
                p95_s=p95,
                total_s=float(np.nansum(columns.run_s[rows])),
            )
        )
    return lines


def slowest(columns: RunColumns, of_stages: Sequence[StageLine], limit: int = 10) -> list[SlowRun]:
    """The task runs whose last attempt took longest, the longest first."""
    took = np.nan_to_num(columns.run_s, nan=-1.0)
    top = np.argsort(-took, kind="stable")[:limit]
    return [
        SlowRun(
            row=row,
            task=int(columns.task[row]),
            kind=KINDS[int(columns.kind[row])].name,
            run_s=float(took[row]),
            of_task_p50=_ratio(float(took[row]), of_stages[int(columns.task[row])].p50_s),
        )
        for row in top.tolist()
        if took[row] >= 0
    ]


def worker_lines(columns: RunColumns) -> list[WorkerLine]:
    """One line a worker, in the order in which they began to work."""
    at = np.flatnonzero(columns.worker >= 0)
    worker = columns.worker[at]
    workers = len(columns.workers)
    count = np.bincount(worker, minlength=workers)
    failed = np.bincount(worker, np.isin(columns.kind[at], _FAILED), minlength=workers)
    busy = np.bincount(worker, np.nan_to_num(columns.run_s[at]), minlength=workers)
    first, last = np.full(workers, np.inf), np.zeros(workers)
    np.minimum.at(first, worker, columns.start[at])
    np.maximum.at(last, worker, columns.end[at])
    return [
        WorkerLine(address, int(c), int(f), float(b), float(x), float(y))
        for address, c, f, b, x, y in zip(
            columns.workers, count, failed, busy, first, last, strict=True
        )
    ]


def ended_per_second(columns: RunColumns, bins: int = 200) -> tuple[Floats, Floats]:
    """Middle of each stretch of time, and task runs that ended in it per second."""
    length_s = max(columns.length_s, 1e-9)
    ended = columns.end[~np.isnan(columns.end) & (columns.kind != CODES["running"])]
    count, edges = np.histogram(ended, bins=bins, range=(0.0, length_s))
    return (edges[:-1] + edges[1:]) / 2, count / (length_s / bins)


def _ratio(value: float, reference: float) -> float:
    return value / reference if reference > 0 else float("nan")
