"""`runtime.flow_run` and `runtime.task_run`: what the current code may ask about its run.

Every attribute is None outside of a run, so that a function under test needs no flow.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from daskflow.runner.context import current_flow_run, current_parcel, current_task_run
from daskflow.runner.travelling import TravelledParameters

__all__ = ["flow_run", "task_run"]


class _FlowRun:
    """The current flow run, as seen from flow code and from task code on any worker."""

    @property
    def id(self) -> str | None:
        """Id of the flow run."""
        task = current_task_run.get()
        if task is not None:
            return task.flow.id if task.flow else None
        flow = current_flow_run.get()
        return flow.info.id if flow else None

    @property
    def name(self) -> str | None:
        """Name of the flow run."""
        task = current_task_run.get()
        if task is not None:
            return task.flow.name if task.flow else None
        flow = current_flow_run.get()
        return flow.info.name if flow else None

    @property
    def flow_name(self) -> str | None:
        """Name of the flow."""
        task = current_task_run.get()
        if task is not None:
            return task.flow.flow_name if task.flow else None
        flow = current_flow_run.get()
        return flow.info.flow_name if flow else None

    @property
    def attempt(self) -> int | None:
        """1 for the first attempt of the flow."""
        flow, task = current_flow_run.get(), current_task_run.get()
        if flow is not None:
            return flow.attempt
        return task.flow.attempt if task and task.flow else None

    @property
    def tags(self) -> tuple[str, ...]:
        """Tags of the flow run, from ``with tags(...)`` around its call."""
        task = current_task_run.get()
        if task is not None:
            return task.flow.tags if task.flow else ()
        flow = current_flow_run.get()
        return flow.info.tags if flow else ()

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Parameters of the flow run.

        Raises
        ------
        UsageError
            On a worker, when they are too large to go along with every task, or do not pickle.
        """
        flow, task = current_flow_run.get(), current_task_run.get()
        if flow is not None:
            return dict(flow.parameters)
        travelled = task.flow.parameters if task and task.flow else b""
        return dict(TravelledParameters(travelled))


class _TaskRun:
    """The current task run."""

    @property
    def id(self) -> str | None:
        """Id of the task run."""
        task = current_task_run.get()
        return task.id if task else None

    @property
    def name(self) -> str | None:
        """Name of the task run, for example ``clean-3``."""
        task = current_task_run.get()
        return task.name if task else None

    @property
    def task_name(self) -> str | None:
        """Name of the task."""
        task = current_task_run.get()
        return task.task.name if task else None

    @property
    def attempt(self) -> int | None:
        """1 for the first attempt; lost workers count as attempts."""
        task = current_task_run.get()
        return task.attempt if task else None

    @property
    def tags(self) -> tuple[str, ...]:
        """Tags of the task, of its flow run, and of ``with tags(...)`` around the submission."""
        task = current_task_run.get()
        return task.task.tags if task else ()

    def cancelled(self) -> bool:
        """Whether nobody wants this task run any more, so that a long body may end early.

        Known to task runs on a cluster, about a second after their flow run was cancelled; not to
        bodies with a hard timeout.
        """
        task, handle = current_task_run.get(), current_parcel.get()
        parcel = handle() if handle is not None else None
        return task is not None and parcel is not None and task.number in parcel.cancelled

    @property
    def idempotency_key(self) -> str | None:
        """The same for every attempt of this task run: hand it to services outside."""
        return self.id


flow_run = _FlowRun()
task_run = _TaskRun()
