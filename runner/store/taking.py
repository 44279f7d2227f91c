"""A flow run that has ended, or whose process is gone, is taken over by this process.

One of several that try at once gets it: its row changes only if state and attempt are still what
they were when it was read.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from daskflow.errors import UsageError
from daskflow.runner.store.address import sqlite_path
from daskflow.runner.store.process import this_process
from daskflow.runner.store.rows import FlowRunRow
from daskflow.runner.store.sqlite import SqliteWriter

__all__ = ["take_over"]

_PATIENCE_S = 10.0


def take_over(url: str, flow_runs: Sequence[FlowRunRow]) -> None:
    """Make this process the one that a flow run belongs to; its open task runs have crashed.

    Parameters
    ----------
    url : str
        Of the run store.
    flow_runs : sequence of FlowRunRow
        As they were read: the one to go on with, and its subflows.

    Raises
    ------
    UsageError
        When another process was faster.
    StoreError
    """
    run, *_ = flow_runs
    with closing(SqliteWriter(sqlite_path(url))) as writer:
        known = [row.flow_run_id for row in flow_runs]
        if not writer.take_over(run, known, this_process(), patience_s=_PATIENCE_S):
            raise UsageError(
                f"flow run {run.name!r} was resumed by another process meanwhile; "
                f"look at it: daskflow runs show {run.flow_run_id[:12]}"
            )
