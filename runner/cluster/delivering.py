"""The way of answers to workers: to each in order, and to none at the cost of another.

`Client.run` waits until the worker has taken them: for ever from one that is frozen, and half a
minute from one that died before Dask heard of it.  So each worker has a coroutine of its own on the
session's event loop.  What could not be delivered is sent again until the worker is gone: the task
that asked waits for nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import pickle
from collections.abc import Sequence

from daskflow.runner.cluster.answers import Answer
from daskflow.runner.cluster.entries import deliver
from daskflow.runner.cluster.session import Session

__all__ = ["Deliverer"]

_AGAIN_S = 0.5

_logger = logging.getLogger(__name__)


class Deliverer:
    """Sends answers to the workers of one session.

    Parameters
    ----------
    session : Session
    """

    def __init__(self, session: Session) -> None:
        self._client, self._loop = session.client, session.loop
        # the rest is touched on the event loop only
        self._waiting: dict[str, list[Answer]] = {}
        self._sending: dict[str, asyncio.Task[None]] = {}
        self._gone: set[str] = set()
        self._closed = False

    def send(self, worker: str, answers: Sequence[Answer]) -> None:
        """Send `answers`, soon; what goes to the same worker meanwhile goes along."""
        self._loop.add_callback(self._take, worker, answers)

    def worker(self, worker: str, *, came: bool) -> None:
        """A worker came to this address, or left it: then nobody waits there any more."""
        self._loop.add_callback(self._gone.discard if came else self._forget, worker)

    def close(self) -> None:
        """Send nothing more."""
        self._loop.add_callback(self._close)

    def _take(self, worker: str, answers: Sequence[Answer]) -> None:
        if self._closed or worker in self._gone:
            return
        self._waiting.setdefault(worker, []).extend(answers)
        if worker not in self._sending:
            self._sending[worker] = asyncio.create_task(self._send(worker))

    async def _send(self, worker: str) -> None:
        while answers := self._waiting.pop(worker, None):
            await self._deliver(worker, pickle.dumps(answers, 5))
        del self._sending[worker]

    async def _deliver(self, worker: str, blob: bytes) -> None:
        while True:
            try:
                await self._client.run(deliver, blob, workers=[worker])
            except OSError as error:  # the link is cut, or the worker is dead and Dask will tell
                _logger.debug("answers for %s were not delivered: %r", worker, error)
            except Exception:  # raised on the worker, so they have arrived
                _logger.exception("answers for %s could not be taken there", worker)
                return
            else:
                return
            await asyncio.sleep(_AGAIN_S)

    def _forget(self, worker: str) -> None:
        self._gone.add(worker)
        self._waiting.pop(worker, None)
        if (sending := self._sending.pop(worker, None)) is not None:
            sending.cancel()

    def _close(self) -> None:
        self._closed = True
        self._waiting.clear()
        for sending in list(self._sending.values()):
            sending.cancel()
