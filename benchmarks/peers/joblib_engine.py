"""joblib with its loky processes: independent calls only, nothing recorded."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from joblib import Parallel, delayed

from benchmarks.bodies import noop
from benchmarks.peers.unable import Unable
from benchmarks.workloads import SLOTS, Surface

__all__ = ["started"]

T = TypeVar("T")


@contextmanager
def started() -> Iterator[_Joblib]:
    """Start the worker processes and keep them."""
    with Parallel(n_jobs=SLOTS) as pool:
        yield _Joblib(pool)


class _Joblib:
    name = "joblib"
    say = staticmethod(noop)

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    def perform(self, work: Callable[[Surface], T]) -> T:
        return work(self)

    def submitter(self, function: Callable[..., Any], *, retries: int = 0) -> Callable[..., Any]:
        if retries:
            raise Unable("joblib does not retry")
        return functools.partial(_call, delayed(function))

    def mapper(
        self, function: Callable[..., Any], *, retries: int = 0
    ) -> Callable[[Iterable[Any]], Sequence[Any]]:
        submit = self.submitter(function, retries=retries)
        return lambda items: [submit(item) for item in items]

    def gather(self, futures: Sequence[Any]) -> list[Any]:
        return list(self._pool(call for call in futures))

    def result(self, future: Any) -> Any:
        return self.gather([future])[0]

    def lines(self, expected: int) -> int:
        raise Unable("joblib brings no lines home")


def _call(made: Callable[..., Any], *arguments: Any) -> Any:
    if any(isinstance(argument, tuple) for argument in arguments):
        raise Unable("a call of joblib cannot wait for another")
    return made(*arguments)
