"""What Dask calls on workers: a few tiny functions that travel by value.

Nothing in here is imported where they run, but for what they import themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["deliver", "entry", "live_entry", "recycle", "tell_cancelled"]


def entry(blob: bytes, inputs: Sequence[Any] = ()) -> int:
    """Execute the order in `blob`; returns the parcel's number."""
    # imported on the worker: this function travels by value, without this module
    from daskflow.runner.cluster.executor.parcel import run_parcel

    return run_parcel(blob, inputs)


def live_entry(topic: str, parcel_id: int) -> int:
    """Execute an order that is in this process; returns the parcel's number."""
    # imported where it runs, as above
    from daskflow.runner.cluster.executor.parcel import run_live_parcel

    return run_live_parcel(topic, parcel_id)


def deliver(blob: bytes) -> None:
    """Hand answers of the driver over to the tasks that wait for them."""
    # imported on the worker, as above
    from daskflow.runner.cluster.answers import deliver_bytes

    deliver_bytes(blob)


async def recycle(topic: str, numbers: Mapping[int, Sequence[int]], when_idle: bool) -> None:
    """Start the worker process anew if it executes one of these runs, by parcel."""
    # imported on the worker, as above
    from daskflow.runner.cluster.executor import recycling, watchdog

    await recycling.recycle(watchdog.watched(topic), numbers, when_idle=when_idle)


def tell_cancelled(topic: str, numbers: list[int]) -> None:
    """Let the bodies of these runs know that nobody wants them any more."""
    # imported on the worker, as above
    from daskflow.runner.cluster.executor import watchdog

    watchdog.tell_cancelled(topic, numbers)


# Pickled by value, for no module of this name exists: a scheduler elsewhere needs none of our code.
# One in this process has it, and gets names: they take a twentieth of the time, at every hop.
for _function in (entry, live_entry, deliver, recycle, tell_cancelled):
    _function.__module__ = "daskflow_entry"
