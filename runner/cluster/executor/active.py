"""A parcel while it is being executed: what is left, what is running, what is not told yet.

The executor's thread takes runs from the left of `pending`; the watchdog may cut the parcel by
taking from the right.  Both operations are atomic, so each run is either executed or handed back.
Nothing is told after the final report, whoever comes late.
"""

from __future__ import annotations

import resource
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from daskflow.runner.cluster.executor.channel import Channel
from daskflow.runner.cluster.protocol import Commit, Item, Order, Report, Told
from daskflow.runner.context import LogLine

if TYPE_CHECKING:
    from daskflow.runner.cluster.executor.recorder import FlightRecorder
    from daskflow.runner.cluster.executor.timeouts import Clock

__all__ = ["ActiveParcel", "LeftBehind", "LineSink"]

_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


class LineSink:
    """Takes the log lines of a parcel's runs, until the parcel has ended.

    A thread that a task leaves behind keeps its context, and so this object: no more than this.
    """

    __slots__ = ("ended", "lines", "note")

    def __init__(self) -> None:
        self.lines: deque[LogLine] = deque()
        self.ended = False
        self.note: Callable[[LogLine], object] | None = None  # keeps it where SIGKILL cannot

    def __call__(self, line: LogLine) -> None:
        if not self.ended:
            self.lines.append(line)
            if self.note is not None:
                self.note(line)


class LeftBehind:
    """A body that is waited for no longer, and goes on."""

    __slots__ = ("label", "since", "told")

    def __init__(self, label: str) -> None:
        self.label = label  # of its task run
        self.since = time.monotonic()
        self.told = False  # to the driver


class ActiveParcel:
    """The state of one parcel on its worker."""

    def __init__(self, order: Order, channel: Channel) -> None:
        self.order = order
        self.channel = channel
        self.pending: deque[Item] = deque(order.items)
        self.told: deque[Told] = deque()
        self.sink = LineSink()
        self.handle = weakref.ref(self)  # what the contexts of its runs may hold
        self.returned: deque[int] = deque()  # not executed here; the next report hands them back
        self.running: tuple[int, float] | None = None  # the sync run being executed
        self.overlapping: dict[int, float] = {}  # the async runs being executed
        self.clocks: dict[int, Clock] = {}  # runs being executed whose time is limited
        self.left_behind: LeftBehind | None = None  # once a body was given up
        self.thread = threading.get_ident()  # that executes the parcel
        self.noted: set[int] = set()  # reported as running
        self.flight: FlightRecorder | None = None
        self.cancelled: frozenset[int] = frozenset()  # runs that nobody wants any more
        self.epoch = time.time() - time.perf_counter()
        self.deadline: float | None = None
        self.untold_bytes = 0
        self.reported_at = self.now()
        self.telling = threading.Lock()  # held to decide what the next report says
        self._gave_way: set[int] = set()  # threads
        self.besides: list[Callable[[], object]] = []  # what else the watchdog has to send
        self.waited_s = 0.0  # by the current run, for runs that it submitted
        self.committing: Callable[[], object] | None = None  # stores what is not stored yet
        self.unstored: deque[Any] = deque()  # outcomes that wait for it
        self.commits: deque[Commit] = deque()
        self.gone: deque[tuple[int, int]] = deque()  # inputs that their store has lost

    def now(self) -> float:
        """Wall-clock time as of the parcel's start, never set back or forward since."""
        return self.epoch + time.perf_counter()

    def start_box(self) -> None:
        """The time box begins: functions are loaded, the first run is about to start."""
        if self.order.box_s is not None:
            self.deadline = self.now() + self.order.box_s

    def cut(self) -> None:
        """Start nothing more of this parcel; the next report hands the rest back."""
        with self.telling:
            self.take_rest()

    def make_way(self) -> None:
        """The run that this thread executes is about to block: hand the rest and the slot back."""
        thread = threading.get_ident()
        if self.order.codes[0].is_async or thread in self._gave_way:
            return
        self._gave_way.add(thread)
        self.cut()
        self.report(waits=True)
        try:
            self.channel.secede()
        except (
            ValueError,
            KeyError,
            AttributeError,
        ):  # a thread that the task made itself: it holds no slot
            return

    def take_rest(self) -> None:
        """Take what has not started out; for those who hold `telling`."""
        rest: list[int] = []
        try:
            while True:
                rest.append(self.pending.pop()[0])
        except IndexError:
            self.returned.extend(reversed(rest))

    def report(
        self,
        *,
        running: Sequence[tuple[int, float]] = (),
        final: bool = False,
        waits: bool = False,
    ) -> None:
        """Tell the driver all that is known and untold.

        Parameters
        ----------
        running : sequence of (int, float)
            Runs that have been executing for a while, and since when.
        final : bool
            The parcel has ended; what it has not started is handed back.
        waits : bool
            The thread gives its slot back.
        """
        with self.telling:
            if self.sink.ended:
                return
            if final:
                self.take_rest()
                self.sink.ended = True
            if self.committing is not None:  # what is told is stored
                self.committing()
            # outcomes first: the log lines of whatever is taken here are in `lines` already
            told, lines, returned = (
                _drain(self.told),
                _drain(self.sink.lines),
                _drain(self.returned),
            )
            self.untold_bytes = 0
            self.reported_at = self.now()
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT if final else None
            channel = self.channel
            report = Report(
                self.order.parcel_id,
                channel.worker,
                channel.pid,
                told,
                list(running),
                lines,
                returned,
                final,
                peak,
                waits,
                _drain(self.commits),
                _drain(self.gone),
            )
            try:
                channel.send(report)
            except BaseException:  # not told: the next report has it
                self.told.extendleft(reversed(told))
                self.sink.lines.extendleft(reversed(lines))
                self.returned.extendleft(reversed(returned))
                self.commits.extendleft(reversed(report.commits))
                self.gone.extendleft(reversed(report.gone))
                raise

    def let_go(self) -> None:
        """Hold nothing of the task runs any more, whoever still holds the parcel."""
        self.order = self.order._replace(items=[])


def _drain(queue: deque[Any]) -> list[Any]:
    """Take what is there now, and not what is added meanwhile."""
    return [queue.popleft() for _ in range(len(queue))]
