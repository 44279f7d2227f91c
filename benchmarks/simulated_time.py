"""Time and chance of a simulation: a heap of events, and one source of random numbers."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable

__all__ = ["Clockwork"]


class Clockwork:
    """What happens, in the order of its time; what happens at the same time, as it was announced.

    Parameters
    ----------
    seed : int
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self.events: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._announced = itertools.count()

    def at(self, when: float, call: Callable[..., None], *args: object) -> None:
        """Have `call` happen at a time."""
        heapq.heappush(self.events, (when, next(self._announced), call, args))

    def after(self, delay: float, call: Callable[..., None], *args: object) -> None:
        """Have `call` happen after a delay."""
        self.at(self.now + delay, call, *args)

    def chance(self, probability: float) -> bool:
        """Whether something happens that has this probability."""
        return probability > 0.0 and self.random.random() < probability

    def latency(self) -> float:
        """Seconds that the next message takes."""
        return self.random.choice((0.0, 0.001, 0.004, 0.03))
