"""Flow runs whose process is gone: whoever looks at the record next marks them Crashed.

A process that is killed cannot write its own end.  A process of this machine is judged at once;
one of another machine by its lease, by an observer that looks more than once: after a while
without a heartbeat its lease lapses and the fence is raised, so that it records nothing more if
it should wake up.  A run that somebody marked, resumed or ended in the meantime is left as it is.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

from daskflow.errors import StoreError
from daskflow.runner.core.leases import Seen, Watch, judge
from daskflow.runner.store.leases import LEASE_S
from daskflow.runner.store.process import ProcessIdentity, process_is_gone
from daskflow.runner.store.sqlite import SqliteReader, SqliteWriter
from daskflow.runner.store.statements import load_statements

__all__ = ["Lookout"]

_PATIENCE_S = 1.0


class _UnderWay(NamedTuple):
    flow_run_id: str
    state: str
    root: str  # the flow run around it that holds the lease
    process: ProcessIdentity
    seen: Seen


class Lookout:
    """Looks for flow runs under way whose process is gone.

    Parameters
    ----------
    reader : SqliteReader
    path : Path
        Of the store.
    clock : callable, optional
        Monotonic seconds.
    """

    def __init__(
        self, reader: SqliteReader, path: Path, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._reader = reader
        self._path = path
        self._clock = clock
        self._watch = Watch()

    def mark_crashed(self) -> int:
        """Mark the flow runs under way whose process is gone; return how many there were.

        A store that cannot be read or written is left as it is: whoever reads it is told.
        """
        marked = 0
        with suppress(StoreError):
            gone = [run for run in self._under_way() if self._is_gone(run)]
            if gone:
                with closing(SqliteWriter(self._path)) as writer:
                    with writer.transaction(_PATIENCE_S) as connection:
                        as_seen = [run for run in gone if _is_as_seen(connection, run)]
                        marked = sum(_crash(connection, run) for run in as_seen)
        return marked

    def _under_way(self) -> list[_UnderWay]:
        return [
            _UnderWay(run, state, root, ProcessIdentity(*columns[:4]), Seen(*columns[4:]))
            for run, state, root, *columns in self._reader.rows("flow_runs_under_way", {})
        ]

    def _is_gone(self, run: _UnderWay) -> bool:
        gone = process_is_gone(run.process)
        if gone is not None:  # one that is stopped may go on: only a taker judges it by its lease
            return gone
        still_s = self._watch.still_s(run.flow_run_id, run.seen, self._clock())
        return judge(gone, still_s, LEASE_S) == "free"


def _is_as_seen(connection: sqlite3.Connection, run: _UnderWay) -> bool:
    """Return whether nobody has taken the run, or shown that it goes on, since it was seen."""
    sql = load_statements("sqlite", "leases")["seen"]
    found = connection.execute(sql, {"flow_run_id": run.root}).fetchone()
    return run.seen == (Seen(*found[:2]) if found else Seen(1, 0))


def _crash(connection: sqlite3.Connection, run: _UnderWay) -> bool:
    """Make a flow run that is in its state still Crashed; return whether it was.

    It ended when the record last heard of it: nobody saw its end.
    """
    sql = load_statements("sqlite", "leases")
    process = run.process
    message = f"its process (pid {process.pid} on {process.host}) is gone"
    if process_is_gone(process) is None:
        message = f"its process (pid {process.pid} on {process.host}) has shown no sign of life"
        fence = run.seen.fence + 1
        connection.execute(sql["lapsed"], {"flow_run_id": run.root, "fence": fence})
    abandoned = load_statements("sqlite", "claims")["abandoned"]
    connection.execute(abandoned, (run.flow_run_id,))
    given = {"flow_run_id": run.flow_run_id, "state": run.state, "message": message}
    changed = connection.execute(sql["gone"], given).rowcount > 0
    if changed:
        connection.execute(sql["gone_note"], given)
    return changed
