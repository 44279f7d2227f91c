"""From measurements to one summary per case; pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.cpu import CpuSeconds
from benchmarks.measurement import Measurement
from benchmarks.stats import Spread, paired_ratios, summarise

__all__ = ["CaseSummary", "ContenderSummary", "summaries"]


@dataclass(frozen=True)
class ContenderSummary:
    """One contender of a case over all rounds.

    Parameters
    ----------
    runs
        Task runs that it did in each round.
    wall_s
        From first submit to last result.
    speedup, cpu_saving
        How many times less wall time and CPU it took per task run than the control of the same
        round.
    cpu_s_per_run
        Median CPU seconds of the process tree per task run, by process.
    figures
        Medians of whatever else was measured.
    """

    name: str
    runs: int
    wall_s: Spread
    speedup: Spread
    cpu_saving: Spread
    cpu_s_per_run: CpuSeconds
    figures: Mapping[str, float]


@dataclass(frozen=True)
class CaseSummary:
    """All contenders of one case; the first is the control, the second the subject."""

    case: str
    size: int
    runs: int
    contenders: tuple[ContenderSummary, ...]

    @property
    def control(self) -> ContenderSummary:
        """What ratios refer to."""
        return self.contenders[0]

    @property
    def subject(self) -> ContenderSummary | None:
        """What budgets look at; none where only the control ran."""
        return self.contenders[1] if len(self.contenders) > 1 else None

    @property
    def recording_s_per_run(self) -> float:
        """CPU seconds per task run that the record costs; 0 where only one way was measured."""
        on, off = self.contender("daskflow"), self.contender("daskflow, record off")
        return on.cpu_s_per_run.total - off.cpu_s_per_run.total if on and off else 0.0

    def contender(self, name: str) -> ContenderSummary | None:
        """Return the contender of that name, if it took part."""
        return next((who for who in self.contenders if who.name == name), None)


def summaries(measurements: Iterable[Measurement]) -> list[CaseSummary]:
    """Summarise measurements by case, both in the order in which they were first measured.

    A case's first round begins with its control, so first come, control.  Every contender of a
    case has one measurement per round.
    """
    cases: dict[str, dict[str, list[Measurement]]] = {}
    for measurement in measurements:
        contenders = cases.setdefault(measurement.case, {})
        contenders.setdefault(measurement.contender, []).append(measurement)
    return [_case_summary(list(contenders.values())) for contenders in cases.values()]


def _case_summary(contenders: Sequence[Sequence[Measurement]]) -> CaseSummary:
    control = contenders[0]
    return CaseSummary(
        control[0].case,
        control[0].size,
        control[0].runs,
        tuple(_contender_summary(control, own) for own in contenders),
    )


def _contender_summary(
    control: Sequence[Measurement], own: Sequence[Measurement]
) -> ContenderSummary:
    wall, cpu = [m.wall_s for m in own], [m.cpu.total for m in own]
    share = own[0].runs / control[0].runs  # ratios are per task run
    parts = zip(*(m.cpu for m in own), strict=True)
    return ContenderSummary(
        own[0].contender,
        own[0].runs,
        summarise(wall),
        summarise(paired_ratios([m.wall_s * share for m in control], wall)),
        summarise(paired_ratios([m.cpu.total * share for m in control], cpu)),
        CpuSeconds(*(statistics.median(part) / own[0].runs for part in parts)),
        {
            name: statistics.median(m.figures[name] for m in own if name in m.figures)
            for name in own[0].figures
        },
    )
