"""Ray on this machine, with two CPUs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import ray

from benchmarks.peers.future_surface import FutureSurface
from benchmarks.workloads import SLOTS, Surface

__all__ = ["started"]

T = TypeVar("T")


@contextmanager
def started() -> Iterator[_Ray]:
    """Start Ray without its dashboard, and end it."""
    ray.init(num_cpus=SLOTS, include_dashboard=False, log_to_driver=False)
    try:
        yield _Ray()
    finally:
        ray.shutdown()


class _Ray(FutureSurface):
    name = "ray"

    def perform(self, work: Callable[[Surface], T]) -> T:
        return work(self)

    def made(self, function: Callable[..., Any], retries: int) -> Callable[..., Any]:
        remote = ray.remote(function).options(max_retries=retries, retry_exceptions=retries > 0)
        submit: Callable[..., Any] = remote.remote
        return submit

    def gather(self, futures: Sequence[Any]) -> list[Any]:
        return list(ray.get(list(futures)))

    def result(self, future: Any) -> Any:
        return ray.get(future)
