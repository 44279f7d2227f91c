"""What earlier flow runs made or found, by cache key, as far back as it is worth reading."""

from __future__ import annotations

from daskflow.runner.cache_status import REFRESHED, read_status
from daskflow.runner.store import RunStore
from daskflow.runner.store.rows import FlowRunRow

__all__ = ["MadeBefore"]

_LOOKED_BACK = 20  # flow runs of the same flow


class MadeBefore:
    """Call it with a key: when an earlier run of the flow last had its result, or None.

    Parameters
    ----------
    record : RunStore
        Stays open for as long as this is called.
    run : FlowRunRow
        Runs that were created before it are looked through, newest first, each once.
    """

    def __init__(self, record: RunStore, run: FlowRunRow) -> None:
        self._record = record
        self._left = record.flow_runs(flow=run.flow_name, before=run.created_at, limit=_LOOKED_BACK)
        self._made: dict[str, float] = {}

    def __call__(self, key: str) -> float | None:
        while key not in self._made and self._left:
            earlier = self._left.pop(0)
            for row in self._record.task_runs(earlier.flow_run_id):
                status = read_status(row.cache)
                if status is None or status.key is None or status.why not in (None, REFRESHED):
                    continue  # it was not stored
                self._made.setdefault(status.key, row.ended_at or earlier.created_at)
        return self._made.get(key)
