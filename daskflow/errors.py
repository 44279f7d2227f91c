"""Every error that daskflow raises on purpose.

    DaskflowError
    ├── UsageError              the caller's mistake; never retried
    │   ├── ParameterError      flow parameters that do not validate, all of them at once
    │   ├── Uncacheable         a value that has no content hash
    │   └── RunHeld             a flow run that another process executes
    ├── RunTaken                another process has taken this flow run over
    ├── NotFoundError           no run, flow or file of that name
    ├── TaskError               a task run ended badly; `.task_run_id` says which
    │   ├── TaskFailed          its code raised something that could not travel as it was
    │   ├── TaskCrashed         its worker was lost once too often
    │   ├── TaskTimedOut        it ran longer than its `timeout_seconds`
    │   ├── TaskCancelled       it was cancelled before it finished
    │   └── UpstreamFailed      it never ran, because a task run that it needs ended badly
    ├── FlowFailed              the flow left failed task runs behind that nobody looked at
    │   └── TooManyFailed       more runs of a map failed than its `tolerate` allows
    ├── FlowCancelled           another process has cancelled the flow run
    ├── ClusterError            the Dask cluster could not be reached, started or used
    ├── StoreError              the run store or result store could not answer
    │   ├── StoreVersionError   the store was written by a newer daskflow
    │   ├── PickleRefused       only pickle could hold this result, and pickle is not allowed
    │   └── ResultGone          a stored result is missing, damaged or of a changed class
    └── InvalidTransition       a defect in daskflow: a state got an event it cannot take

A task's own exception is raised by `TaskFuture.result` as the user wrote it, not wrapped.
Every class pickles by its positional arguments; `tests/unit/test_errors.py` holds that.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "ClusterError",
    "DaskflowError",
    "FlowCancelled",
    "FlowFailed",
    "InvalidTransition",
    "NotFoundError",
    "ParameterError",
    "PickleRefused",
    "ResultGone",
    "RunHeld",
    "RunTaken",
    "StoreError",
    "StoreVersionError",
    "TaskCancelled",
    "TaskCrashed",
    "TaskError",
    "TaskFailed",
    "TaskTimedOut",
    "TooManyFailed",
    "Uncacheable",
    "UpstreamFailed",
    "UsageError",
]


class DaskflowError(Exception):
    """Base of every error that daskflow raises on purpose."""


class UsageError(DaskflowError):
    """The caller asked for something that cannot be; the message says what to do instead."""


class ParameterError(UsageError):
    """Flow parameters that do not fit the flow's signature or annotations."""


class Uncacheable(UsageError):
    """A value that has no content hash; the message names its path inside the argument."""


class RunHeld(UsageError):
    """The flow run is executed by a process that lives; the message names it."""


class RunTaken(DaskflowError):
    """Another process has taken this flow run over: this one stops, and records nothing more."""


class NotFoundError(DaskflowError):
    """Nothing of that name or id exists; the message lists the nearest ones."""


class TaskError(DaskflowError):
    """A task run ended badly.

    Attributes
    ----------
    task_run_id : str
        The run that ended badly.
    message : str
        What happened and what to do, without the id.
    """

    def __init__(self, task_run_id: str, message: str) -> None:
        super().__init__(task_run_id, message)  # positional: this is what pickle replays
        self.task_run_id, self.message = task_run_id, message

    def __str__(self) -> str:
        return f"{self.message} (task run {self.task_run_id})"


class TaskFailed(TaskError):
    """The task's code raised an exception that could not travel to the flow process as it was."""


class TaskCrashed(TaskError):
    """The worker that executed the task run was lost more often than `crash_retries` allows."""


class TaskTimedOut(TaskError):
    """The task run took longer than its `timeout_seconds`."""


class TaskCancelled(TaskError):
    """The task run was cancelled before it finished."""


class UpstreamFailed(TaskError):
    """The task run never ran, because one that it depends on ended badly."""


class FlowFailed(DaskflowError):
    """The flow function returned, but left failed task runs behind that nobody looked at.

    Attributes
    ----------
    flow_run_id : str
        The flow run.
    message : str
        Which task runs failed and with what.
    task_run_ids : tuple of str
        The task runs that failed, all of them.
    """

    def __init__(self, flow_run_id: str, message: str, task_run_ids: Sequence[str] = ()) -> None:
        super().__init__(flow_run_id, message, tuple(task_run_ids))
        self.flow_run_id, self.message = flow_run_id, message
        self.task_run_ids = tuple(task_run_ids)

    def __str__(self) -> str:
        return f"{self.message} (flow run {self.flow_run_id})"


class TooManyFailed(FlowFailed):
    """More runs of a map failed than its `tolerate` allows; the message groups them."""


class FlowCancelled(DaskflowError):
    """The flow run was cancelled from another process, as by `daskflow runs cancel`.

    Attributes
    ----------
    flow_run_id : str
        The flow run.
    message : str
        Who cancelled it.
    """

    def __init__(self, flow_run_id: str, message: str) -> None:
        super().__init__(flow_run_id, message)
        self.flow_run_id, self.message = flow_run_id, message

    def __str__(self) -> str:
        return f"{self.message} (flow run {self.flow_run_id})"


class ClusterError(DaskflowError):
    """The Dask cluster could not be reached, started or used."""


class StoreError(DaskflowError):
    """The run store or the result store could not answer."""


class StoreVersionError(StoreError):
    """The store was written by a newer daskflow than this one."""


class PickleRefused(StoreError):
    """Only pickle can hold this result, and `allow_pickle` is false; the message names its type."""


class ResultGone(StoreError):
    """A stored result cannot be had any more: missing, damaged, or of a class that has changed."""


class InvalidTransition(DaskflowError):
    """A state machine of daskflow got an event that its state cannot take; this is a defect."""
