"""The futures of a map, as a list or as a stream, and how to wait for several futures.

A map over something with a length gives a list.  A map over an iterator, which may never end, gives
a stream: it takes the next item when somebody waits for a future, in that thread, and only as far
as its window allows, so it needs the same memory however long it goes on.
"""

from __future__ import annotations

import contextlib
import functools
import queue
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from daskflow.errors import UsageError
from daskflow.runner.futures import Stream, TaskFuture, looked_at
from daskflow.runner.tolerance import Tolerance, others_failed

__all__ = ["DoneAndNotDone", "FutureList", "FutureStream", "as_completed", "wait"]

R = TypeVar("R")

WINDOW = 10_000  # runs of a stream that are submitted and not handed out, unless told otherwise


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
                results.append(future.result(_left(deadline), raises))
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


class FutureStream(Stream, Generic[R]):
    """The futures of a `map` over an iterator.

    Iterate over it, or hand it to `as_completed`, to get each future once while further items are
    taken: that may go on for ever.  `result`, `wait`, `ok` and `failed` take all items first.

    Parameters
    ----------
    calls : iterator
        What to submit, taken as it is needed.
    submit : callable
        Makes a future of one of them.
    window : int
        Runs that may be submitted and not final, and futures that may wait to be handed out.
    tolerance : Tolerance, optional
    on_begin : callable, optional
        Called with this stream before it takes the first item.
    """

    def __init__(
        self,
        calls: Iterator[Any],
        submit: Callable[[Any], TaskFuture[R]],
        window: int = WINDOW,
        tolerance: Tolerance | None = None,
        on_begin: Callable[[FutureStream[Any]], object] | None = None,
    ) -> None:
        self._on_begin = on_begin
        self._calls = calls
        self._submit = submit
        self._window = window
        self._tolerance = tolerance
        self._exhausted = False
        self._waits = False
        self._in_flight = 0
        self._ended: queue.SimpleQueue[TaskFuture[R]] = queue.SimpleQueue()
        self._pulled: dict[TaskFuture[R], None] = {}  # not handed out, in order of the input
        self._done: dict[TaskFuture[R], None] = {}  # those of them that are final
        self._handed_out = False
        self._all: FutureList[R] | None = None

    # -- one by one ----------------------------------------------------------------------------

    def __iter__(self) -> Iterator[TaskFuture[R]]:
        return self if self._all is None else iter(self._all)

    def __next__(self) -> TaskFuture[R]:
        pulled = False
        while True:
            self._note_ended()
            head = next(iter(self._pulled), None)
            if self._has_room() and not (pulled and head is not None and head.done()):
                pulled = self._pull()
            elif head is not None:
                return self._hand_out(head)
            elif self._exhausted:
                raise StopIteration
            else:
                self._wait_for_one(None)

    def completed(self, timeout: float | None = None) -> Iterator[TaskFuture[R]]:
        """Yield each future when its run is final; `as_completed` comes here."""
        if self._all is not None:
            yield from as_completed(self._all, timeout)
            return
        deadline = None if timeout is None else time.monotonic() + timeout
        pulled = False  # one item for each future that is handed out: an iterator may be slow
        while True:
            self._note_ended()
            if self._has_room() and not (pulled and self._done):
                pulled = self._pull()
            elif self._done:
                pulled = False
                yield self._hand_out(next(iter(self._done)))
            elif self._exhausted and not self._pulled:
                return
            elif not self._wait_for_one(deadline):
                raise TimeoutError(f"{len(self._pulled)} futures are not done after {timeout} s")

    def _has_room(self) -> bool:
        return not self._exhausted and max(self._in_flight, len(self._pulled)) < self._window

    def _pull(self) -> bool:
        """Take one item and submit it; False at the end."""
        if self._on_begin is not None:
            self._on_begin(self)
            self._on_begin = None
        call = next(self._calls, None)
        if call is None:
            self._exhausted = True
            return False
        future = self._submit(call)
        self._in_flight += 1
        self._pulled[future] = None
        if self._tolerance is not None:
            self._tolerance.add(future)
        future._owner.watch(future._run, functools.partial(self._ended.put, future))
        return True

    def _hand_out(self, future: TaskFuture[R]) -> TaskFuture[R]:
        self._handed_out = True
        del self._pulled[future]
        self._done.pop(future, None)
        return future

    def _note_ended(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._note(self._ended.get_nowait())

    def _note(self, future: TaskFuture[R]) -> None:
        self._in_flight -= 1
        if future in self._pulled:
            self._done[future] = None

    def _wait_for_one(self, deadline: float | None) -> bool:
        """Wait until a run has ended; False when that was not in time."""
        if not self._waits:
            self._waits = True
            _give_way(self._pulled)
        future = _next_ended(self._ended, deadline)
        if future is not None:
            self._note(future)
        return future is not None

    # -- all of them ---------------------------------------------------------------------------

    def all(self, timeout: float | None = None) -> FutureList[R]:
        """Take all items and return their futures as a list.

        Raises
        ------
        UsageError
            When some futures were handed out one by one already.
        TimeoutError
            When the window was too full for too long to take all.
        """
        if self._all is None:
            if self._handed_out:
                raise UsageError(
                    "futures of this map were taken one by one already; keep them in a list, "
                    "list(task.map(…)), to ask for all of them again"
                )
            deadline = None if timeout is None else time.monotonic() + timeout
            while not self._exhausted:
                self._note_ended()
                if self._in_flight < self._window:
                    self._pull()
                elif not self._wait_for_one(deadline):
                    raise TimeoutError(
                        f"not all items were submitted after {timeout} s; {self._in_flight} runs "
                        "are open"
                    )
            self._all = FutureList(self._pulled, self._tolerance)
            self._pulled, self._done = {}, {}
        return self._all

    def submit_rest(self) -> None:
        """Submit what nobody has asked for yet; at the end of the flow."""
        while not self._exhausted:
            self._note_ended()
            self._pulled.clear()
            self._done.clear()
            if self._in_flight < self._window:
                self._pull()
            else:
                self._wait_for_one(None)

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> list[Any]:
        """As `FutureList.result`, of all items."""
        deadline = None if timeout is None else time.monotonic() + timeout
        return self.all(timeout).result(_left(deadline), raise_on_failure)

    def wait(self, timeout: float | None = None) -> DoneAndNotDone:
        """As `FutureList.wait`, for all items."""
        deadline = None if timeout is None else time.monotonic() + timeout
        return self.all(timeout).wait(_left(deadline))

    @property
    def ok(self) -> FutureList[R]:
        """Those that succeeded, after waiting for all."""
        return self.all().ok

    @property
    def failed(self) -> FutureList[R]:
        """Those that ended badly, after waiting for all."""
        return self.all().failed

    def __reduce__(self) -> Any:  # a task gets a plain list of results
        return list, (list(self.all()),)


def _left(deadline: float | None) -> float | None:
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
    given = list(futures.all() if isinstance(futures, FutureStream) else futures)
    _check(given, "wait")
    by_owner: dict[int, list[TaskFuture[Any]]] = {}
    for future in given:
        by_owner.setdefault(id(future._owner), []).append(future)
    deadline = None if timeout is None else time.monotonic() + timeout
    for group in by_owner.values():
        group[0]._owner.wait_for([future._run for future in group], _left(deadline))
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
    if isinstance(futures, FutureStream):
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
            _give_way(given)
        future = _next_ended(ended, deadline)
        if future is None:
            raise TimeoutError(f"{left} of {len(given)} futures are not done after {timeout} s")
        yield future


def _give_way(futures: Iterable[TaskFuture[Any]]) -> None:
    """This thread is about to wait: the slot that it may hold is free for what it waits for."""
    for future in futures:
        if not future.done():
            future._owner.wait_for((future._run,), 0)
            return


def _next_ended(
    ended: queue.SimpleQueue[TaskFuture[R]], deadline: float | None
) -> TaskFuture[R] | None:
    """The next future out of `ended`; None when there was none in time."""
    with contextlib.suppress(queue.Empty):
        return ended.get(timeout=_left(deadline))
    return None


def _check(futures: Sequence[Any], caller: str) -> None:
    for position, future in enumerate(futures):
        if not isinstance(future, TaskFuture):
            raise UsageError(
                f"{caller}() takes futures, but number {position} is {future!r}; pass what "
                "task.submit() and task.map() return"
            )
