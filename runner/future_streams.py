"""The futures of a map over an iterator, which may never end.

A stream takes the next item when somebody waits for a future, in that thread, and only as far as
its window allows, so it needs the same memory however long it goes on.
"""

from __future__ import annotations

import contextlib
import queue
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

from daskflow.errors import UsageError
from daskflow.runner.core.graph import Run
from daskflow.runner.future_lists import (
    DoneAndNotDone,
    FutureList,
    as_completed,
    give_way,
    next_ended,
    time_left,
)
from daskflow.runner.futures import Stream, TaskFuture
from daskflow.runner.pace import Announcer
from daskflow.runner.tolerance import Tolerance

__all__ = ["WINDOW", "FutureStream"]

R = TypeVar("R")

WINDOW = 10_000  # runs of a stream that are submitted and not handed out, unless told otherwise


_AT_A_TIME = 100  # submissions before other coroutines get a turn


def _silent() -> None:
    """Nobody waits in an event loop."""


class FutureStream(Stream, Generic[R]):
    """The futures of a `map` over an iterator.

    Iterate over it, or hand it to `as_completed`, to get each future once while further items are
    taken: that may go on for ever.  `result`, `wait`, `ok` and `failed` take all items first.

    Parameters
    ----------
    calls : iterator
        Positional and keyword arguments of what to submit, taken as they are needed.
    submit : callable
        Makes a future of one of them, of `first` and of what `announcer` has made.
    first : sequence
        What each of them waits for.
    announcer : callable
        Makes of a callback what tells it of ends, or None where each has to be watched.
    window : int
        Runs that may be submitted and not final, and futures that may wait to be handed out.
    tolerance : Tolerance, optional
    on_begin : callable, optional
        Called with this stream before it takes the first item.
    """

    def __init__(
        self,
        calls: Iterator[Any],
        submit: Callable[..., TaskFuture[R]],
        first: Sequence[Any],
        announcer: Callable[[Callable[[Run], object]], Announcer | None],
        window: int = WINDOW,
        tolerance: Tolerance | None = None,
        on_begin: Callable[[FutureStream[Any]], object] | None = None,
    ) -> None:
        self._on_begin = on_begin
        self._calls = calls
        self._submit = submit
        self._announcer = announcer(self._tell_ended)
        self._given = (first,) if self._announcer is None else (first, self._announcer)
        self._window = window
        self._tolerance = tolerance
        self._exhausted = False
        self._waits = False
        self._in_flight = 0
        self._ended: queue.SimpleQueue[Run] = queue.SimpleQueue()
        self._bell: Callable[[], object] = _silent  # rung when a run has ended
        # ordered ones, for a plain dict looks at all that was deleted before its first item
        self._pulled: OrderedDict[Run, TaskFuture[R]] = OrderedDict()  # not handed out
        self._done: OrderedDict[Run, TaskFuture[R]] = OrderedDict()  # those of them that are final
        self._handed_out = False
        self._all: FutureList[R] | None = None

    # -- one by one ----------------------------------------------------------------------------

    def __iter__(self) -> Iterator[TaskFuture[R]]:
        return self if self._all is None else iter(self._all)

    def __next__(self) -> TaskFuture[R]:
        pulled = False
        while True:
            self._note_ended()
            head = next(iter(self._pulled.values()), None)
            if self._has_room() and not (pulled and head is not None and head.done()):
                pulled = self._pull()
            elif head is not None:
                return self._hand_out(head)
            elif self._exhausted:
                raise StopIteration
            else:
                self._wait_for_one(None)

    async def __aiter__(self) -> AsyncIterator[TaskFuture[R]]:
        """As plain iteration, for async code: its event loop goes on while this waits for room."""
        if self._all is not None:
            for future in self._all:
                yield future
            return
        import asyncio  # heavy for scripts without async code

        pulled = 0
        while True:
            self._note_ended()
            head = next(iter(self._pulled.values()), None)
            if self._has_room() and not (pulled and head is not None and head.done()):
                pulled += self._pull()
                if pulled % _AT_A_TIME == 0:
                    await asyncio.sleep(0)
            elif head is not None:
                pulled = 0
                yield self._hand_out(head)
            elif self._exhausted:
                return
            else:
                await self._one_ended()

    async def _one_ended(self) -> None:
        import asyncio  # heavy for scripts without async code

        loop, rung = asyncio.get_running_loop(), asyncio.Event()

        def ring() -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(rung.set)

        self._bell = ring
        try:
            if self._ended.empty():
                await rung.wait()
        finally:
            self._bell = _silent

    def completed(self, timeout: float | None = None) -> Iterator[TaskFuture[R]]:
        """Yield each future when its run is final; `as_completed` comes here."""
        if self._all is not None:
            yield from as_completed(self._all, timeout)
            return
        deadline = None if timeout is None else time.monotonic() + timeout
        pulled = False  # one item for each future that is handed out: an iterator may be slow
        while True:
            if not self._ended.empty():
                self._note_ended()
            if not (pulled and self._done) and self._has_room():
                pulled = self._pull()
            elif self._done:
                pulled, self._handed_out = False, True
                run, future = self._done.popitem(last=False)  # as `_hand_out`, in less time
                del self._pulled[run]
                yield future
            elif self._exhausted and not self._pulled:
                return
            elif not self._wait_for_one(deadline):
                raise TimeoutError(f"{len(self._pulled)} futures are not done after {timeout} s")

    def _has_room(self) -> bool:
        window = self._window
        return self._in_flight < window and len(self._pulled) < window and not self._exhausted

    def _pull(self) -> bool:
        """Take one item and submit it; False at the end."""
        if self._on_begin is not None:
            self._on_begin(self)
            self._on_begin = None
        call = next(self._calls, None)
        if call is None:
            self._exhausted = True
            return False
        future = self._submit(*call, *self._given)
        run, announcer = future._run, self._announcer
        self._in_flight += 1
        self._pulled[run] = future
        if self._tolerance is not None:
            self._tolerance.add(future)
        if announcer is None or announcer.last is not run:  # an earlier attempt's comes back as is
            future._owner.watch(run, self._tell_ended)
        return True

    def _tell_ended(self, run: Run) -> None:
        self._ended.put(run)
        self._bell()

    def _hand_out(self, future: TaskFuture[R]) -> TaskFuture[R]:
        self._handed_out = True
        run = future._run
        del self._pulled[run]
        self._done.pop(run, None)
        return future

    def _note_ended(self) -> None:
        ended, pulled, done = self._ended, self._pulled, self._done
        taken = ended.qsize()  # nobody else takes from it
        for _ in range(taken):
            run = ended.get_nowait()
            if run in pulled:
                done[run] = pulled[run]
        self._in_flight -= taken

    def _note(self, run: Run) -> None:
        self._in_flight -= 1
        if (future := self._pulled.get(run)) is not None:
            self._done[run] = future

    def _wait_for_one(self, deadline: float | None) -> bool:
        """Wait until a run has ended; False when that was not in time."""
        if not self._waits:
            self._waits = True
            give_way(self._pulled.values())
        run = next_ended(self._ended, deadline)
        if run is not None:
            self._note(run)
        return run is not None

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
            self._all = FutureList(self._pulled.values(), self._tolerance)
            self._pulled, self._done = OrderedDict(), OrderedDict()
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
        return self.all(timeout).result(time_left(deadline), raise_on_failure)

    def wait(self, timeout: float | None = None) -> DoneAndNotDone:
        """As `FutureList.wait`, for all items."""
        deadline = None if timeout is None else time.monotonic() + timeout
        return self.all(timeout).wait(time_left(deadline))

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
