"""What engines have in common whose submit gives a future with `result()`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from benchmarks.bodies import noop
from benchmarks.peers.unable import Unable

__all__ = ["FutureSurface"]


class FutureSurface:
    """A surface over ``made(function, retries)``, which gives a callable that submits."""

    say = staticmethod(noop)

    def made(self, function: Callable[..., Any], retries: int) -> Callable[..., Any]:
        """Return what submits one call and gives a future; a peer's module says how."""
        raise NotImplementedError

    def submitter(self, function: Callable[..., Any], *, retries: int = 0) -> Callable[..., Any]:
        """Return the peer's own callable."""
        return self.made(function, retries)

    def mapper(
        self, function: Callable[..., Any], *, retries: int = 0
    ) -> Callable[[Iterable[Any]], Sequence[Any]]:
        """Return a loop over the items, for peers without a map of their own."""
        submit = self.made(function, retries)
        return lambda items: [submit(item) for item in items]

    def gather(self, futures: Sequence[Any]) -> list[Any]:
        """Wait for one after the other."""
        return [self.result(future) for future in futures]

    def result(self, future: Any) -> Any:
        """Wait for one."""
        return future.result()

    def lines(self, expected: int) -> int:
        """Refuse: how a peer's lines come home is not compared."""
        raise Unable("lines are not compared")
