"""What the driver has workers do besides parcels: calls that need no slot, and wait for nobody."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from daskflow.runner.cluster.entries import recycle, tell_cancelled
from daskflow.runner.cluster.session import Session

__all__ = ["WorkerCalls"]

_RECYCLING_S = 2.0


class WorkerCalls:
    """Calls functions on the workers of one session.

    Parameters
    ----------
    session : Session
    places : mapping of int to str
        The worker that has told of a parcel, by the parcel's number.
    """

    def __init__(self, session: Session, places: Mapping[int, str]) -> None:
        self._session = session
        self._places = places

    def tell_cancelled(self, numbers: Mapping[int, Sequence[int]]) -> None:
        """Let the bodies of runs know, by parcel, that nobody wants them any more."""
        flat = [number for each in numbers.values() for number in each]
        topic = self._session.topic
        if self._session.in_process:
            tell_cancelled(topic, flat)
        else:
            self._call(tell_cancelled, numbers, topic, flat)

    def recycle(
        self,
        numbers: Mapping[int, Sequence[int]],
        *,
        when_idle: bool = False,
        last: bool = False,
    ) -> None:
        """Have worker processes started anew that execute these runs, by parcel.

        Threads of this process cannot be, and what is ours ends with the session: `last` waits
        until other workers have been told.  With `when_idle` nothing else may run there.
        """
        if self._session.in_process or (last and self._session.owned):
            return
        called = self._call(recycle, numbers, self._session.topic, dict(numbers), when_idle)
        if last and called is not None:
            concurrent.futures.wait([called], timeout=_RECYCLING_S)

    def _call(
        self, function: Callable[..., Any], parcels: Iterable[int], *args: Any
    ) -> concurrent.futures.Future[None] | None:
        workers = {w for parcel_id in parcels if (w := self._places.get(parcel_id)) is not None}
        if not workers:
            return None
        client = self._session.client

        async def call() -> None:
            running: Any = client.run(function, *args, workers=list(workers), on_error="ignore")
            await running  # a coroutine, on the client's loop

        loop: Any = self._session.loop
        return asyncio.run_coroutine_threadsafe(call(), loop.asyncio_loop)
