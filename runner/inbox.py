"""The side of the driver's thread that other threads see: what they append, and how they wake it.

User threads and Dask's threads only append to queues, so nothing on the path of a task run takes a
lock; the thread itself stands in `driving`.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Any

from daskflow.errors import UsageError
from daskflow.runner.core.graph import Run, Scope

__all__ = ["Inbox"]


class Inbox(ABC):
    """Queues of a thread that starts when it is first needed."""

    def __init__(self) -> None:
        self._submitted: deque[Run] = deque()
        self._events: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._wake = threading.Event()
        self._urgent = threading.Event()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._closing = False
        self._wanted = False  # a session, though no run needs one yet
        self._writing = False  # something may have ended that is not told yet

    def post(self, call: Callable[..., None], *args: Any) -> None:
        """Have `call` made in this thread, soon."""
        self._events.append((call, args))
        self.hurry()

    def hurry(self) -> None:
        """Somebody waits: do not linger for more submissions."""
        self._urgent.set()
        self._wake.set()

    def pending(self, scope: Scope) -> int:
        """Runs of `scope` that are not final, about."""
        return scope.open + len(self._submitted)

    def settled(self, scope: Scope) -> bool:
        """Whether every run of `scope` that was submitted is final, and its end on record."""
        return scope.open == 0 and not self._submitted and not self._writing

    @property
    def closed(self) -> bool:
        """Whether the flow run has ended, and its cluster with it."""
        return self._closing

    def is_current(self) -> bool:
        """Whether this is the calling thread."""
        return threading.current_thread() is self._thread

    def cancel(self, scope: Scope, grace_s: float | None = None) -> None:
        """Start nothing of `scope` any more; what executes is given up after `grace_s` seconds.

        Its process ends with it.  For ``math.inf`` it does once nothing else runs there; without
        `grace_s`, what executes may go on to its end.
        """
        if self._thread is not None:
            self.post(self._cancel, scope, grace_s)

    def want_session(self) -> None:
        """Open the session now, if no run has opened it."""
        self._wanted = True
        self.start()
        self.hurry()

    def close(self) -> None:
        """End the driver and the session; whatever is open then is cancelled."""
        with self._starting:
            self._closing = True
            thread = self._thread
        if thread is None:
            return
        self.hurry()
        while thread.is_alive():  # join with a bound: an interrupt must get through
            thread.join(0.5)

    def start(self) -> None:  # idempotent; the thread opens the session
        with self._starting:
            if self._closing:
                raise UsageError("this flow run has ended; submit tasks while it runs")
            if self._thread is None:
                thread = threading.Thread(target=self._main, name="daskflow-driver", daemon=True)
                self._thread = thread
                thread.start()

    @abstractmethod
    def _main(self) -> None:
        """What the thread does."""

    @abstractmethod
    def _cancel(self, scope: Scope, grace_s: float | None) -> None:
        """Cancel `scope`, in the thread."""
