"""The ratios that a build must not fall below, and the check of a run against them; pure.

`budgets.toml` says per case and figure what is to be reached (`goal`) and what fails a build
(`minimum`, and `minimum_quick` for the smaller sizes of a quick run).  Minimums are half of
the goal or less, so that noise never fails a build.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.results import CaseSummary

__all__ = ["Budget", "Verdict", "check", "load_budgets"]

BUDGETS = Path(__file__).with_name("budgets.toml")
FIGURES = ("time", "cpu")
_KEYS = {"case", "figure", "goal", "minimum", "minimum_quick"}


@dataclass(frozen=True)
class Budget:
    """How many times less than the control a case's subject must take.

    Parameters
    ----------
    case, figure
        What is looked at: the ``time`` or the ``cpu`` of a case.
    goal
        What we want to reach.
    minimum, minimum_quick
        What fails a full and a quick run.
    """

    case: str
    figure: str
    goal: float
    minimum: float
    minimum_quick: float


class Verdict(NamedTuple):
    """A budget, what was measured for it, and whether that is enough."""

    budget: Budget
    measured: float | None
    minimum: float

    @property
    def met(self) -> bool:
        """Whether the measured ratio reaches the minimum; a figure that is missing does not."""
        return self.measured is not None and self.measured >= self.minimum


def load_budgets(path: Path = BUDGETS) -> list[Budget]:
    """Read the budgets of a file; `ValueError` names an entry that makes no sense."""
    with path.open("rb") as file:
        entries = tomllib.load(file).get("budget", [])
    return [_budget(entry) for entry in entries]


def check(
    budgets: Iterable[Budget], summaries: Sequence[CaseSummary], *, quick: bool
) -> list[Verdict]:
    """Hold the median ratios of the cases that ran against their budgets."""
    ran = {summary.case: summary for summary in summaries}
    return [
        Verdict(
            budget,
            _measured(ran[budget.case], budget.figure),
            budget.minimum_quick if quick else budget.minimum,
        )
        for budget in budgets
        if budget.case in ran
    ]


def _measured(summary: CaseSummary, figure: str) -> float | None:
    if summary.subject is None:
        return None
    ratio = summary.subject.speedup if figure == "time" else summary.subject.cpu_saving
    return ratio.median


def _budget(entry: dict[str, Any]) -> Budget:
    if set(entry) != _KEYS:
        raise ValueError(f"a budget has exactly the keys {sorted(_KEYS)}, not {sorted(entry)}")
    if entry["figure"] not in FIGURES:
        raise ValueError(f"figure {entry['figure']!r} is none of {', '.join(FIGURES)}")
    return Budget(**entry)
