"""Whether work waits for workers that are not there, and for how long it may.

Pure: the caller brings the time, on a clock that nobody sets.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["OVER", "RESUMED", "STALLED", "StallNews", "StallWatch"]

STALLED = "stalled"
RESUMED = "resumed"
OVER = "over"

_TELL_AFTER_S = 1.0  # nannies that start a worker again take about as long


class StallNews(NamedTuple):
    """Something to tell of a stall."""

    what: str  # STALLED, RESUMED or OVER
    lasted_s: float
    left_s: float  # before it is over


class StallWatch:
    """Watches one cluster.

    Parameters
    ----------
    timeout_s : float
        How long work waits without any worker before it is given up.
    """

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._since: float | None = None
        self._told = False

    def look(self, now: float, *, waits: bool, workers: int) -> StallNews | None:
        """What is news now.

        Parameters
        ----------
        now : float
        waits : bool
            There is work to be done.
        workers : int
            That are there.
        """
        if workers or not waits:
            since, self._since = self._since, None
            told, self._told = self._told, False
            if since is None or not told:
                return None
            return StallNews(RESUMED, now - since, self.timeout_s)
        if self._since is None:
            self._since = now
        lasted = now - self._since
        if lasted >= self.timeout_s:
            return StallNews(OVER, lasted, 0.0)
        if self._told or lasted < _TELL_AFTER_S:
            return None
        self._told = True
        return StallNews(STALLED, lasted, self.timeout_s - lasted)
