"""What a round yields, in memory and as a line of JSON."""

from __future__ import annotations

from typing import Any, NamedTuple

from benchmarks.cpu import CpuSeconds

__all__ = ["Measurement", "Timing"]


class Timing(NamedTuple):
    """What one contender took once."""

    wall_s: float
    cpu: CpuSeconds


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

    def to_json(self) -> dict[str, Any]:
        """Return what `json.dumps` takes; CPU seconds by process."""
        return {**self._asdict(), "cpu": self.cpu._asdict()}

    @classmethod
    def from_json(cls, line: dict[str, Any]) -> Measurement:
        """Return the measurement that `to_json` described."""
        return cls(**{**line, "cpu": CpuSeconds(**line["cpu"])})
