"""Whether a storage is asked at all: one that does not answer is left alone for a while.

A cache on a storage that hangs must not hold every run for the length of a time limit.  So the
first request that gets no answer stops all others of this process for a minute, and a second time
for two, up to ten.  Then one request tries.  Pure but for the state: `now` is given.
"""

from __future__ import annotations

from collections.abc import Hashable

__all__ = ["Breaker", "breaker_of", "forget_failures"]

PAUSE_S = 60.0
LONGEST_PAUSE_S = 600.0
TOLERATED = 3  # answers in a row that tell of a fault of the server


class Breaker:
    """The state of one storage in this process.

    Several threads may use it: what they lose of each other's counts is one request more.
    """

    __slots__ = ("_failures", "_pauses", "_since", "_until")

    def __init__(self) -> None:
        self._failures = 0
        self._pauses = 0
        self._since = self._until = 0.0

    def left_alone_s(self, now: float) -> float:
        """Return for how long (seconds) nothing is asked any more; 0.0: ask.

        Parameters
        ----------
        now : float
            Seconds of a clock that never goes back.
        """
        if not self._pauses or not self._until:
            return 0.0
        if now < self._until:
            return self._until - now
        # whoever comes first tries; the others wait for what it finds
        self._until = now + PAUSE_S
        return 0.0

    def failed(self, now: float, *, silent: bool) -> None:
        """Tell of a request that failed; `silent`: there was no answer at all."""
        self._failures += 1
        if silent or self._failures >= TOLERATED:
            self._since = now
            self._until = now + min(PAUSE_S * 2**self._pauses, LONGEST_PAUSE_S)
            self._pauses += 1
            self._failures = 0

    def answered(self) -> None:
        """Tell of a request that was answered."""
        if self._failures or self._pauses:
            self._failures = self._pauses = 0
            self._until = 0.0

    def failed_ago_s(self, now: float) -> float:
        """Return how long ago (seconds) the last pause began."""
        return now - self._since


# all stores of this process that ask the same server know when it is silent
_breakers: dict[tuple[str, Hashable], Breaker] = {}


def breaker_of(url: str, options: Hashable) -> Breaker:
    """Return the one that this process has for a storage."""
    return _breakers.setdefault((url, options), Breaker())


def forget_failures() -> None:
    """Ask every storage again at once, also those that gave no answer."""
    for breaker in _breakers.values():
        breaker.answered()
    _breakers.clear()
