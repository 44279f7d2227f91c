"""Retry decisions: whether a task run goes again after an exception or a lost worker, and when.

Pure: the caller brings the jitter's random number.  `retries` are spent by exceptions,
`crash_retries` by lost workers; neither pays for the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from daskflow.errors import UsageError

__all__ = ["DelaySpec", "RetryPolicy", "crash_backoff", "retry_delay", "validate_delays"]

DelaySpec = float | Sequence[float] | Callable[[int], Sequence[float]]

_CRASH_BACKOFF_S = (0.0, 0.5, 2.0, 5.0)  # the first loss is most often a preemption: go at once


class RetryPolicy(NamedTuple):
    """How often a task run may go again.

    Attributes
    ----------
    retries : int
        Further attempts after an exception, 0 or more.
    delays_s : tuple of float
        Seconds before each further attempt; the last one repeats.
    jitter_factor : float
        A delay is multiplied by a number between 1 and 1 + `jitter_factor`.
    crash_retries : int
        Further executions after a worker was lost while executing the run, 0 or more.
    """

    retries: int = 0
    delays_s: tuple[float, ...] = (0.0,)
    jitter_factor: float = 0.0
    crash_retries: int = 3


def retry_delay(policy: RetryPolicy, failures: int, jitter: float = 0.0) -> float | None:
    """Seconds to wait before the next attempt, or None when the budget is spent.

    Parameters
    ----------
    policy : RetryPolicy
    failures : int
        Exceptions so far, the one that is being decided on included (1 for the first).
    jitter : float, default 0.0
        A random number in [0, 1); 0 gives the plain delay.
    """
    if failures > policy.retries:
        return None
    delay = policy.delays_s[min(failures, len(policy.delays_s)) - 1]
    return delay * (1.0 + policy.jitter_factor * jitter)


def crash_backoff(policy: RetryPolicy, crashes: int) -> float | None:
    """Seconds to wait after the `crashes`-th lost worker, or None when the budget is spent."""
    if crashes > policy.crash_retries:
        return None
    return _CRASH_BACKOFF_S[min(crashes, len(_CRASH_BACKOFF_S)) - 1]


def validate_delays(delays: DelaySpec, retries: int) -> tuple[float, ...]:
    """Turn what a user wrote as `retry_delay_seconds` into a tuple of seconds.

    Parameters
    ----------
    delays : float, sequence of float, or callable
        A callable gets the number of retries and returns a sequence of seconds.
    retries : int

    Returns
    -------
    tuple of float
        At least one entry.

    Raises
    ------
    UsageError
        For a delay that is negative, NaN, infinite or no number, or an empty sequence.
    """
    given = _called(delays, retries) if callable(delays) else delays
    entries = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]
    if not entries:
        raise UsageError(
            f"retry_delay_seconds={delays!r} has no entries; give a number of seconds or a list"
        )
    for entry in entries:
        if isinstance(entry, bool) or not isinstance(entry, (int, float)):
            raise UsageError(f"retry_delay_seconds={entry!r} is no number of seconds")
        if math.isnan(entry) or math.isinf(entry) or entry < 0:
            raise UsageError(f"retry_delay_seconds={entry!r} must be 0 or a positive finite number")
    return tuple(float(entry) for entry in entries)


def _called(delays: Callable[[int], Sequence[float]], retries: int) -> Sequence[float]:
    try:
        return delays(retries)
    except Exception as error:
        raise UsageError(
            f"retry_delay_seconds={delays!r} raised {type(error).__name__} when it was called with "
            f"{retries}, the number of retries: {error}; it takes that and returns a list of "
            "seconds"
        ) from error
