"""Where changes go: into the store, or into the spool for as long as the store refuses them.

Once something is spooled, everything is, until the spool has been read back: the order of a
run's log is the order of its arrival.  A store that failed is tried again after a pause that
doubles, so a broken one costs the flow nothing.  Only the writer thread comes here; no method
raises for what goes wrong outside this process.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from daskflow.errors import StoreError
from daskflow.runner.core.leases import Lease
from daskflow.runner.store.batch import Batch, Change, lease_of, row_count
from daskflow.runner.store.spool import Spool, claim_spool, keep_late, read_spool, spool_files

__all__ = ["BATCH_ROWS", "Outlet", "read_back"]

_log = logging.getLogger(__name__)

BATCH_ROWS = 10_000  # a transaction of at most a tenth of a second: other processes wait for it
PATIENCE_S = 10.0  # for the lock of a healthy store
_PATIENCE_WHEN_BROKEN_S = 0.5
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 30.0
_HELD_ROWS = 200_000  # in memory, when neither store nor spool can be written


class Sink(Protocol):
    """A database that takes batches; `StoreError` when it cannot."""

    path: Path

    def commit(self, batch: Batch, *, patience_s: float) -> None: ...
    def spool_bytes_read(self, name: str, *, patience_s: float) -> int: ...
    def commit_spooled(self, batch: Batch, name: str, end: int, *, patience_s: float) -> None: ...
    def forget_spool(self, name: str, *, patience_s: float) -> None: ...
    def close(self) -> None: ...


class Outlet:
    """Takes changes from the writer thread and never loses them silently."""

    def __init__(self, sink: Sink, clock: Callable[[], float] = time.monotonic) -> None:
        self._sink = sink
        self._clock = clock
        self._spool = Spool(sink.path)
        self._held: list[Change] = []
        self._broken = False
        self._problem = ""
        self._lost = 0  # rows
        self._warned = False
        self._looked_for_others = False
        self._retry_at = 0.0
        self._pause_s = _FIRST_PAUSE_S

    def put(self, changes: Sequence[Change]) -> bool:
        """Write `changes`; return whether they are safe, in the store or in the spool."""
        if not self._broken or self._clock() >= self._retry_at:
            try:
                self._write(changes)
                return True
            except StoreError as error:
                self._broke(error)
        return self._set_aside(changes)

    def finish(self) -> bool:
        """Try once more to empty the spool, then close everything."""
        if self._broken:
            self._retry_at = 0.0
            self.put(())
        self._lost += row_count(self._held)
        if self._lost:
            _log.error("%d rows of the run record were lost: %s", self._lost, self._problem)
        self._sink.close()
        self._spool.close()
        return not self._lost

    def _write(self, changes: Sequence[Change]) -> None:
        patience_s = _PATIENCE_WHEN_BROKEN_S if self._broken else PATIENCE_S
        if not self._looked_for_others:
            read_back(self._sink, patience_s=patience_s)
            self._looked_for_others = True
        if (spool := self._spool.path) is not None:
            try:
                late = _read_file_back(self._sink, spool, patience_s)
                self._spool.keep_late() if late else self._spool.remove()
                self._sink.forget_spool(spool.name, patience_s=patience_s)
            except OSError as error:
                raise StoreError(f"the spool could not be read back: {error}") from error
        if self._held or changes:
            self._sink.commit(Batch([*self._held, *changes]), patience_s=patience_s)
            self._held.clear()
        if self._broken:
            self._broken, self._pause_s = False, _FIRST_PAUSE_S
            _log.info("the run record is written to %s again", self._sink.path)

    def _broke(self, error: StoreError) -> None:
        self._broken = True
        self._retry_at = self._clock() + self._pause_s
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        self._problem = str(error)

    def _set_aside(self, changes: Sequence[Change]) -> bool:
        self._held.extend(changes)
        if not self._held:
            return True
        try:
            self._spool.append(self._held)
        except OSError as error:
            self._warn("in memory", f"{self._problem}; its spool: {error}")
            while row_count(self._held) > _HELD_ROWS:
                self._lost += len(self._held.pop(0)[2])
            return False
        self._held.clear()
        self._warn(f"in {self._spool.path}", self._problem)
        return True

    def _warn(self, place: str, problem: str) -> None:
        if not self._warned:
            self._warned = True
            _log.warning(
                "%s; the flow goes on, and its record is kept %s until the store can be written",
                problem,
                place,
            )


def read_back(sink: Sink, *, patience_s: float = PATIENCE_S) -> None:
    """Bring what dead or finished processes have spooled into the store.

    A spool whose process still writes is left to it.  Raises `StoreError` like any commit.
    """
    for path in spool_files(sink.path):
        file = claim_spool(path)
        if file is None:
            continue
        with file, suppress(OSError):  # an unreadable file or folder: left for somebody else
            late = _read_file_back(sink, path, patience_s)
            keep_late(path) if late else path.unlink()
            sink.forget_spool(path.name, patience_s=patience_s)


def _read_file_back(sink: Sink, path: Path, patience_s: float) -> bool:
    """Return whether somebody has taken over a flow run of the file, so that rows were refused."""
    start = end = sink.spool_bytes_read(path.name, patience_s=patience_s)
    part: list[Change] = []
    leases: set[Lease] = set()
    rows = 0
    for change, end in read_spool(path, start):
        if (lease := lease_of(change)) is not None:
            leases.add(lease)
        part.append(change)
        rows += len(change[2])
        if rows >= BATCH_ROWS:
            sink.commit_spooled(Batch(part), path.name, end, patience_s=patience_s)
            part, rows = [], 0
    if part:
        sink.commit_spooled(Batch(part), path.name, end, patience_s=patience_s)
    return any(lease.lost for lease in leases)
