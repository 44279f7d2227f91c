"""Parsl with its HighThroughputExecutor: two worker processes on this machine."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import parsl
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import LocalProvider

from benchmarks.peers.future_surface import FutureSurface
from benchmarks.workloads import SLOTS, Surface

__all__ = ["started"]

T = TypeVar("T")


@contextmanager
def started() -> Iterator[_Parsl]:
    """Start the executor in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="benchmarks-parsl-") as folder:
        executor = HighThroughputExecutor(
            address="127.0.0.1",
            max_workers_per_node=SLOTS,
            cores_per_worker=0.01,
            provider=LocalProvider(init_blocks=1, max_blocks=1),
        )
        config = Config(
            executors=[executor], run_dir=folder, retries=1, usage_tracking=0,
            initialize_logging=False,
        )  # fmt: skip
        with parsl.load(config):
            yield _Parsl()


class _Parsl(FutureSurface):
    name = "parsl"

    def perform(self, work: Callable[[Surface], T]) -> T:
        return work(self)

    @functools.cache  # noqa: B019  # there is one engine in this process
    def made(self, function: Callable[..., Any], retries: int) -> Callable[..., Any]:
        # retries are set for all apps alike, in `Config`
        app: Callable[..., Any] = parsl.python_app(function)
        return app
