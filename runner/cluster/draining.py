"""Workers that are told to leave while they execute: what is running ends first, once.

Dask's own way starts a running task a second time elsewhere and lets both run to their end.  Here a
worker that is retired (by a client, an adaptive cluster, its ``--lifetime``) is removed only when
no task run of ours executes on it; the scheduler side of that stands in `plugin`.  A worker that
closes at once (SIGTERM) waits for them as long as its nanny lets it, and hands back the rest.

The same plugin has the nanny of its worker tell of its deaths.  Dask sends plugins for nannies to
those only whose workers are there: one that was just starting its worker again would get none.
Dask waits for a worker's plugins before it hands it the first task, so no death goes untold.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any

from distributed import WorkerPlugin
from distributed.core import Status
from distributed.protocol.pickle import dumps

from daskflow.runner.cluster.deaths import DeathNotes, add_notes
from daskflow.runner.cluster.executor.watchdog import watched
from daskflow.runner.cluster.plugin import LEAVING_NAME

__all__ = ["LEAVING", "Leaving"]

LEAVING = "leaving"  # what a message on the client's topic is about
_WITHIN_S = 9.0  # a nanny that got SIGTERM kills its worker after 10 s
_LOOK_S = 0.02
_NANNY_S = 2.0  # for its answer


class Leaving(WorkerPlugin):
    """Have a worker that closes finish what it executes for one client.

    Parameters
    ----------
    client : str
        Id of the client.
    topic : str
        Its event topic.
    notes : DeathNotes
        For the nanny.
    """

    def __init__(self, client: str, topic: str, notes: DeathNotes) -> None:
        self._notes = notes
        self.topic = self.daskflow_topic = topic  # the latter is what `recycling` looks for
        self.name = LEAVING_NAME + client

    async def setup(self, worker: Any) -> None:
        """See that the nanny has its plugin, before the worker gets anything to execute."""
        if worker.nanny:
            with suppress(Exception):  # then the loss is told by the scheduler alone
                nanny = worker.rpc(worker.nanny)
                add = nanny.run(function=dumps(add_notes), kwargs=dumps({"notes": self._notes}))
                await asyncio.wait_for(add, _NANNY_S)

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
