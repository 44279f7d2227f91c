"""`retry_condition_fn` of a task, as whoever decides on a retry asks it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from daskflow.errors import TaskTimedOut
from daskflow.runner.context import FLOW_LOGGER
from daskflow.runner.core.driver import describe
from daskflow.runner.core.graph import Run
from daskflow.runner.core.states import FAILED, TIMED_OUT
from daskflow.runner.hooks import AttemptInfo
from daskflow.runner.state import State

if TYPE_CHECKING:
    from daskflow.runner.tasks import Task

__all__ = ["retry_condition"]

_logger = logging.getLogger(FLOW_LOGGER)


def retry_condition(task: Task[Any, Any]) -> Callable[[Run, BaseException], bool] | None:
    """`retry_condition_fn` of a task, as the driver asks it; one that raises says no."""
    condition = task.retry_condition_fn
    if condition is None:
        return None

    def retry_if(run: Run, error: BaseException) -> bool:
        late = isinstance(error, TaskTimedOut) and error.task_run_id == run.task_run_id
        state = State(TIMED_OUT if late else FAILED, describe(error), error=error)
        attempt = AttemptInfo(run.task_run_id, run.label, run.attempt, state)
        try:
            return bool(condition(task, attempt, state))
        except Exception:
            _logger.exception("retry_condition_fn of %s raised; no retry", task.name)
            return False

    return retry_if
