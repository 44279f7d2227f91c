"""The task bodies of `daskflow bench`; workers import this module, so it loads next to nothing."""

from __future__ import annotations

import os
import time

__all__ = ["burn", "nothing", "some_bytes"]


def nothing(i: int) -> int:
    """Return the argument."""
    return i


def burn(seconds: float) -> float:
    """Use so much CPU time of this thread, and return the time on the clock that this took."""
    began = time.perf_counter()
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass
    return time.perf_counter() - began


def some_bytes(count: int) -> bytes:
    """Return so many bytes that do not compress."""
    return os.urandom(count)
