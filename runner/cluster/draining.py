"""Workers that are told to leave while they execute: what is running ends first, once.

Dask's own way starts a running task a second time elsewhere and lets both run to their end.  Here a
worker that is retired (by a client, an adaptive cluster, its ``--lifetime``) is removed only when
no task run of ours executes on it; the scheduler side of that stands in `plugin`.  A worker that
closes at once (SIGTERM) waits for them as long as its nanny lets it, and hands back the rest.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any

from distributed import WorkerPlugin
from distributed.core import Status

from daskflow.runner.cluster.executor.watchdog import watched
from daskflow.runner.cluster.plugin import LEAVING_NAME

__all__ = ["LEAVING", "Leaving"]

LEAVING = "leaving"  # what a message on the client's topic is about
_WITHIN_S = 9.0  # a nanny that got SIGTERM kills its worker after 10 s
_LOOK_S = 0.02


class Leaving(WorkerPlugin):
    """Have a worker that closes finish what it executes for one client.

    Parameters
    ----------
    client : str
        Id of the client.
    topic : str
        Its event topic.
    """

    def __init__(self, client: str, topic: str) -> None:
        self.topic = self.daskflow_topic = topic  # the latter is what `recycling` looks for
        self.name = LEAVING_NAME + client

    def setup(self, worker: Any) -> None:
        """Remember where it is."""
        self._worker = worker

    async def teardown(self, worker: Any) -> None:
        """Wait for what is executing, if it is the worker that goes and not the client."""
        if worker.status not in (Status.closing, Status.closing_gracefully):
            return
        with suppress(Exception):  # the scheduler may be gone
            worker.log_event(self.topic, (LEAVING, worker.address.encode()))
        deadline = time.monotonic() + _WITHIN_S
        while time.monotonic() < deadline:
            parcels = [each for each in watched(self.topic) if each.left_behind is None]
            if not parcels:
                break
            for parcel in parcels:
                parcel.cut()
            await asyncio.sleep(_LOOK_S)
