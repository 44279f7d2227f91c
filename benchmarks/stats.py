"""Medians and spreads of a handful of rounds; pure.

Ratios are taken round by round and then summarised, so that a machine which slows down between two
rounds slows both sides of each ratio.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Spread", "paired_ratios", "summarise", "turn_order"]


class Spread(NamedTuple):
    """The middle of some rounds and how far they lie apart."""

    median: float
    low: float
    high: float
    rounds: int


def summarise(values: Sequence[float]) -> Spread:
    """Return median, lowest and highest of at least one value."""
    return Spread(statistics.median(values), min(values), max(values), len(values))


def paired_ratios(control: Sequence[float], subject: Sequence[float]) -> list[float]:
    """Return how many times less the subject took than the control, round by round."""
    return [c / s if s > 0 else float("inf") for c, s in zip(control, subject, strict=True)]


def turn_order(names: Sequence[str], round_number: int) -> list[str]:
    """Return the names rotated by the round, so that none always goes first or last."""
    start = round_number % len(names)
    return [*names[start:], *names[:start]]
