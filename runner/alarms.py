"""The time limit of a plain function that is called in the flow's own process.

The main thread is interrupted by a timer of the operating system.  Any other thread cannot be
stopped: there the function runs to its end, and its result counts for nothing when it was late.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from daskflow.runner.cluster.executor.timeouts import RanOut, judged

__all__ = ["call_within"]

R = TypeVar("R")


def call_within(limit_s: float, owner: object, call: Callable[[], R]) -> R:
    """Return what `call` returns within `limit_s` seconds.

    Parameters
    ----------
    limit_s : float
    owner : object
        Whose limit it is; a limit around this one may be over sooner.
    call : callable

    Raises
    ------
    RanOut
        When the time was over, with what `call` raised then as the cause.
    """
    return judged(limit_s, owner, lambda: _interrupted_after(limit_s, owner, call))


def _interrupted_after(limit_s: float, owner: object, call: Callable[[], R]) -> R:
    if threading.current_thread() is not threading.main_thread() or not hasattr(
        signal, "setitimer"
    ):
        return call()
    left, interval = signal.getitimer(signal.ITIMER_REAL)
    if 0 < left <= limit_s:  # one around it is over first, and interrupts this one too
        return call()
    armed, began = True, time.perf_counter()

    def ring(signum: int, frame: object) -> None:
        nonlocal armed
        if armed:
            armed = False
            raise RanOut(limit_s, owner)

    outer = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, limit_s)
        try:
            return call()
        finally:
            armed = False
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL if outer is None else outer)
        if left:
            left -= time.perf_counter() - began
            signal.setitimer(signal.ITIMER_REAL, max(left, 1e-6), interval)
