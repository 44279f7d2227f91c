"""Flow runs whose process is gone: whoever looks at the record next marks them Crashed.

A process that is killed cannot write its own end.  Only a process of this machine can be judged,
and a run that somebody marked, resumed or ended in the meantime is left as it is.
"""

from __future__ import annotations

from contextlib import closing, suppress
from pathlib import Path

from daskflow.errors import StoreError
from daskflow.runner.store.process import ProcessIdentity, process_is_gone
from daskflow.runner.store.sqlite import SqliteReader, SqliteWriter

__all__ = ["mark_crashed"]

_PATIENCE_S = 1.0


def mark_crashed(reader: SqliteReader, path: Path) -> int:
    """Mark the flow runs under way whose process has ended; return how many there were.

    A store that cannot be read or written is left as it is: whoever reads it is told.
    """
    marked = 0
    with suppress(StoreError):
        gone = [
            (flow_run_id, state, identity)
            for flow_run_id, state, *columns in reader.rows("flow_runs_under_way", {})
            if process_is_gone(identity := ProcessIdentity(*columns))
        ]
        if gone:
            with closing(SqliteWriter(path)) as writer:
                for flow_run_id, state, process in gone:
                    message = f"its process (pid {process.pid} on {process.host}) is gone"
                    marked += writer.crash(flow_run_id, state, message, patience_s=_PATIENCE_S)
    return marked
