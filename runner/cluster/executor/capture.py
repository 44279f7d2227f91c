"""Log records and prints of a task run or flow run, found by context variable.

One handler on the root logger sees what any library logs inside a run; `print` is wrapped once a
process and looks at the current run.  Outside of a run both do nothing.  Flows with different log
levels share a process: the run loggers let the lowest one through, the handler asks each run.
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
_LONGEST = 100_000  # characters of one message
_RUN_LOGGERS = (TASK_LOGGER, FLOW_LOGGER)
_lock = threading.Lock()
_outer_levels: dict[str, int] = {}  # of the run loggers, while captured
_lowest: int | None = None  # level that is captured


class RunLogHandler(logging.Handler):
    """Hands records that are made inside a task run or a flow run to that run."""

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, REPLAYED, False) or not _wanted(record):
            return
        try:
            message = record.getMessage()
            if record.exc_info:
                message += "\n" + logging.Formatter().formatException(record.exc_info)
        except Exception:  # the caller's format string is wrong; logging's own way to say so
            self.handleError(record)
            return
        _hand_over(record.created, record.levelno, record.name, message)


def _wanted(record: logging.LogRecord) -> bool:
    """Whether a run is going on here that wants this record."""
    task, flow = current_task_run.get(), current_flow_run.get()
    info = task.flow if task is not None else flow.info if flow is not None else None
    if info is None or record.name not in _RUN_LOGGERS:
        return task is not None or flow is not None
    return record.levelno >= info.log_level


def _hand_over(at: float, level: int, logger: str, message: str) -> None:
    if len(message) > _LONGEST:
        left_out = len(message) - _LONGEST
        message = f"{message[:_LONGEST]} [… {left_out} characters left out]"
    # exactly int and str: a level of an enum, or a text of a class of its own, would need its
    # module wherever the line goes
    level, message = int(level), str.__str__(message)
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
        Lowest level of the run loggers that is captured, as in `logging`.  A later call may lower
        it: what a run does not want is left out by its own level.
    """
    global _lowest
    if _lowest is not None and _lowest <= level and _handler in logging.getLogger().handlers:
        return
    with _lock:
        for name in _RUN_LOGGERS:
            logger = logging.getLogger(name)
            _outer_levels.setdefault(name, logger.level)
            if _lowest is None or level < _lowest:
                logger.setLevel(level)
        _lowest = level if _lowest is None else min(level, _lowest)
        logging.getLogger().addHandler(_handler)  # once, however often it is added
        if not hasattr(builtins.print, "daskflow_plain"):
            builtins.print = _capturing(builtins.print)


def remove_capture() -> None:
    """Leave this process's logging and `print` as they were."""
    global _lowest
    with _lock:
        logging.getLogger().removeHandler(_handler)
        for name, level in _outer_levels.items():
            logging.getLogger(name).setLevel(level)
        _outer_levels.clear()
        _lowest = None
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
