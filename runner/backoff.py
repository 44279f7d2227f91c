"""Delays between retries that grow, for `retry_delay_seconds`."""

from __future__ import annotations

from collections.abc import Callable

from daskflow.runner.options import check_factor

__all__ = ["exponential_backoff"]


def exponential_backoff(backoff_factor: float) -> Callable[[int], list[float]]:
    """Delays for `retry_delay_seconds` that double: factor, 2 × factor, 4 × factor, ….

    Parameters
    ----------
    backoff_factor : float
        Seconds before the first retry.
    """
    factor = check_factor("backoff_factor", backoff_factor)
    return lambda retries: [factor * 2**attempt for attempt in range(max(1, retries))]
