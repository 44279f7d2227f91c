"""Cancel a flow run of another process: leave word in the run store, and watch what comes of it."""

from __future__ import annotations

import time
from typing import NamedTuple

from daskflow.config import get_settings
from daskflow.errors import UsageError
from daskflow.runner.core.states import FINAL
from daskflow.runner.store import FlowRunRow, RunStore, open_store
from daskflow.runner.store.cancelling import ask_to_cancel, check_under_way

__all__ = ["CancelledRun", "cancel_flow_run"]

_LOOK_S = 0.1
_LOOK_FOR_GONE_S = 2.0


class CancelledRun(NamedTuple):
    """A flow run after the wish that it ends."""

    flow_run: FlowRunRow  # as it was seen last
    asked_by: str

    @property
    def ended(self) -> bool:
        """Whether it has a final state."""
        return self.flow_run.state in FINAL


def cancel_flow_run(
    run: str,
    *,
    grace_seconds: float | None = None,
    wait: bool = True,
    timeout: float | None = None,
) -> CancelledRun:
    """Cancel a flow run, whichever process executes it.

    Nothing new starts, queued task runs are dropped, and running ones have `grace_seconds` to end;
    then the worker processes that execute them are started anew.  The flow run is Cancelling
    meanwhile, and Cancelled in the end; Completed if it was through all the same.

    Parameters
    ----------
    run : str
        Id, unique prefix of an id, name, or ``@last``.
    grace_seconds : float, optional
        Default: `cancel_grace_seconds` of its flow.  Another call may shorten it.
    wait : bool, default True
        Return when the flow run has ended.
    timeout : float, optional
        Seconds to wait at the most.

    Returns
    -------
    CancelledRun

    Raises
    ------
    NotFoundError
        No such flow run; the message names the nearest ones.
    UsageError
        It has ended already, is a subflow, or `grace_seconds` is negative or no number.
    StoreError
        The run store cannot answer.
    """
    if grace_seconds is not None and not 0 <= grace_seconds < float("inf"):
        raise UsageError(f"grace_seconds is {grace_seconds!r}; give seconds, 0 or more")
    url = get_settings().store.url
    with open_store(url) as store:  # marks it Crashed if its process is gone
        row = store.find_flow_run(run)
        check_under_way(row)
        if (root := store.root_of(row)) is not row:
            raise UsageError(
                f"flow run {row.name!r} is a subflow; cancel the flow run that called it: "
                f"{root.flow_run_id[:12]}"
            )
        request = ask_to_cancel(url, row, grace_seconds)
        if wait:
            row = _ended(store, row, timeout)
    return CancelledRun(row, request.asked_by)


def _ended(store: RunStore, row: FlowRunRow, timeout: float | None) -> FlowRunRow:
    began = look_for_gone_at = time.monotonic()
    while row.state not in FINAL:
        now = time.monotonic()
        if timeout is not None and now - began >= timeout:
            break
        if now >= look_for_gone_at:  # a process may be killed while it is waited for
            store.mark_crashed()
            look_for_gone_at = now + _LOOK_FOR_GONE_S
        time.sleep(_LOOK_S)
        row = store.find_flow_run(row.flow_run_id)
    return row
