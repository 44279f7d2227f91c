"""A flow that is called in a task of another flow, and what the record says of both."""

from __future__ import annotations

import pytest

from daskflow import DaskTaskRunner, flow, task
from daskflow.runner.store import open_store

__all__ = [
    "LOCAL",
    "ONE_SLOT",
    "PROCESSES",
    "calls",
    "double",
    "doubles",
    "fails",
    "recorded",
    "run_in_task",
]

ONE_SLOT = DaskTaskRunner(cluster_kwargs={"n_workers": 1, "threads_per_worker": 1})
LOCAL = pytest.mark.parametrize("where", ["processes", "threads"], indirect=True)
PROCESSES = pytest.mark.parametrize("where", ["processes"], indirect=True)


@task
def double(x):
    return 2 * x


@task
def fails(text="unseen"):
    raise ValueError(text)


@flow(flow_run_name="doubles-{n}")
def doubles(n: int) -> int:
    return sum(double.map(range(n)).result())


@task
def calls(subflow, *args, **kwargs):
    return subflow(*args, **kwargs)


def run_in_task(where, subflow, *args, **kwargs):
    """Call `subflow` in a task of a flow on `where`; returns what it returns."""

    @flow(task_runner=where, name="around")
    def around():
        return calls.submit(subflow, *args, **kwargs).result(timeout=60)

    return around()


def recorded(home, flow_name):
    """The only run of this flow, its task runs by name, and the run around it."""
    with open_store(f"sqlite:///{home}/runs.db") as store:
        rows = {row.flow_name: row for row in store.flow_runs()}
        row = rows[flow_name]
        tasks = {each.task_number: each.name for each in store.tasks(row.flow_run_id)}
        runs = [
            (each.name or f"{tasks[each.task_number]}-{each.index}", each.state)
            for each in store.task_runs(row.flow_run_id)
        ]
        return row, sorted(runs), rows["around"]
