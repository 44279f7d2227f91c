"""The way of answers to workers: a thread of its own, for `Client.run` waits for the worker."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from daskflow.runner.cluster.answers import Answer

__all__ = ["Deliverer"]

_logger = logging.getLogger(__name__)


class Deliverer:
    """Sends answers to workers from a thread of its own: `Client.run` waits for the worker."""

    def __init__(self, run: Callable[[str, list[Answer]], None]) -> None:
        self._run = run
        self._pool: ThreadPoolExecutor | None = None

    def __call__(self, worker: str, answers: list[Answer]) -> None:
        """Send `answers`, soon."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="daskflow-answers")
        self._pool.submit(self._send, worker, answers)

    def _send(self, worker: str, answers: list[Answer]) -> None:
        try:
            self._run(worker, answers)
        except Exception as error:  # the worker is gone: so is the task that asked
            _logger.debug("answers for %s were not delivered: %r", worker, error)

    def close(self) -> None:
        """Send nothing more."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
