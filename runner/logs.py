"""Log lines of runs on the terminal of the flow process.

While a flow runs, its own records and those that come from workers are shown: by the user's own
handlers when `logging` was configured, otherwise one plain line each on stderr.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Iterator

from daskflow.runner.cluster.executor.capture import (
    REPLAYED,
    RunLogHandler,
    install_capture,
    remove_capture,
)
from daskflow.runner.context import LogLine, current_flow_run, current_task_run

__all__ = ["run_logging", "show"]

_lock = threading.Lock()
_users = 0
_console: logging.Handler | None = None
_LABEL = "daskflow_label"


class _ConsoleHandler(logging.Handler):
    """One line per record of a run: time, level, name of the run, message."""

    def emit(self, record: logging.LogRecord) -> None:
        label = getattr(record, _LABEL, None)
        if label is None:
            task, flow = current_task_run.get(), current_flow_run.get()
            if task is None and flow is None:
                self._outside(record)
                return
            label = task.name if task else flow.info.name if flow else record.name
        try:
            at = time.strftime("%H:%M:%S", time.localtime(record.created))
            level, message = record.levelname, record.getMessage()
            line = f"{at}.{int(record.msecs):03d} | {level:<7} | {label} - {message}\n"
            if record.exc_info:
                line += logging.Formatter().formatException(record.exc_info) + "\n"
            sys.stderr.write(line)
        except Exception:
            self.handleError(record)

    def _outside(self, record: logging.LogRecord) -> None:
        """What no run made: as without us, warnings only; Dask has handlers of its own."""
        last = logging.lastResort
        if last and record.levelno >= last.level and not record.name.startswith("distributed"):
            last.handle(record)


@contextlib.contextmanager
def run_logging(level: int, console: bool) -> Iterator[None]:
    """Capture and show log lines while flows run; nested and parallel flows share it.

    Parameters
    ----------
    level : int
        Lowest level of the run loggers.
    console : bool
        Show lines on stderr when the user has no handlers of their own.
    """
    global _users, _console
    with _lock:
        _users += 1
        if _users == 1:
            root = logging.getLogger()
            if console and not _own_handlers(root):
                _console = _ConsoleHandler()
                root.addHandler(_console)
            install_capture(level)
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                remove_capture()
                if _console is not None:
                    logging.getLogger().removeHandler(_console)
                    _console = None


def _own_handlers(root: logging.Logger) -> bool:
    return any(not isinstance(handler, RunLogHandler) for handler in root.handlers)


def show(line: LogLine, label: str) -> None:
    """Show a line that came from a worker, as if it had been logged here."""
    if _users == 0:
        return
    logger = logging.getLogger(line.logger)
    record = logger.makeRecord(
        line.logger,
        line.level,
        "",
        0,
        line.message,
        (),
        None,
        extra={REPLAYED: True, _LABEL: label},
    )
    record.created = line.at
    record.msecs = (line.at - int(line.at)) * 1000
    logger.handle(record)
