"""The way back to the driver: reports, and large results that stay here under a key of their own.

Over Dask, a report is an event on the driver's topic: it reaches the driver while the parcel still
runs, and always before the parcel's own result.  Inside the flow process it is a plain call.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from typing import Any, Protocol

from daskflow.runner.cluster.protocol import Order, Report
from daskflow.runner.context import FlowRunContext

__all__ = ["Channel", "DirectChannel", "TopicChannel", "live_flows", "live_orders", "receivers"]

# Flow process only: who takes the reports of a topic, the orders that are not pickled, and the flow
# runs that they belong to.
receivers: dict[str, Callable[[Report], object]] = {}
live_orders: dict[tuple[str, int], Order] = {}
live_flows: dict[str, FlowRunContext] = {}


class Channel(Protocol):
    """What the executor needs to talk to the driver."""

    worker: str
    pid: int
    live: bool  # worker and flow share a process: values are handed over as they are

    @property
    def flight_folder(self) -> str | None:
        """A folder that outlives this process and that its nanny can read."""

    def send(self, report: Report) -> None:
        """Hand a report over; from any thread, without waiting."""

    def keep(self, key: str, value: Any, size: int) -> None:
        """Keep a large value here under a key that belongs to the driver's client."""

    def secede(self) -> None:
        """Give the slot of this thread's Dask task back; the task goes on."""

    def ask(self, kind: str, asked: tuple[Any, ...]) -> None:
        """Ask the driver for something that is no report; from any thread, without waiting."""

    def fetch(self, key: str, timeout: float | None) -> Any:
        """The value that some worker keeps under `key`."""


class DirectChannel:
    """For workers that are threads of the flow process."""

    live = True
    flight_folder = None

    def __init__(self, topic: str, worker: str) -> None:
        self._receive = receivers[topic]
        self.worker = worker
        self.pid = os.getpid()

    def send(self, report: Report) -> None:
        self._receive(report)

    def keep(self, key: str, value: Any, size: int) -> None:
        raise AssertionError(f"{key}: no value is kept under a key in the flow process")

    def secede(self) -> None:
        _secede()

    def ask(self, kind: str, asked: tuple[Any, ...]) -> None:
        raise AssertionError(f"{kind}: in the flow process the flow run itself is asked")

    def fetch(self, key: str, timeout: float | None) -> Any:
        raise AssertionError(f"{key}: no value is kept under a key in the flow process")


class TopicChannel:
    """For workers in other processes, by events on the scheduler."""

    live = False

    def __init__(self, worker: Any, topic: str, client_id: str) -> None:
        self._worker = worker
        self._topic = topic
        self._client_id = client_id
        self.worker: str = worker.address
        self.pid = os.getpid()

    @property
    def flight_folder(self) -> str | None:
        worker = self._worker
        return os.path.dirname(worker.local_directory) if worker.nanny else None

    @property
    def dask_worker(self) -> Any:
        """The Dask worker that this process is."""
        return self._worker

    def send(self, report: Report) -> None:
        self._worker.log_event(self._topic, (report.parcel_id, pickle.dumps(tuple(report), 5)))

    def keep(self, key: str, value: Any, size: int) -> None:
        """Register `value` as a key that the driver's client holds, as `Client.scatter` does.

        It has no recipe, so Dask never runs user code again behind the driver's back.
        """
        from distributed.utils import sync  # on a worker distributed is loaded already

        worker = self._worker

        async def register() -> None:
            worker.update_data({key: value})
            await worker.scheduler.update_data(
                who_has={key: [worker.address]}, nbytes={key: size}, client=self._client_id
            )

        sync(worker.loop, register)

    def secede(self) -> None:
        _secede()

    def ask(self, kind: str, asked: tuple[Any, ...]) -> None:
        self._worker.log_event(self._topic, (kind, pickle.dumps(tuple(asked), 5)))

    def fetch(self, key: str, timeout: float | None) -> Any:
        from distributed import Future  # on a worker distributed is loaded already

        client = self._worker._get_client()
        state: Any = "memory"  # what Dask calls it, though its annotation says otherwise
        return client.gather(Future(key, client, state=state))


def _secede() -> None:
    from distributed import secede  # on a worker distributed is loaded already

    secede()
