"""SIGTERM ends a flow as Ctrl-C does: its running task runs get their grace, its cluster goes too.

By default the process would just be gone, and its record would say Running until somebody looks.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["terminated_as_interrupted"]


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM do what SIGINT does; where nobody else has taken it, in the main thread."""
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _as_interrupt)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is _as_interrupt:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _as_interrupt(signum: int, frame: FrameType | None) -> None:
    interrupt = signal.getsignal(signal.SIGINT)  # asyncio has one of its own while it runs
    if callable(interrupt):
        interrupt(signum, frame)
    else:
        raise KeyboardInterrupt
