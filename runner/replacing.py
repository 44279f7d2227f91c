"""Another connection in place of one whose scheduler died.

It may come back at its address, or be another one where the flow owns its cluster.  Part of the
driver's thread, which has nothing else to do meanwhile.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from daskflow.errors import ClusterError, DaskflowError
from daskflow.runner.cluster.session import Session, open_session

if TYPE_CHECKING:
    from daskflow.runner.cluster.dispatch import Dispatch

__all__ = ["close_in_background", "connect_again"]

_CONNECT_S = 2.0  # of one try
_AGAIN_S = 0.1


def connect_again(
    runner: Any,
    connect: Callable[[Session], object],
    timeout_s: float,
    pause: Callable[[float], bool],
) -> DaskflowError | None:
    """Open a session until one works.

    Parameters
    ----------
    runner : TaskRunner
    connect : callable
        Makes use of a session; it may fail, for the scheduler may die again at once.
    timeout_s : float
        Seconds after which no more is tried.
    pause : callable
        Waits so many seconds; False when nobody wants a session any more.

    Returns
    -------
    DaskflowError or None
        Why there is none; None when there is one, or nobody wants it.
    """
    began = time.monotonic()
    while True:
        with contextlib.ExitStack() as opened:
            try:
                session = open_session(runner, _CONNECT_S)
                opened.callback(session.close)
                connect(session)
                opened.pop_all()
                return None
            except (DaskflowError, OSError) as error:
                final = not isinstance(error, (ClusterError, OSError))
                if final or time.monotonic() - began > timeout_s:
                    return _as_ours(error)
        if not pause(_AGAIN_S):
            return None


def close_in_background(dispatch: Dispatch) -> threading.Thread:
    """Close what was connected to the scheduler that died, which may take a while."""
    thread = threading.Thread(
        target=_close_both, args=(dispatch,), name="daskflow-closing", daemon=True
    )
    thread.start()
    return thread


def _as_ours(error: DaskflowError | OSError) -> DaskflowError:
    if isinstance(error, DaskflowError):
        return error
    return ClusterError(f"the scheduler could not be used: {error!r}")


def _close_both(dispatch: Dispatch) -> None:
    dispatch.close()
    dispatch.session.close()
