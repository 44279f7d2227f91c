"""The event loop of a session: a thread of its own, quiet on the terminal, gone at the end.

distributed would start such a thread itself, but then a client that fails to connect leaves it
behind for ever, and there is no telling whose log lines are whose.  Scheduler, nannies and
client of a session all log from this thread, which is what the filter below goes by: it
silences one session, not Dask.
"""

from __future__ import annotations

import asyncio
import logging
import threading

from distributed.comm.core import CommClosedError
from distributed.compatibility import asyncio_run
from distributed.config import get_loop_factory
from tornado.ioloop import IOLoop

__all__ = ["LoopThread", "quiet_about_lost_connections"]

_DASK_LOGGERS = ("distributed", "distributed.client", "distributed.gc", "tornado", "bokeh")
# A lost worker is in the record and in the flow's own log, with what was lost.
_TOLD_BY_DASKFLOW = "Task %s marked as failed because"


class LoopThread:
    """A running event loop in a daemon thread.

    Attributes
    ----------
    loop : IOLoop
        The loop, for `distributed` objects.
    closing : bool
        Set when the session ends: from then on nothing that Dask says is news.
    """

    def __init__(self) -> None:
        self.closing = False
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="daskflow Dask loop", daemon=True)
        self._thread.start()
        self._started.wait()
        self._quiet = _Quiet(self)
        self._silenced: list[logging.Filterer] = [logging.getLogger("asyncio")]
        for name in _DASK_LOGGERS:
            self._silenced += [
                handler
                for handler in logging.getLogger(name).handlers
                if isinstance(handler, logging.StreamHandler)
            ]
        for place in self._silenced:
            place.addFilter(self._quiet)

    @property
    def ident(self) -> int | None:
        return self._thread.ident

    def stop(self, timeout_s: float = 10.0) -> None:
        """Stop the loop, cancel what still runs on it and end the thread."""
        if self._thread.is_alive():
            self.loop.asyncio_loop.call_soon_threadsafe(self._stop.set)  # type: ignore[attr-defined]
            self._thread.join(timeout_s)
        for place in self._silenced:
            place.removeFilter(self._quiet)

    def _run(self) -> None:
        async def main() -> None:
            self.loop = IOLoop.current()
            self._stop = asyncio.Event()
            self._started.set()
            await self._stop.wait()

        asyncio_run(main(), loop_factory=get_loop_factory())


class _Quiet(logging.Filter):
    """Keep what a session's own servers say below ERROR, and at its end all, off the terminal."""

    def __init__(self, thread: LoopThread) -> None:
        super().__init__()
        self._of = thread

    def filter(self, record: logging.LogRecord) -> bool:
        if record.thread != self._of.ident:
            return True
        if self._of.closing or record.levelno < logging.ERROR:
            return False
        return not str(record.msg).startswith(_TOLD_BY_DASKFLOW) and _is_news(record)


def _is_news(record: logging.LogRecord) -> bool:
    """Whether what Dask says is more than that the other end of a connection is gone.

    The loss of a worker reaches whoever asks it for data or waits for its heartbeat as a
    traceback; what it means for task runs is the driver's to tell.
    """
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, (CommClosedError, ConnectionError))


def quiet_about_lost_connections() -> None:
    """Keep tracebacks of closed connections off the terminal of this worker process of ours."""
    for name in _DASK_LOGGERS:
        for handler in logging.getLogger(name).handlers:
            handler.addFilter(_is_news)
    logging.getLogger("asyncio").addFilter(_is_news)
