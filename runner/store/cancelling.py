"""The wish that a flow run ends, left in the run store by another process than the flow's.

It stands beside the lease of the flow run, whose keeper sees it within a second and is the only one
to act on it: states are written by the process that holds the run.  The wish goes with the lease.
"""

from __future__ import annotations

import getpass
import os
import socket
import time
from contextlib import closing

from daskflow.errors import UsageError
from daskflow.runner.core.leases import CancelRequest
from daskflow.runner.core.states import CANCELLED, CRASHED, FINAL
from daskflow.runner.store.address import sqlite_path
from daskflow.runner.store.rows import FlowRunRow
from daskflow.runner.store.sqlite import SqliteWriter
from daskflow.runner.store.statements import load_statements

__all__ = ["ask_to_cancel", "check_under_way", "who_asks"]

_PATIENCE_S = 10.0


def ask_to_cancel(url: str, run: FlowRunRow, grace_s: float | None = None) -> CancelRequest:
    """Leave word that flow run `run` is to end; the process that executes it does so.

    Parameters
    ----------
    url : str
        Of the run store.
    run : FlowRunRow
    grace_s : float, optional
        Seconds that running task runs have; default: what the flow says.

    Raises
    ------
    UsageError
        When it has ended meanwhile; the message says how.
    StoreError
        When the store cannot answer; nothing is asked then.
    """
    request = CancelRequest(time.time(), who_asks(), grace_s)
    sql, given = load_statements("sqlite", "leases"), {"flow_run_id": run.flow_run_id}
    with (
        closing(SqliteWriter(sqlite_path(url))) as writer,
        writer.transaction(_PATIENCE_S) as connection,
    ):
        state, *_ = connection.execute(sql["first_holder"], given).fetchone()
        check_under_way(run._replace(state=state))
        connection.execute(sql["cancellation_asked"], {**given, **request._asdict()})
    return request


def check_under_way(run: FlowRunRow) -> None:
    """Raise `UsageError` when there is nothing to cancel, with what to do instead."""
    if run.state not in FINAL:
        return
    said = f"flow run {run.name!r} is {run.state}"
    if run.message and run.state in (CRASHED, CANCELLED):
        said += f" ({run.message})"
    short = run.flow_run_id[:12]
    raise UsageError(
        f"{said}, so there is nothing to cancel; look at it: daskflow runs show {short}"
    )


def who_asks() -> str:
    """User, host and process that ask, for people to read."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in many containers
        user = str(os.getuid()) if hasattr(os, "getuid") else "somebody"
    return f"{user}@{socket.gethostname()} (pid {os.getpid()})"
