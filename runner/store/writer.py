"""The writing side of the run record, as the engine calls it.

Each call costs one append to a queue; nothing here waits for a disk or raises for one.  All
writers of one process on one store share one thread, which ends with the last of them.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from daskflow.runner.core.leases import Lease
from daskflow.runner.store.address import sqlite_path
from daskflow.runner.store.batch import Change
from daskflow.runner.store.claims import KeyClaims
from daskflow.runner.store.leases import Keeper, RunLeases
from daskflow.runner.store.outlet import Outlet
from daskflow.runner.store.recorder import Recorder
from daskflow.runner.store.rows import (
    EventRow,
    FlowRunRow,
    LogRow,
    TaskRow,
    TaskRunRow,
    TransitionRow,
)
from daskflow.runner.store.sqlite import SqliteWriter

__all__ = ["Writer", "open_writer"]

_EXIT_TIMEOUT_S = 30.0


class Writer:
    """Takes rows of the record from the engine; rows handed over must not be changed after.

    A row may be any sequence in the column order of its row type.  What comes after `close`
    is ignored, and so is what comes after the lease was lost.
    """

    def __init__(
        self,
        recorder: Recorder,
        path: Path,
        lease: Lease | None = None,
        keeper: Keeper | None = None,
    ) -> None:
        self._recorder: Recorder | None = recorder
        self._path = path
        self.lease = lease
        self._keeper = keeper
        self._put: Callable[[Change], object] = recorder.put

    def claims(self) -> KeyClaims:
        """Open claims on cache keys for one driver that works under the lease."""
        assert self.lease is not None
        return KeyClaims(f"sqlite:///{self._path}", self.lease.flow_run_id)

    def flow_run(self, row: FlowRunRow) -> None:
        """Write the flow run's row; the last one wins."""
        self._put(("flow_run", row[0], (row,), self.lease))

    def tasks(self, flow_run_id: str, rows: Sequence[TaskRow | tuple[Any, ...]]) -> None:
        """Write task definitions; the last one of a number wins."""
        self._put(("tasks", flow_run_id, rows, self.lease))

    def task_runs(self, flow_run_id: str, rows: Sequence[TaskRunRow | tuple[Any, ...]]) -> None:
        """Write whole task runs; the last one of a number wins."""
        self._put(("task_runs", flow_run_id, rows, self.lease))

    def transitions(
        self, flow_run_id: str, rows: Sequence[TransitionRow | tuple[Any, ...]]
    ) -> None:
        """Add transitions that the row of their run does not tell."""
        self._put(("transitions", flow_run_id, rows, self.lease))

    def logs(self, flow_run_id: str, rows: Sequence[LogRow | tuple[Any, ...]]) -> None:
        """Add log records; they are visible no later than any row handed over after them."""
        self._put(("logs", flow_run_id, rows, self.lease))

    def events(self, flow_run_id: str, rows: Sequence[EventRow | tuple[Any, ...]]) -> None:
        """Add events."""
        self._put(("events", flow_run_id, rows, self.lease))

    def flush(self, timeout_s: float = 30.0) -> bool:
        """Wait until everything handed over so far is committed or spooled.

        Returns False when that took longer than `timeout_s`, or when neither could be done.
        """
        return self._recorder is None or self._recorder.flush(timeout_s)

    def close(self, timeout_s: float = 30.0) -> bool:
        """Flush, and let the flow run of the lease go; may be called twice.

        The last writer of a store also ends its thread.
        """
        recorder, self._recorder = self._recorder, None
        self._put = _ignore
        safe = recorder is None or _threads.release(self._path, recorder, timeout_s)
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.close()
        return safe


def open_writer(url: str, lease: Lease | None = None) -> Writer:
    """Return a writer for the run store at `url`; file and schema are made by its thread.

    Parameters
    ----------
    url : str
    lease : Lease, optional
        Under which everything is written, and which is renewed until the writer is closed:
        ``Lease(flow_run_id)`` for a new flow run, else the one that `RunLeases.take` returned.
        Once it is lost, nothing more gets into the record.

    Raises `UsageError` for a malformed URL and nothing else: a store that cannot be opened is
    warned about once, and its record is spooled.
    """
    path = sqlite_path(url)
    keeper = None if lease is None else Keeper(RunLeases(url), lease)
    return Writer(_threads.acquire(path), path, lease, keeper)


class _Threads:
    """The recorders of this process, one a store, and how many writers use each."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._recorders: dict[Path, tuple[Recorder, int]] = {}

    def acquire(self, path: Path) -> Recorder:
        with self._lock:
            found, users = self._recorders.get(path, (None, 0))
            recorder = found or Recorder(Outlet(SqliteWriter(path)), f"daskflow-record-{path.name}")
            self._recorders[path] = recorder, users + 1
            return recorder

    def release(self, path: Path, recorder: Recorder, timeout_s: float) -> bool:
        with self._lock:
            found, users = self._recorders.get(path, (None, 0))
            if found is not recorder:
                return True  # a forked child, or the interpreter ends: not ours to stop
            if users > 1:
                self._recorders[path] = recorder, users - 1
            else:
                del self._recorders[path]
        return recorder.flush(timeout_s) if users > 1 else recorder.stop(timeout_s)

    def stop_all(self) -> None:
        with self._lock:
            recorders = [recorder for recorder, _ in self._recorders.values()]
            self._recorders.clear()
        for recorder in recorders:
            recorder.stop(_EXIT_TIMEOUT_S)

    def forget_all(self) -> None:
        """Start anew in a forked child, which has none of its parent's threads."""
        self.__init__()  # type: ignore[misc]


def _ignore(change: object) -> None:
    """Take the place of a closed writer's queue."""


_threads = _Threads()
atexit.register(_threads.stop_all)
os.register_at_fork(after_in_child=_threads.forget_all)
