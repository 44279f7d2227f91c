"""Prefect with a server of its own, which it starts for the process, and tasks in threads.

The folder of its database is a temporary one, so that no history of the user's is written to.
"""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from benchmarks.peers.future_surface import FutureSurface
from benchmarks.workloads import SLOTS, Surface

__all__ = ["PrefectEngine", "started"]

T = TypeVar("T")


@contextmanager
def started(runner: Callable[[], Any] | None = None, name: str = "prefect") -> Iterator[Any]:
    """Set the process up for Prefect; its server starts with the first flow."""
    with tempfile.TemporaryDirectory(prefix="benchmarks-prefect-") as folder:
        os.environ |= {
            "PREFECT_HOME": folder,
            "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
            "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_LOGGING_LEVEL": "ERROR",
        }
        yield PrefectEngine(runner or _threads, name)


def _threads() -> Any:
    from prefect.task_runners import ThreadPoolTaskRunner  # reads its settings when imported

    return ThreadPoolTaskRunner(max_workers=SLOTS)


class PrefectEngine(FutureSurface):
    """One flow per call, as with daskflow."""

    def __init__(self, runner: Callable[[], Any], name: str) -> None:
        self.name = name
        self._runner = runner

    def perform(self, work: Callable[[Surface], T]) -> T:
        """Call ``work`` in the body of a flow."""
        from prefect import flow  # as above

        answers: list[T] = []

        @flow(task_runner=self._runner())
        def benchmark() -> None:
            answers.append(work(self))

        benchmark()
        return answers[0]

    @functools.cache  # noqa: B019  # there is one engine in this process
    def _task(self, function: Callable[..., Any], retries: int) -> Any:
        from prefect import task  # as above
        from prefect.cache_policies import NO_CACHE

        return task(function, retries=retries, cache_policy=NO_CACHE)

    def made(self, function: Callable[..., Any], retries: int) -> Callable[..., Any]:
        """Return ``task.submit``."""
        submit: Callable[..., Any] = self._task(function, retries).submit
        return submit

    def mapper(
        self, function: Callable[..., Any], *, retries: int = 0
    ) -> Callable[[Iterable[Any]], Sequence[Any]]:
        """Return ``task.map``."""
        map_ = self._task(function, retries).map
        return lambda items: map_(list(items))
