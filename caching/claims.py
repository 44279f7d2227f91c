"""Claims on cache keys: while one flow process makes a result, others that want it wait for it.

A claim is a note, never a lock: where it cannot be had, or its holder is gone, the result is made
twice and the first one is kept.  Who keeps claims is given by the flow process; workers have none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import NamedTuple, Protocol

__all__ = ["Claims", "Taken", "claim_place"]


class Taken(NamedTuple):
    """What came of claiming.

    Attributes
    ----------
    refused : set of str
        What somebody else holds.
    others_at : float
        When somebody else gave something up last (unix seconds), 0.0 for never: who looked a key
        up before that has to look again.
    """

    refused: set[str]
    others_at: float = 0.0


class Claims(Protocol):
    """Claims of one driver on what it makes; each method is one transaction.

    Every method raises `StoreError` when the store that keeps them cannot answer.
    """

    def take(self, places: Collection[str]) -> Taken:
        """Claim `places`, those that nobody else holds."""

    def executing(self, places: Collection[str], now: bool) -> None:
        """Tell whether what makes these results is executing, and waits for no other run."""

    def release(self, places: Collection[str]) -> None:
        """Give `places` up."""

    def free(self, places: Collection[str]) -> set[str]:
        """Return those of `places` that `take` would get."""

    def close(self) -> None:
        """Give everything up."""


def claim_place(url: str, key: str) -> str:
    """Return the name under which the entry `key` of the result store at `url` is claimed.

    The URL itself may hold a password, so only a digest of it gets into another store.
    """
    return f"{key}@{hashlib.sha256(url.encode()).hexdigest()[:12]}"
