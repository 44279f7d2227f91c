"""The cyclic garbage collector while a flow run has a driver: fewer looks at young objects.

A hundred thousand task runs are as many objects that live on, none of them garbage, and Python's
default of one look every 700 of them takes longer than making them.  The setting is the process's,
so it is changed only from a more eager one, by counting, and put back with the last driver unless
somebody else has set it meanwhile.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["YOUNG_OBJECTS", "patient_collector"]

YOUNG_OBJECTS = 10_000  # a look takes about a tenth of a millisecond
_LOOKS = 50  # at the young, to one at those that are not so young any more


class _Setting:
    """Who wants the patient setting, and what was set before."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0
        self.before: tuple[int, int, int] | None = None  # None: not changed


_setting = _Setting()


@contextmanager
def patient_collector() -> Iterator[None]:
    """Have the collector look once every `YOUNG_OBJECTS` new objects at the most."""
    with _setting.lock:
        _setting.users += 1
        if _setting.users == 1:
            _setting.before = None
            before = gc.get_threshold()
            if 0 < before[0] < YOUNG_OBJECTS:  # 0: switched off, which is theirs to say
                gc.set_threshold(*_patient(before))
                _setting.before = before
    try:
        yield
    finally:
        with _setting.lock:
            _setting.users -= 1
            before_us = _setting.before
            if not _setting.users and before_us is not None:
                if gc.get_threshold() == _patient(before_us):
                    gc.set_threshold(*before_us)


def _patient(before: tuple[int, int, int]) -> tuple[int, int, int]:
    return YOUNG_OBJECTS, max(before[1], _LOOKS), before[2]
