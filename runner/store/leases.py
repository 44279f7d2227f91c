"""Leases on flow runs, kept in the run store: one process executes a flow run at a time.

A process holds a run that it made under fence 1, without a row; its `Keeper` notes the lease once
the run has lasted a while, and raises its heartbeat from a thread of its own.  Whoever takes a run
raises the fence under the store's write lock, so of several takers one wins, and rows written
under a lower fence are refused.
"""

from __future__ import annotations

import logging
import math
import sqlite3
import threading
import time
from types import TracebackType
from typing import NamedTuple, Self

from daskflow.errors import RunHeld, StoreError
from daskflow.runner.core.leases import CancelRequest, Lease, Seen, Watch, judge
from daskflow.runner.core.states import FINAL
from daskflow.runner.store.address import sqlite_path
from daskflow.runner.store.process import ProcessIdentity, process_is_gone, this_process
from daskflow.runner.store.sqlite import SqliteReader, SqliteWriter
from daskflow.runner.store.statements import load_statements

__all__ = ["LEASE_S", "LOOK_S", "RENEW_S", "Keeper", "RunLeases"]

_log = logging.getLogger(__name__)

LEASE_S = 20.0  # without a heartbeat, then a lease has lapsed
RENEW_S = 5.0
LOOK_S = 0.5  # between two looks whether somebody wants the flow run to end: 20 µs each
_PATIENCE_S = 10.0  # for the store's lock
_KEEPER_PATIENCE_S = 1.0  # the same where the end of a flow run would wait for it
_LOOKS = 20  # at a lease while it lapses


class _Held(NamedTuple):
    """Who holds a flow run; nobody, when there is no process."""

    seen: Seen
    process: ProcessIdentity | None


class RunLeases:
    """The leases on the flow runs of one run store; a context manager that closes it.

    Parameters
    ----------
    url : str
        Of the run store.
    lease_s : float, default 20.0
        Seconds without a heartbeat after which a lease has lapsed.

    Raises
    ------
    UsageError
        For a malformed URL.
    """

    def __init__(self, url: str, *, lease_s: float = LEASE_S) -> None:
        self._sink, self._reader = SqliteWriter(sqlite_path(url)), SqliteReader(sqlite_path(url))
        self._lease_s = lease_s

    def take(self, flow_run_id: str, patience_s: float | None = None) -> Lease:
        """Take a flow run, so that this process alone executes and records it.

        The lease is renewed from when it is handed to `open_writer`.

        Parameters
        ----------
        flow_run_id : str
            All 32 digits.
        patience_s : float, optional
            How many seconds to watch the heartbeat of a holder that is not known to be gone, which
            may be stopped.  Without it a living process of this host is believed at once, and one
            of another host is watched until its lease has lapsed or its heartbeat is seen.

        Raises
        ------
        RunHeld
            When the flow run is held by a process that lives; the message names it.
        StoreError
            When the store cannot answer; nothing is taken then.
        """
        watch, began, first = Watch(), time.monotonic(), None
        while True:
            with self._sink.transaction(_PATIENCE_S) as connection:
                held = _look(connection, flow_run_id)
                if held.process is None:
                    return _take(connection, flow_run_id, held.seen.fence + 1)
                now = time.monotonic()
                gone = process_is_gone(held.process)
                still_s = watch.still_s(flow_run_id, held.seen, now)
                verdict = judge(gone, still_s, self._lease_s)
                if verdict == "free":
                    return _take(connection, flow_run_id, held.seen.fence + 1)
            first = first or held
            most_s = patience_s
            if most_s is None:
                most_s = 0.0 if verdict == "held" else math.inf
            if held != first or now - began >= most_s:
                raise RunHeld(_told(flow_run_id, held.process))
            time.sleep(self._lease_s / _LOOKS)

    def renew(self, lease: Lease) -> bool:
        """Show that the holder goes on; False when it has lost the lease, which is told, too.

        Raises `StoreError` when the store cannot answer; the lease is as good as before then.
        """
        given = {"flow_run_id": lease.flow_run_id, "fence": lease.fence}
        sql = load_statements("sqlite", "leases")
        with self._sink.transaction(_KEEPER_PATIENCE_S) as connection:
            kept = connection.execute(sql["renewed"], given).rowcount > 0
            if not kept:  # not noted yet, or in a store that was put in place of another
                given |= this_process()._asdict()
                kept = connection.execute(sql["noted"], given).rowcount > 0
        lease.noted = lease.noted or kept
        if not kept:
            lease.lose()
        return kept

    def asked(self, lease: Lease) -> CancelRequest | None:
        """Return the wish that the flow run ends, if somebody has left one; writes nothing.

        Raises `StoreError` when the store cannot answer.
        """
        found = self._reader.rows("cancellation", {"flow_run_id": lease.flow_run_id})
        return CancelRequest(*found[0]) if found else None

    def look_afresh(self) -> None:
        """Have the next look open the store again: another file may have taken its place."""
        self._reader.close()

    def release(self, lease: Lease) -> None:
        """Let the flow run go: whoever wants it may take it at once.

        Raises `StoreError` when the store cannot answer; then the lease goes with the process.
        """
        if (lease.noted or lease.asked is not None) and not lease.lost:
            given = {"flow_run_id": lease.flow_run_id, "fence": lease.fence}
            sql = load_statements("sqlite", "leases")
            with self._sink.transaction(_KEEPER_PATIENCE_S) as connection:
                connection.execute(sql["released"], given)
                connection.execute(sql["cancellation_over"], given)

    def close(self) -> None:
        """Close the connections; leases stay as they are."""
        self._sink.close()
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Keeper:
    """Renews one lease from a thread of its own, for as long as the flow run goes on.

    In between it looks whether another process wants the flow run to end, and tells the lease.
    A store that cannot answer is tried again at the next beat: the flow goes on meanwhile.

    Parameters
    ----------
    leases : RunLeases
        Used by this keeper alone.
    lease : Lease
    renew_s : float, default 5.0
        Seconds between two heartbeats.
    """

    def __init__(self, leases: RunLeases, lease: Lease, renew_s: float = RENEW_S) -> None:
        self._leases = leases
        self._lease = lease
        self._renew_s = renew_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="daskflow-lease", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        look_s, beat_at = min(LOOK_S, self._renew_s), time.monotonic() + self._renew_s
        while not self._ended.wait(look_s):
            try:
                if time.monotonic() >= beat_at:
                    beat_at = time.monotonic() + self._renew_s
                    self._leases.look_afresh()
                    if not self._leases.renew(self._lease):
                        return
                if (request := self._leases.asked(self._lease)) is not None:
                    self._lease.ask(request)
            except StoreError as error:  # the record's writer has warned
                _log.debug("a lease was not renewed or looked at: %s", error)

    def close(self) -> None:
        """Stop renewing, and let the flow run go."""
        self._ended.set()
        self._thread.join()
        try:
            self._leases.release(self._lease)
        except StoreError as error:  # it goes with this process
            _log.debug("a lease was not released: %s", error)
        self._leases.close()


def _look(connection: sqlite3.Connection, flow_run_id: str) -> _Held:
    """Return who holds a flow run: by its lease, else by its own row while it is under way."""
    sql, given = load_statements("sqlite", "leases"), {"flow_run_id": flow_run_id}
    found = connection.execute(sql["seen"], given).fetchone()
    seen = Seen(*found[:2]) if found else Seen(1, 0)
    if found:
        return _Held(seen, None if found[2] is None else ProcessIdentity(*found[2:]))
    first = connection.execute(sql["first_holder"], given).fetchone()
    under_way = first is not None and first[0] not in FINAL
    return _Held(seen, ProcessIdentity(*first[1:]) if under_way else None)


def _take(connection: sqlite3.Connection, flow_run_id: str, fence: int) -> Lease:
    given = {"flow_run_id": flow_run_id, "fence": fence, **this_process()._asdict()}
    sql = load_statements("sqlite", "leases")
    connection.execute(sql["taken"], given)
    connection.execute(sql["cancellation_over"], given)  # meant for the one before
    return Lease(flow_run_id, fence)


def _told(flow_run_id: str, process: ProcessIdentity) -> str:
    where = f"process {process.pid} on {process.host!r}"
    if process == this_process():
        where = f"this process ({process.pid} on {process.host!r})"
    return (
        f"flow run {flow_run_id!r} is executed by {where}, which goes on; wait until it has "
        "ended, or end it first"
    )
