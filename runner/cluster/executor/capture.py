"""Log records and prints of a task run or flow run, found by context variable.

One handler on the root logger sees what any library logs inside a run; `print` is wrapped once a
process and looks at the current run.  Outside of a run both do nothing.
"""

from __future__ import annotations

import builtins
import functools
import io
import logging
import sys
import threading
import time
from typing import Any

from daskflow.runner.context import (
    FLOW_LOGGER,
    TASK_LOGGER,
    LogLine,
    current_flow_run,
    current_task_run,
)

__all__ = ["REPLAYED", "RunLogHandler", "install_capture", "remove_capture"]

REPLAYED = "daskflow_replayed"  # marks a record that came from a worker and is shown again here
_lock = threading.Lock()


class RunLogHandler(logging.Handler):
    """Hands records that are made inside a task run or a flow run to that run."""

    def emit(self, record: logging.LogRecord) -> None:
        task, flow = current_task_run.get(), current_flow_run.get()
        if (task is None and flow is None) or getattr(record, REPLAYED, False):
            return
        try:
            message = record.getMessage()
            if record.exc_info:
                message += "\n" + logging.Formatter().formatException(record.exc_info)
        except Exception:  # the caller's format string is wrong; logging's own way to say so
            self.handleError(record)
            return
        _hand_over(record.created, record.levelno, record.name, message)


def _hand_over(at: float, level: int, logger: str, message: str) -> None:
    task = current_task_run.get()
    if task is not None:
        task.sink(LogLine(task.number, task.attempt, at, level, logger, message))
        return
    flow = current_flow_run.get()
    if flow is not None:
        flow.log(LogLine(None, flow.attempt, at, level, logger, message))


def install_capture(level: int) -> None:
    """Capture logs and prints of runs in this process from now on; a second call is free.

    Parameters
    ----------
    level : int
        Lowest level of the run loggers that is captured, as in `logging`.
    """
    if _handler in logging.getLogger().handlers:
        return
    with _lock:
        if _handler not in logging.getLogger().handlers:
            logging.getLogger().addHandler(_handler)
            for name in (TASK_LOGGER, FLOW_LOGGER):
                logging.getLogger(name).setLevel(level)
            if not hasattr(builtins.print, "daskflow_plain"):
                builtins.print = _capturing(builtins.print)


def remove_capture() -> None:
    """Leave this process's logging and `print` as they were."""
    with _lock:
        logging.getLogger().removeHandler(_handler)
        builtins.print = getattr(builtins.print, "daskflow_plain", builtins.print)


def _wants_prints() -> bool:
    task = current_task_run.get()
    if task is not None:
        return task.task.log_prints
    flow = current_flow_run.get()
    return flow is not None and flow.log_prints


def _capturing(plain: Any) -> Any:
    @functools.wraps(plain)
    def print_(*values: object, file: Any = None, **options: Any) -> None:
        if file not in (None, sys.stdout, sys.stderr) or not _wants_prints():
            plain(*values, file=file, **options)
            return
        text = io.StringIO()
        plain(*values, file=text, **{**options, "flush": False})
        _hand_over(time.time(), logging.INFO, "print", text.getvalue().removesuffix("\n"))

    print_.daskflow_plain = plain  # type: ignore[attr-defined]
    return print_


_handler = RunLogHandler()
