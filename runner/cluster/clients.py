"""The Dask clients that user code gets: connected to the flow's cluster, and not to be ended by it.

Plain code gets the client that is there already, the session's or the worker's, behind a face that
leaves it open.  Async code gets a client of its own, on the event loop that it runs in.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import Any

from distributed import Client
from distributed.client import _current_client

from daskflow.errors import UsageError

__all__ = ["AsyncClient", "SharedClient", "of_worker", "place_of_client", "place_of_worker"]

_lock, _lock_of_worker = threading.Lock(), threading.Lock()


class SharedClient(Client):
    """A synchronous client that belongs to somebody else; nothing that is done here ends it.

    It has all attributes in common with that client, and there is one of it for each.
    """

    def __init__(self, client: Client) -> None:
        self.__dict__ = client.__dict__
        self._blocks = threading.local()

    @classmethod
    def of(cls, client: Client) -> SharedClient:
        """The one face of `client`: Dask tells clients apart by identity."""
        with _lock:
            face: SharedClient | None = client.__dict__.get("_daskflow_face")
            if face is None:
                face = client.__dict__["_daskflow_face"] = cls(client)
            return face

    def __enter__(self) -> SharedClient:
        """Inside the block, Dask collections compute with it.

        `Client.as_current` would set the scheduler for all threads of the process as well.
        """
        self._blocks.__dict__.setdefault("tokens", []).append(_current_client.set(self))
        return self

    def __exit__(self, *_: object) -> None:
        _current_client.reset(self._blocks.tokens.pop())

    async def __aenter__(self) -> Any:
        raise UsageError("this is plain code: use `with get_client() as client:`, without async")

    def close(self, *_: Any, **__: Any) -> None:
        """Do nothing: the client ends with the flow run, or with its worker."""

    def __del__(self) -> None:
        """Do nothing: the client outlives this face of it."""


class AsyncClient:
    """A client to be: ``async with`` opens it on the running loop, and closes it at the end.

    Parameters
    ----------
    place : callable
        Returns the address of the scheduler and the security to connect with; it may block, for
        a cluster may have to be started.
    """

    def __init__(self, place: Callable[[], tuple[str, Any]]) -> None:
        self._place = place
        self._client: Any = None

    def __await__(self) -> Any:
        """The open client; whoever awaits it closes it with ``await client.close()``."""
        return self._open().__await__()

    async def _open(self) -> Client:
        context, loop = contextvars.copy_context(), asyncio.get_running_loop()
        address, security = await loop.run_in_executor(None, context.run, self._place)
        client: Any = Client(
            address, security=security, asynchronous=True, set_as_default=False, name="daskflow"
        )
        opened: Client = await client
        return opened

    async def __aenter__(self) -> Client:
        self._client = await self._open()
        client: Client = self._client
        return client

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    def __enter__(self) -> Any:
        raise UsageError("this is async code: use `async with get_client() as client:`")

    def __exit__(self, *_: object) -> None:
        """Never reached."""


def of_worker(worker: Any) -> SharedClient:
    """The client that a Dask worker has, for the threads of its tasks."""
    with _lock_of_worker:  # it would open several
        client = worker._get_client()
    return SharedClient.of(client)


def place_of_worker(worker: Any) -> tuple[str, Any]:
    """Where a worker's scheduler is, and how to connect."""
    return worker.scheduler.address, worker.security


def place_of_client(client: Client) -> tuple[str, Any]:
    """Where a client's scheduler is, and how to connect."""
    scheduler: Any = client.scheduler
    return scheduler.address, client.security
