"""The writer thread: takes changes from a queue and hands them to the outlet in batches.

The first change wakes the thread, which then lingers, so that whatever follows costs its caller
one append and no wake-up.  A flush is a mark in the queue: all that was handed over before it
has been written when the mark is reached.
"""

from __future__ import annotations

import logging
import threading
from queue import Empty, SimpleQueue

from daskflow.runner.store.batch import Change
from daskflow.runner.store.outlet import BATCH_ROWS, Outlet

__all__ = ["Recorder"]

_log = logging.getLogger(__name__)

_LINGER_S = 0.05


class _Mark:
    """A place in the queue that somebody waits for."""

    def __init__(self, *, last: bool) -> None:
        self.last = last
        self.reached = threading.Event()
        self.safe = False


class Recorder:
    """One daemon thread that writes one store."""

    def __init__(self, outlet: Outlet, name: str) -> None:
        self._outlet = outlet
        self._queue: SimpleQueue[Change | _Mark] = SimpleQueue()
        self._hurry = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.put = self._queue.put  # bound once: this is the hot path's only call
        self._thread.start()

    def flush(self, timeout_s: float, *, last: bool = False) -> bool:
        """Wait until all that was put before is safe; False when that took too long or failed."""
        if not self._thread.is_alive():  # stopped before, or a forked child without its thread
            return False
        mark = _Mark(last=last)
        self._queue.put(mark)
        self._hurry.set()
        return mark.reached.wait(timeout_s) and mark.safe

    def stop(self, timeout_s: float) -> bool:
        """Flush, close the store and end the thread."""
        safe = self.flush(timeout_s, last=True)
        if safe:
            self._thread.join(timeout_s)
        return safe

    def _run(self) -> None:
        linger = True
        while True:
            changes, mark, linger = self._gather(linger)
            safe = self._write(changes)
            if mark is None:
                continue
            if mark.last:
                safe = self._outlet.finish() and safe
            mark.safe = safe
            mark.reached.set()
            if mark.last:
                return

    def _write(self, changes: list[Change]) -> bool:
        try:
            return self._outlet.put(changes)
        except Exception:  # a defect of ours must not end the record of a flow that goes on
            _log.exception("%d changes of the run record were lost", len(changes))
            return False

    def _gather(self, linger: bool) -> tuple[list[Change], _Mark | None, bool]:
        """Return the next changes, the mark they end at, and whether the queue was emptied."""
        item = self._queue.get()
        if linger and not isinstance(item, _Mark):
            self._hurry.wait(_LINGER_S)
        changes: list[Change] = []
        rows = 0
        while not isinstance(item, _Mark):
            changes.append(item)
            rows += len(item[2])
            if rows >= BATCH_ROWS:
                return changes, None, False
            try:
                item = self._queue.get_nowait()
            except Empty:
                return changes, None, True
        self._hurry.clear()
        return changes, item, True
