"""Controls beside plain `client.submit` and `client.map`: `dask.delayed`, one loop, one thread.

They run the shapes of `workloads` through the same surface.  What a control has no way of doing
(retries in a plain loop) it is not asked for.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import dask
from distributed import Client

from benchmarks.bodies import noop
from benchmarks.workloads import Surface

__all__ = ["Delayed", "OneLoop", "SerialLoop"]

T = TypeVar("T")


class Delayed:
    """`dask.delayed`: the graph is built first, then computed in one call."""

    name = "dask.delayed"
    say = staticmethod(noop)

    def __init__(self, client: Client) -> None:
        self._client = client

    def perform(self, work: Callable[[Surface], T]) -> T:
        """Call ``work``; nothing is ever started before a result is asked for."""
        return work(self)

    def submitter(self, function: Callable[..., Any], *, retries: int = 0) -> Callable[..., Any]:
        """Return the function as `dask.delayed` gives it."""
        return dask.delayed(function, pure=False)  # type: ignore[no-any-return]

    def mapper(
        self, function: Callable[..., Any], *, retries: int = 0
    ) -> Callable[[Iterable[Any]], Sequence[Any]]:
        """Return a loop over the items."""
        submit = self.submitter(function)
        return lambda items: [submit(item) for item in items]

    def gather(self, futures: Sequence[Any]) -> list[Any]:
        """Compute all of them at once."""
        return list(self._client.gather(self._client.compute(list(futures))))

    def result(self, future: Any) -> Any:
        """Compute one."""
        return self._client.compute(future).result()

    def lines(self, expected: int) -> int:
        """Return none: nothing is told."""
        return 0


class SerialLoop:
    """The functions called one after the other in this thread."""

    name = "serial"
    say = staticmethod(noop)

    def perform(self, work: Callable[[Surface], T]) -> T:
        """Call ``work``."""
        return work(self)

    def submitter(self, function: Callable[..., Any], *, retries: int = 0) -> Callable[..., Any]:
        """Return the function itself: a future is its value."""
        return function

    def mapper(
        self, function: Callable[..., Any], *, retries: int = 0
    ) -> Callable[[Iterable[Any]], Sequence[Any]]:
        """Return a loop over the items."""
        return lambda items: [function(item) for item in items]

    def gather(self, futures: Sequence[Any]) -> list[Any]:
        """Return the values."""
        return list(futures)

    def result(self, future: Any) -> Any:
        """Return the value."""
        return future

    def lines(self, expected: int) -> int:
        """Return none: nothing is told."""
        return 0


class OneLoop(SerialLoop):
    """Coroutines in one ``asyncio.gather``: the least that naps can take."""

    name = "asyncio"

    def mapper(
        self, function: Callable[..., Any], *, retries: int = 0
    ) -> Callable[[Iterable[Any]], Sequence[Any]]:
        """Return what makes a coroutine for each item."""
        return lambda items: [functools.partial(function, item) for item in items]

    def gather(self, futures: Sequence[Any]) -> list[Any]:
        """Run all coroutines at once."""

        async def together() -> list[Any]:
            return list(await asyncio.gather(*(start() for start in futures)))

        return asyncio.run(together())
