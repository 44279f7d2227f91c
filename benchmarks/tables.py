"""Results and verdicts as text, alike on a terminal, in a pipe and in a build log; pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.budgets import Verdict
from benchmarks.journal import Setting
from benchmarks.results import CaseSummary, ContenderSummary
from benchmarks.stats import Spread

__all__ = ["result_rows", "results_table", "setting_line", "verdict_table"]

_RESULT_HEADINGS = (
    "case",
    "runs",
    "who",
    "time",
    "runs/s",
    "× control (low–high)",
    "CPU/run",
    "driver",
    "loop",
    "scheduler",
    "workers",
    "× control",
    "recording",
    "also",
)


def setting_line(setting: Setting) -> str:
    """Describe what a run ran on in one line."""
    size = "quick" if setting.quick else "full"
    load = " ".join(f"{value:.1f}" for value in setting.load)
    return (
        f"{setting.date} · {setting.commit} · {size}, {setting.rounds} rounds · "
        f"Python {setting.python}, distributed {setting.versions.get('distributed', '?')} · "
        f"{setting.cpus} CPUs, load {load}"
    )


def results_table(summaries: Iterable[CaseSummary]) -> str:
    """Return one line per case and contender; the control of a case comes first."""
    return _aligned(result_rows(summaries), left=(0, 2, len(_RESULT_HEADINGS) - 1))


def result_rows(summaries: Iterable[CaseSummary]) -> list[Sequence[str]]:
    """Return the headings, then one row per case and contender."""
    rows: list[Sequence[str]] = [_RESULT_HEADINGS]
    for summary in summaries:
        rows += [
            _result_row(summary, contender, first=contender is summary.control)
            for contender in summary.contenders
        ]
    return rows


def verdict_table(verdicts: Iterable[Verdict]) -> str:
    """Return one row per budget; a missed one begins with MISSED."""
    rows: list[Sequence[str]] = [("", "case", "figure", "measured", "minimum", "goal")]
    rows += [
        (
            "ok" if verdict.met else "MISSED",
            verdict.budget.case,
            verdict.budget.figure,
            "not measured" if verdict.measured is None else _times(verdict.measured),
            _times(verdict.minimum),
            _times(verdict.budget.goal),
        )
        for verdict in verdicts
    ]
    return _aligned(rows, left=(0, 1, 2))


def _result_row(summary: CaseSummary, who: ContenderSummary, *, first: bool) -> Sequence[str]:
    cpu = who.cpu_s_per_run
    shown = (cpu.total, cpu.driver, cpu.loop, cpu.scheduler, cpu.workers)
    many = who.runs > 1
    return (
        summary.case if first else "",
        f"{who.runs:,}" if first or who.runs != summary.control.runs else "",
        who.name,
        f"{who.wall_s.median:.3f} s",
        f"{who.runs / who.wall_s.median:,.0f}" if many else "",
        "" if first else _ratio(who.speedup),
        *(_cpu(seconds) for seconds in shown),
        "" if first else _times(who.cpu_saving.median),
        _cpu(summary.recording_s_per_run) if who is summary.subject else "",
        " ".join(f"{name}={value:,.3g}" for name, value in who.figures.items()),
    )


def _cpu(seconds: float) -> str:
    if not seconds:
        return ""  # not told apart, or not measured, in this case
    return f"{seconds * 1e6:,.1f} µs" if abs(seconds) < 0.01 else f"{seconds:.3f} s"


def _ratio(spread: Spread) -> str:
    return f"{_times(spread.median)} ({spread.low:.3g}–{spread.high:.3g})"


def _times(value: float) -> str:
    return f"{value:.1f} ×" if value >= 10 else f"{value:.2f} ×"


def _aligned(rows: Sequence[Sequence[str]], left: Sequence[int]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if index in left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "-" * sum(widths, 2 * (len(widths) - 1)), *lines[1:]])
