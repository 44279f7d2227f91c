"""When the time of a flow run is over, its own or that of a flow run around it."""

from __future__ import annotations

import time

from daskflow.runner.cluster.executor.timeouts import RanOut
from daskflow.runner.context import current_flow_run, current_task_run

__all__ = ["Deadline", "flow_deadline"]


class Deadline:
    """A point in time that the flow function must not pass while it waits or submits.

    Parameters
    ----------
    limit_s : float
        Seconds from now.
    owner : object
        The flow run whose `timeout_seconds` this is.
    """

    __slots__ = ("due", "limit_s", "owner")

    def __init__(self, limit_s: float, owner: object) -> None:
        self.due = time.monotonic() + limit_s
        self.limit_s = limit_s
        self.owner = owner

    def left(self) -> float:
        """Seconds until then.

        Raises
        ------
        RanOut
            When it has passed.
        """
        left = self.due - time.monotonic()
        if left <= 0:
            raise RanOut(self.limit_s, self.owner)
        return left


def flow_deadline() -> Deadline | None:
    """The deadline of the flow function that calls this, if it has one."""
    flow_run = current_flow_run.get() if current_task_run.get() is None else None
    return flow_run.deadline if flow_run is not None else None
