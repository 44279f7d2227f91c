"""What a round yields, in memory and as a line of JSON."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from benchmarks.cpu import CpuSeconds

__all__ = ["Measurement", "Timing"]

NO_FIGURES: Mapping[str, float] = MappingProxyType({})


class Timing(NamedTuple):
    """What one contender took once.

    Parameters
    ----------
    wall_s, cpu
        From first submit to last result, and CPU seconds until all is quiet.
    runs
        Task runs, where contenders of one case do unequal amounts of work; None: the case's.
    figures
        What else was measured, by a name that ends in its unit: ``driver_mb``.
    """

    wall_s: float
    cpu: CpuSeconds
    runs: int | None = None
    figures: Mapping[str, float] = NO_FIGURES


class Measurement(NamedTuple):
    """One contender in one round of a case; `load` is the machine's when it ended."""

    case: str
    size: int
    runs: int
    contender: str
    round: int
    wall_s: float
    cpu: CpuSeconds
    load: float
    figures: Mapping[str, float] = NO_FIGURES

    def to_json(self) -> dict[str, Any]:
        """Return what `json.dumps` takes; CPU seconds by process."""
        return {**self._asdict(), "cpu": self.cpu._asdict(), "figures": dict(self.figures)}

    @classmethod
    def from_json(cls, line: dict[str, Any]) -> Measurement:
        """Return the measurement that `to_json` described."""
        return cls(**{**line, "cpu": CpuSeconds(**line["cpu"])})
