"""The rows of one flow run as numpy columns: what every figure and every table starts from.

Pure: rows in, arrays out, `now` is an argument.  Times become seconds since the flow run began;
a time that the record does not have is NaN.  Rows keep their order, so `columns.number[i]`
belongs to `task_runs[i]`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from daskflow.dashboards.kinds import CODES, kind_of
from daskflow.runner.store.rows import FlowRunRow, TaskRow, TaskRunRow

__all__ = ["Floats", "Ints", "RunColumns", "columns", "run_began", "task_run_name"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

FLOW_PROCESS = "local"  # worker of the runs that were executed in the flow process


@dataclass(frozen=True)
class RunColumns:
    """Task runs of one flow run, one array a column, all of the same length.

    Attributes
    ----------
    task : Ints
        Position in `task_names`.
    kind : Ints
        Code of `kinds.KINDS`.
    worker : Ints
        Position in `workers`, -1 for a run that never started.
    start, end : Floats
        Seconds since the flow run began; `end` of a run under way is now.
    run_s : Floats
        Duration of the last attempt, NaN when unknown.
    """

    task_names: tuple[str, ...]
    workers: tuple[str, ...]
    number: Ints
    index: Ints
    task: Ints
    kind: Ints
    worker: Ints
    start: Floats
    end: Floats
    run_s: Floats
    attempt: Ints
    crashes: Ints
    result_bytes: Floats
    length_s: float

    def __len__(self) -> int:
        return len(self.number)


def run_began(flow_run: FlowRunRow) -> float:
    """Unix seconds that every figure counts from."""
    return flow_run.started_at if flow_run.started_at is not None else flow_run.created_at


def task_run_name(row: TaskRunRow, task_name: str) -> str:
    """What a person calls a task run: its own name, or ``<task>-<index>``."""
    return row.name if row.name is not None else f"{task_name}-{row.index}"


def columns(
    flow_run: FlowRunRow,
    tasks: Sequence[TaskRow],
    task_runs: Sequence[TaskRunRow],
    *,
    now: float,
) -> RunColumns:
    """Turn rows into columns.

    Parameters
    ----------
    flow_run : FlowRunRow
    tasks : sequence of TaskRow
    task_runs : sequence of TaskRunRow
    now : float
        Unix seconds; where a run that has not ended is drawn to.

    Returns
    -------
    RunColumns
    """
    began = run_began(flow_run)
    by_field = list(zip(*task_runs, strict=True)) or [()] * len(TaskRunRow._fields)
    field = dict(zip(TaskRunRow._fields, by_field, strict=True))
    start = _floats(field["started_at"]) - began
    end = _floats(field["ended_at"]) - began
    kind = _kinds(field["state"])
    attempt, crashes = _ints(field["attempt"]), _ints(field["crashes"])
    again = (kind == CODES["completed"]) & ((attempt > 1) | (crashes > 0))
    kind[again] = CODES["recovered"]
    end = np.where(np.isnan(end) & ~np.isnan(start), max(now - began, 0.0), end)
    end = np.fmax(end, start)
    # A driver's and a worker's clock may differ; a duration measured on the worker is right.
    run_s = _floats(field["run_s"])
    run_s = np.where(np.isnan(run_s), end - start, run_s)
    workers, worker = _workers(field["worker"], start)
    names, task = _task_positions(tasks, field["task_number"])
    ended = flow_run.ended_at if flow_run.ended_at is not None else now
    return RunColumns(
        task_names=names,
        workers=workers,
        number=_ints(field["number"]),
        index=_ints(field["index"]),
        task=task,
        kind=kind,
        worker=worker,
        start=start,
        end=end,
        run_s=run_s,
        attempt=attempt,
        crashes=crashes,
        result_bytes=_floats(field["result_bytes"]),
        length_s=max(0.0, ended - began, float(np.nanmax(end, initial=0.0))),
    )


def _floats(values: Sequence[Any]) -> Floats:
    return np.array(values, dtype=np.float64)  # None becomes NaN


def _ints(values: Sequence[Any]) -> Ints:
    return np.array(values, dtype=np.int64)


def _kinds(states: Sequence[str]) -> Ints:
    codes = {state: CODES[kind_of(state)] for state in set(states)}
    return _ints([codes[state] for state in states])


def _task_positions(
    tasks: Sequence[TaskRow], numbers: Sequence[int]
) -> tuple[tuple[str, ...], Ints]:
    """Names of the tasks in order of their number, and each run's place among them."""
    names = {row.task_number: row.name for row in tasks}
    for number in set(numbers) - names.keys():
        names[number] = f"task {number}"  # a record cut off before its tasks were written
    place = {number: position for position, number in enumerate(sorted(names))}
    return tuple(names[number] for number in sorted(names)), _ints([place[n] for n in numbers])


def _workers(addresses: Sequence[str | None], start: Floats) -> tuple[tuple[str, ...], Ints]:
    """Workers in the order in which they began to work, and each run's place among them."""
    first: dict[str, float] = {}
    owners: list[str | None] = []
    for address, at in zip(addresses, start.tolist(), strict=True):
        owner = None if at != at else (address or FLOW_PROCESS)  # NaN: it never started
        owners.append(owner)
        if owner is not None and at < first.get(owner, float("inf")):
            first[owner] = at
    order = sorted(first, key=lambda address: (address != FLOW_PROCESS, first[address], address))
    place: dict[str | None, int] = {address: position for position, address in enumerate(order)}
    return tuple(order), _ints([place.get(owner, -1) for owner in owners])
