"""A parcel while it is being executed: what is left, what is running, what is not told yet.

The executor's thread takes runs from the left of `pending`; the watchdog may cut the parcel by
taking from the right.  Both operations are atomic, so each run is either executed or handed back.
"""

from __future__ import annotations

import resource
import sys
import threading
import time
from collections import deque
from typing import Any

from daskflow.runner.cluster.executor.channel import Channel
from daskflow.runner.cluster.protocol import Item, Order, Report, Told
from daskflow.runner.context import LogLine

__all__ = ["ActiveParcel"]

_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


class ActiveParcel:
    """The state of one parcel on its worker."""

    def __init__(self, order: Order, channel: Channel) -> None:
        self.order = order
        self.channel = channel
        self.pending: deque[Item] = deque(order.items)
        self.told: deque[Told] = deque()
        self.logs: deque[LogLine] = deque()
        self.running: tuple[int, float] | None = None  # the sync run being executed
        self.overlapping: dict[int, float] = {}  # the async runs being executed
        self.noted: set[int] = set()  # reported as running
        self.deadline: float | None = None
        self.untold_bytes = 0
        self.reported_at = time.time()
        self._sending = threading.Lock()

    def take_rest(self) -> list[int]:
        """Take what has not started, for handing it back."""
        rest: list[int] = []
        pop: Any = self.pending.pop
        try:
            while True:
                rest.append(pop()[0])
        except IndexError:
            rest.reverse()
            return rest

    def report(
        self,
        *,
        handed_back: list[int] | None = None,
        running: list[tuple[int, float]] | None = None,
        final: bool = False,
    ) -> None:
        """Tell the driver all that is known and untold."""
        with self._sending:
            # outcomes first: the log lines of whatever is taken here are in `logs` already
            told = _drain(self.told)
            logs = _drain(self.logs)
            self.untold_bytes = 0
            self.reported_at = time.time()
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT if final else None
            self.channel.send(
                Report(
                    self.order.parcel_id,
                    self.channel.worker,
                    self.channel.pid,
                    told,
                    running or [],
                    logs,
                    handed_back or [],
                    final,
                    peak,
                )
            )


def _drain(queue: deque[Any]) -> list[Any]:
    taken = []
    try:
        while True:
            taken.append(queue.popleft())
    except IndexError:
        return taken
