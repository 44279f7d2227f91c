"""What the tasks do, for every engine alike; loads nothing but the standard library.

A line is logged in the way of whoever runs the task: Dask itself knows no run logger.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

__all__ = ["add", "fail_once", "inc", "nap", "noop", "say_to_dask", "say_to_record", "spin"]

NAP_S = 0.1
TOPIC = "benchmarks"


def noop(i: int) -> int:
    """Return its argument."""
    return i


def inc(i: int) -> int:
    """Return the next number."""
    return i + 1


def add(left: int, right: int) -> int:
    """Return the sum."""
    return left + right


async def nap(i: int) -> int:
    """Wait without work."""
    await asyncio.sleep(NAP_S)
    return i


def spin(seconds: float) -> float:
    """Burn so much CPU time of this thread, which a busy machine delays but does not stretch."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass
    return seconds


def fail_once(item: tuple[str, int]) -> int:
    """Fail at the first attempt for 3 numbers of 10; a file remembers it for other workers."""
    folder, i = item
    if i % 10 < 3:
        try:
            os.close(os.open(Path(folder) / str(i), os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return i
        raise ConnectionError(f"the first attempt at {i} fails")
    return i


def say_to_record(i: int) -> int:
    """Log a line with the run's logger."""
    from daskflow import get_run_logger  # the control's workers need none of it

    get_run_logger().info("line %d", i)
    return i


def say_to_dask(i: int) -> int:
    """Send a line to the client, in Dask's own way."""
    from distributed import get_worker  # peers that run these bodies have none of it

    get_worker().log_event(TOPIC, f"line {i}")
    return i
