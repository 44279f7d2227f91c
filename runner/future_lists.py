"""The futures of a map as a list, and how to wait for several futures."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from daskflow.errors import UsageError
from daskflow.runner.deadlines import flow_deadline
from daskflow.runner.futures import Stream, TaskFuture, looked_at
from daskflow.runner.tolerance import Tolerance, others_failed

__all__ = [
    "DoneAndNotDone",
    "FutureList",
    "as_completed",
    "give_way",
    "next_ended",
    "time_left",
    "wait",
]

R = TypeVar("R")
E = TypeVar("E")


class FutureList(list[TaskFuture[R]]):
    """The futures of a `map`, in the order of its input."""

    def __init__(
        self, futures: Iterable[TaskFuture[R]] = (), tolerance: Tolerance | None = None
    ) -> None:
        super().__init__(futures)
        self._tolerance = tolerance

    def __reduce__(self) -> Any:  # a task gets a plain list of results
        return list, (list(self),)

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> list[Any]:
        """Wait for all and return their results, in order.

        Parameters
        ----------
        timeout : float, optional
            Seconds for all of them together.
        raise_on_failure : bool, default True
            False puts exceptions in the places of the runs that ended badly; so do failures that
            `tolerate` of the map allows.

        Raises
        ------
        TimeoutError
            When they are not all final in time.
        TooManyFailed
            When more failed than `tolerate` of the map allows.
        BaseException
            Of the first run, in order, that ended badly; a note tells of the others.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        tolerance = self._tolerance
        results = []
        for future in self:
            try:
                raises = raise_on_failure and tolerance is None
                results.append(future.result(time_left(deadline), raises))
            except BaseException as error:
                if future.done():  # whoever catches this has seen that runs of the list fail
                    self._tell_of_others(future, error)
                raise
        if tolerance is not None and raise_on_failure:
            over = tolerance.judge()
            if over is not None:
                tolerance.told = True
                raise over
        return results

    def _tell_of_others(self, future: TaskFuture[R], error: BaseException) -> None:
        for each in self:
            looked_at(each._run)
        told = getattr(error, "__notes__", ())
        note = others_failed(self, future)
        if note is not None and not any(str(each).startswith(future.name) for each in told):
            with contextlib.suppress(Exception):  # user code: an exception that takes no note
                error.add_note(note)

    def tolerated(self) -> Any:
        """The results, if some runs may fail and not too many have; else the list itself."""
        if self._tolerance is None:
            return self
        self.wait()
        return self if self._tolerance.judge() is not None else self.result()

    def wait(self, timeout: float | None = None) -> DoneAndNotDone:
        """Wait until all are final, for `timeout` seconds at most."""
        return wait(self, timeout)

    @property
    def ok(self) -> FutureList[R]:
        """Those that succeeded, after waiting for all."""
        self.wait()
        return FutureList(future for future in self if future.state.is_completed())

    @property
    def failed(self) -> FutureList[R]:
        """Those that ended badly, after waiting for all."""
        self.wait()
        return FutureList(future for future in self if not future.state.is_completed())


def time_left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())


class DoneAndNotDone(NamedTuple):
    """What `wait` returns."""

    done: set[TaskFuture[Any]]
    not_done: set[TaskFuture[Any]]


def wait(futures: Iterable[TaskFuture[Any]], timeout: float | None = None) -> DoneAndNotDone:
    """Wait until all `futures` are final, for `timeout` seconds at most.

    Waiting alone does not count as having looked at how a run ended: a flow still fails for runs
    that failed and whose result or state it never asked for.

    Returns
    -------
    DoneAndNotDone
        Two sets of futures, ``done`` and ``not_done``.
    """
    given = list(futures.all() if isinstance(futures, Stream) else futures)
    _check(given, "wait")
    by_owner: dict[int, list[TaskFuture[Any]]] = {}
    for future in given:
        by_owner.setdefault(id(future._owner), []).append(future)
    deadline = None if timeout is None else time.monotonic() + timeout
    for group in by_owner.values():
        group[0]._owner.wait_for([future._run for future in group], time_left(deadline))
    done = {future for future in given if future.done()}
    return DoneAndNotDone(done, set(given) - done)


def as_completed(
    futures: Iterable[TaskFuture[R]], timeout: float | None = None
) -> Iterator[TaskFuture[R]]:
    """Yield futures in the order in which their runs become final.

    Parameters
    ----------
    futures : iterable of TaskFuture
        A generator is consumed before the first one is yielded.  A map over an iterator is not:
        its items are taken as futures are yielded, for ever if need be.
    timeout : float, optional
        Seconds for all of them together.

    Raises
    ------
    TimeoutError
        When not all are final in time; those that are were yielded.
    """
    if isinstance(futures, Stream):
        yield from futures.completed(timeout)
        return
    given = list(futures)
    _check(given, "as_completed")
    ended: queue.SimpleQueue[TaskFuture[R]] = queue.SimpleQueue()
    for each in given:
        each.add_done_callback(ended.put)
    deadline = None if timeout is None else time.monotonic() + timeout
    for left in range(len(given), 0, -1):
        if left == len(given):
            give_way(given)
        future = next_ended(ended, deadline)
        if future is None:
            raise TimeoutError(f"{left} of {len(given)} futures are not done after {timeout} s")
        yield future


def give_way(futures: Iterable[TaskFuture[Any]]) -> None:
    """This thread is about to wait: the slot that it may hold is free for what it waits for."""
    for future in futures:
        if not future.done():
            future._owner.wait_for((future._run,), 0)
            return


def next_ended(ended: queue.SimpleQueue[E], deadline: float | None) -> E | None:
    """The next one out of `ended`; None when there was none in time.

    Raises
    ------
    RanOut
        When the time of the flow run is over in which this is called.
    """
    limit = flow_deadline()
    while True:
        left = time_left(deadline)
        with contextlib.suppress(queue.Empty):
            if limit is None:
                return ended.get(timeout=left)
            in_time = limit.left()
            return ended.get(timeout=in_time if left is None else min(left, in_time))
        if limit is None or (left is not None and left <= 0):
            return None


def _check(futures: Sequence[Any], caller: str) -> None:
    for position, future in enumerate(futures):
        if not isinstance(future, TaskFuture):
            raise UsageError(
                f"{caller}() takes futures, but number {position} is {future!r}; pass what "
                "task.submit() and task.map() return"
            )
