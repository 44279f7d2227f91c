"""A flow run that has ended, or whose process is gone, goes on in this process.

One of several that try at once gets it: it needs the lease, and the row of the flow run must be as
it was when it was read, since another process may have resumed and ended it meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from daskflow.errors import RunHeld
from daskflow.runner.core.leases import Lease
from daskflow.runner.core.states import CRASHED, FINAL
from daskflow.runner.store.address import sqlite_path
from daskflow.runner.store.leases import RunLeases
from daskflow.runner.store.process import ProcessIdentity, process_is_gone, this_process
from daskflow.runner.store.rows import FlowRunRow
from daskflow.runner.store.sqlite import SqliteWriter
from daskflow.runner.store.statements import load_statements

__all__ = ["check_not_held", "take_over"]

_PATIENCE_S = 10.0


def check_not_held(run: FlowRunRow) -> None:
    """Refuse a flow run whose process is known to live, before anything is taken or loaded.

    Raises
    ------
    RunHeld
    """
    process = ProcessIdentity(run.host, run.pid, run.process_started_at, run.boot_id)
    if run.state not in FINAL and process_is_gone(process) is False:
        raise RunHeld(
            f"flow run {run.name!r} is {run.state}: process {run.pid} on {run.host!r} executes it; "
            "wait until it has ended, or end it first"
        )


def take_over(url: str, flow_runs: Sequence[FlowRunRow]) -> Lease:
    """Make this process the one that executes a flow run; its open task runs have crashed.

    Parameters
    ----------
    url : str
        Of the run store.
    flow_runs : sequence of FlowRunRow
        As they were read: the one to go on with, and its subflows.

    Raises
    ------
    RunHeld
        When another process has it, or was faster; the message names it.
    StoreError
    """
    run, *_ = flow_runs
    with RunLeases(url) as leases:
        lease = leases.take(run.flow_run_id)
        try:
            _begin_again(url, flow_runs)
        except BaseException:
            leases.release(lease)
            raise
    return lease


def _begin_again(url: str, flow_runs: Sequence[FlowRunRow]) -> None:
    run, *_ = flow_runs
    taking, leasing = load_statements("sqlite", "taking"), load_statements("sqlite", "leases")
    given = {"flow_run_id": run.flow_run_id, "state": run.state, "attempt": run.attempt}
    with (
        closing(SqliteWriter(sqlite_path(url))) as writer,
        writer.transaction(_PATIENCE_S) as connection,
    ):
        if run.state not in FINAL:  # held by a process of another host that shows no sign of life
            given["message"] = f"its process (pid {run.pid} on {run.host}) has lost it"
            if connection.execute(leasing["gone"], given).rowcount:
                connection.execute(leasing["gone_note"], given)
            given["state"] = CRASHED
        taken = connection.execute(taking["taken"], given | this_process()._asdict())
        if taken.rowcount == 0:
            raise RunHeld(
                f"flow run {run.name!r} was resumed by another process meanwhile; look at it: "
                f"daskflow runs show {run.flow_run_id[:12]}"
            )
        for each in flow_runs:
            given = {"flow_run_id": each.flow_run_id, "at": each.ended_at}
            connection.execute(taking["left_open"], given)
