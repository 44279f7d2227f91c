"""The cyclic garbage collector while a flow run has a driver: fewer looks at young objects.

A hundred thousand task runs are as many objects that live on, none of them garbage, and Python's
default of one look every 700 of them takes longer than making them.  The setting is the process's,
so it is changed only from a more eager one, by counting, and put back with the last driver unless
somebody else has set it meanwhile.

Some ten objects of each run that is open are ours and no garbage, so that many more may be young
before the collector looks; what is left for the user's objects stays the same.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["OBJECTS_PER_RUN", "YOUNG_OBJECTS", "Patience", "patient_collector"]

YOUNG_OBJECTS = 10_000  # a look takes about a tenth of a millisecond
OBJECTS_PER_RUN = 8
_MOST_RUNS = 12_500  # that are counted: the flow's own garbage is not to wait for ever
_LOOKS = 50  # at the young, to one at those that are not so young any more


class _Setting:
    """Who wants the patient setting, what was set before, and what is set now."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.open_runs: dict[Patience, int] = {}  # of those who want it
        self.before: tuple[int, int, int] | None = None  # None: not changed
        self.ours: tuple[int, int, int] | None = None

    def change(self) -> None:
        """Set what fits the open runs, unless somebody else has set something; under the lock."""
        if self.before is None or gc.get_threshold() != self.ours:
            return
        runs = min(sum(self.open_runs.values()), _MOST_RUNS)
        young = YOUNG_OBJECTS + OBJECTS_PER_RUN * runs
        self.ours = young, max(self.before[1], _LOOKS), self.before[2]
        gc.set_threshold(*self.ours)


_setting = _Setting()


class Patience:
    """One who wants the collector to be patient."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known = 0

    def follow(self, open_runs: int) -> None:
        """So many runs are open now; costs nothing while that changes little."""
        if abs(open_runs - self._known) <= 500 + self._known // 4:
            return
        self._known = open_runs
        with _setting.lock:
            _setting.open_runs[self] = open_runs
            _setting.change()


@contextmanager
def patient_collector() -> Iterator[Patience]:
    """Have the collector look once every `YOUNG_OBJECTS` new objects at the most."""
    patience = Patience()
    with _setting.lock:
        if not _setting.open_runs:
            _setting.before = None
            before = gc.get_threshold()
            if 0 < before[0] < YOUNG_OBJECTS:  # 0: switched off, which is theirs to say
                _setting.before = _setting.ours = before
        _setting.open_runs[patience] = 0
        _setting.change()
    try:
        yield patience
    finally:
        with _setting.lock:
            del _setting.open_runs[patience]
            if _setting.open_runs:
                _setting.change()
            elif _setting.before is not None and gc.get_threshold() == _setting.ours:
                gc.set_threshold(*_setting.before)
