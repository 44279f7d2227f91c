"""`max_in_flight`: hand task runs on only as earlier ones end, without anybody waiting.

The end of a run submits the next one, in the thread that tells of it, so a map returns at once and
no event loop is ever held up.  Invariant: a run is handed on once, in order.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from daskflow.runner.core.graph import Run

__all__ = ["Announcer", "Pace"]


class Announcer:
    """Hands task runs on at once, and has the end of each told: `watch` without its lock.

    Parameters
    ----------
    tell : callable
        Called with each run that has ended, in the thread that ends it.
    submit : callable
        Takes a run over; from any thread.

    Attributes
    ----------
    last : Run or None
        The last one that went this way.
    """

    __slots__ = ("_callbacks", "_submit", "last")

    def __init__(self, tell: Callable[[Run], object], submit: Callable[[Run], object]) -> None:
        self._callbacks = [tell]  # shared: whoever adds to it makes a new list
        self._submit = submit
        self.last: Run | None = None

    def submit(self, run: Run) -> None:
        """Hand `run` on."""
        run.callbacks = self._callbacks  # nobody else knows the run yet
        self.last = run
        self._submit(run)


class Pace:
    """Lets so many runs be submitted and not final at a time.

    Parameters
    ----------
    limit : int
    submit : callable
        Takes a run over; from any thread.
    """

    def __init__(self, limit: int, submit: Callable[[Run], object]) -> None:
        self._limit = limit
        self._submit = submit
        self._in_flight = 0
        self._held: deque[Run] = deque()
        self._lock = threading.Lock()

    def submit(self, run: Run) -> None:
        """Hand `run` on, now or as soon as there is room."""
        run.callbacks = [*(run.callbacks or ()), self._ended]
        with self._lock:
            if self._in_flight >= self._limit:
                self._held.append(run)
                return
            self._in_flight += 1
        self._submit(run)

    def _ended(self, _: Run) -> None:
        with self._lock:
            self._in_flight -= 1
            if not self._held or self._in_flight >= self._limit:
                return
            self._in_flight += 1
            run = self._held.popleft()
        self._submit(run)

    @property
    def last_held(self) -> Run | None:
        """The last of the runs that still wait to be handed on."""
        with self._lock:
            return self._held[-1] if self._held else None

    def drop(self) -> None:
        """Hold nothing back any more: its flow run was cancelled, and so is what comes."""
        with self._lock:
            held, self._held = self._held, deque()
            self._in_flight += len(held)
        for run in held:
            self._submit(run)
