"""The figures that are to be reached, and what files of results say about each; pure.

``python -m benchmarks table FILE …`` prints this as Markdown, for `docs/benchmarks.md`.  Where
several runs hold a figure, the median over the runs is shown, with its extremes.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.journal import Recorded
from benchmarks.results import CaseSummary, summaries
from benchmarks.workloads import SLOTS

__all__ = ["GOALS", "Goal", "goals_table"]

Cases = dict[str, CaseSummary]


@dataclass(frozen=True)
class Goal:
    """One line of the table.

    Parameters
    ----------
    figure
        What is measured, for people.
    control
        What it is held against.
    goal
        What is to be reached, in words.
    find
        Takes the figure out of the cases of a run; None when they do not hold it.
    reached
        Whether a figure is good enough.
    shown
        The figure as text.
    """

    figure: str
    control: str
    goal: str
    find: Callable[[Cases], float | None]
    reached: Callable[[float], bool]
    shown: Callable[[float], str]


def _speedup(case: str, who: str = "daskflow") -> Callable[[Cases], float | None]:
    def find(cases: Cases) -> float | None:
        summary = cases.get(case)
        contender = summary.contender(who) if summary else None
        return contender.speedup.median if contender else None

    return find


def _wall(case: str, who: str = "daskflow") -> Callable[[Cases], float | None]:
    def find(cases: Cases) -> float | None:
        summary = cases.get(case)
        contender = summary.contender(who) if summary else None
        return contender.wall_s.median if contender else None

    return find


def _figure(case: str, who: str, name: str) -> Callable[[Cases], float | None]:
    def find(cases: Cases) -> float | None:
        summary = cases.get(case)
        contender = summary.contender(who) if summary else None
        return contender.figures.get(name) if contender else None

    return find


def _slot_use(case: str) -> Callable[[Cases], float | None]:
    find = _speedup(case)
    return lambda cases: None if (ratio := find(cases)) is None else ratio / SLOTS


def _above_control(case: str) -> Callable[[Cases], float | None]:
    """Seconds that the subject takes longer than its control."""

    def find(cases: Cases) -> float | None:
        summary = cases.get(case)
        if summary is None or summary.subject is None:
            return None
        return summary.subject.wall_s.median - summary.control.wall_s.median

    return find


def _times_control(case: str) -> Callable[[Cases], float | None]:
    find = _speedup(case)
    return lambda cases: None if (ratio := find(cases)) is None else 1 / ratio


def _loop_against_map(cases: Cases) -> float | None:
    loop, map_ = _wall("W1.submit")(cases), _wall("W1.map")(cases)
    return loop / map_ if loop and map_ else None


def _cpu_us(
    case: str, part: str = "total", who: str = "daskflow"
) -> Callable[[Cases], float | None]:
    def find(cases: Cases) -> float | None:
        summary = cases.get(case)
        contender = summary.contender(who) if summary else None
        return 1e6 * float(getattr(contender.cpu_s_per_run, part)) if contender else None

    return find


def _cpu_times_control(case: str, who: str = "daskflow") -> Callable[[Cases], float | None]:
    """CPU time as a multiple of the control's."""

    def find(cases: Cases) -> float | None:
        summary = cases.get(case)
        contender = summary.contender(who) if summary else None
        return 1 / contender.cpu_saving.median if contender else None

    return find


def _raw_rate(case: str) -> Callable[[Cases], float | None]:
    """The rate as a share of the control's, by CPU time: all cores are busy in both."""
    find = _cpu_times_control(case)
    return lambda cases: None if (ratio := find(cases)) is None else 1 / ratio


def _memory_times_control(case: str) -> Callable[[Cases], float | None]:
    def find(cases: Cases) -> float | None:
        summary = cases.get(case)
        if summary is None or summary.subject is None:
            return None
        control = summary.control.figures["peak_mb"]
        return summary.subject.figures["peak_mb"] / control if control > 0 else None

    return find


def _recording_us(cases: Cases) -> float | None:
    summary = cases.get("W1.submit")
    return 1e6 * summary.recording_s_per_run or None if summary else None


def _held_kb(cases: Cases) -> float | None:
    summary = cases.get("W1.growth")
    held = (
        next((who for who in summary.contenders if who.name.endswith("held")), None)
        if (summary)
        else None
    )
    return held.figures["driver_mb"] * 1e3 / held.runs if held else None


def _growth(cases: Cases) -> float | None:
    """How many times a run of the million costs what one of 10,000 does."""
    find = _speedup("W1.million", "daskflow, 1,000,000")
    return None if (ratio := find(cases)) is None else 1 / ratio


def at_least(least: float) -> Callable[[float], bool]:
    """Return whether a figure is that or more."""
    return lambda value: value >= least


def at_most(most: float) -> Callable[[float], bool]:
    """Return whether a figure is that or less."""
    return lambda value: value <= most


def _times(value: float) -> str:
    return f"{value:.0f} ×" if value >= 10 else f"{value:.2f} ×"


def _seconds(value: float) -> str:
    return f"{value:.2f} s"


def _us(value: float) -> str:
    return f"{value:.1f} µs"


def _share(value: float) -> str:
    return f"{value:.2f}"


_MILLION = ("W1.million", "daskflow, 1,000,000")

GOALS: tuple[Goal, ...] = (
    Goal("W1 `.submit` loop, 10,000", "`client.submit` = 1", "≥ 100 ×",
         _speedup("W1.submit"), at_least(100), _times),
    Goal("W1 `.map`, 10,000", "`client.map` = 1", "≥ 100 ×",
         _speedup("W1.map"), at_least(100), _times),
    Goal("W1 time of a `.submit` loop", "`.map` = 1", "within 20 %",
         _loop_against_map, lambda value: 1 / 1.2 <= value <= 1.2, _times),
    Goal("W1 1,000,000, results consumed", "", "≤ 20 s", _wall(*_MILLION), at_most(20), _seconds),
    Goal("memory of the driver per future held", "", "≤ 0.5 kB",
         _held_kb, at_most(0.5), lambda value: f"{value:.2f} kB"),
    Goal("scheduler, growth over 1,000,000", "", "flat", _figure(*_MILLION, "scheduler_mb"),
         at_most(50), lambda value: f"{value:.0f} MB"),
    Goal("workers, growth over 1,000,000", "", "flat", _figure(*_MILLION, "workers_mb"),
         at_most(50), lambda value: f"{value:.0f} MB"),
    Goal("driver, growth over 1,000,000", "", "bounded", _figure(*_MILLION, "driver_mb"),
         at_most(300), lambda value: f"{value:.0f} MB"),
    Goal("W2 chain of 300", "plain Dask = 1", "≥ 60 ×", _speedup("W2.chain"), at_least(60), _times),
    Goal("W3 tree of 1,023", "plain Dask = 1", "≥ 30 ×", _speedup("W3.tree"), at_least(30), _times),
    *(
        Goal(f"W5 use of the slots, tasks of {ms} ms", "serial loop", f"≥ {least}",
             _slot_use(f"W5.{ms}ms"), at_least(least), _share)
        for ms, least in ((1, 0.85), (10, 0.95), (20, 0.97), (50, 0.98))
    ),
    Goal("one submit and its result, idle cluster", "plain round trip = 1", "≤ 0.7",
         _times_control("latency"), at_most(0.7), _share),
    Goal("W4 1,000 naps of 0.1 s", "", "≤ 0.25 s", _wall("W4.naps1000"), at_most(0.25), _seconds),
    Goal("W4 10,000 naps of 0.1 s", "", "≤ 1.5 s", _wall("W4.naps10000"), at_most(1.5), _seconds),
    Goal("recording, CPU per task run", "not recording", "≤ 3 µs", _recording_us, at_most(3), _us),
    Goal("CPU per task run, all processes", "", "≤ 20 µs",
         _cpu_us("W1.submit"), at_most(20), _us),
    Goal("CPU per task run, driver", "", "≤ 10 µs",
         _cpu_us("W1.submit", "driver"), at_most(10), _us),
    Goal("W7 `import daskflow`, above bare Python", "", "≤ 60 ms", _above_control("W7.import"),
         at_most(0.06), lambda value: f"{value * 1e3:.0f} ms"),
    Goal("W7 flow of direct calls, above bare Python", "", "≤ 0.3 s",
         _above_control("W7.direct"), at_most(0.3), _seconds),
    Goal("W7 `daskflow --help`", "", "≤ 0.15 s", _wall("W7.help"), at_most(0.15), _seconds),
    Goal("W7 `daskflow runs ls`", "", "≤ 0.3 s", _wall("W7.runs"), at_most(0.3), _seconds),
    Goal("W7 flow with one `.submit`", "`LocalCluster` = 1", "≤ 1.0",
         _times_control("W7.submit"), at_most(1.0), _share),
    Goal("cost of a run, 1,000,000 against 10,000", "10,000 = 1", "within 10 %",
         _growth, at_most(1.1), _times),
    *(
        Goal(f"W6 {what}, {which}{note}", "`joblib.Memory` = 1", f"≤ {most} ×",
             find(f"W6.{size}.{which}"), at_most(most), _times)
        for what, size, which, most in (
            ("200 frames of 1 MB", "many", "first", 0.8),
            ("200 frames of 1 MB", "many", "cached", 0.3),
            ("one frame of 200 MB", "large", "first", 0.7),
            ("one frame of 200 MB", "large", "cached", 0.7),
        )
        for note, find in (("", _times_control), (", CPU", _cpu_times_control))
    ),
    Goal("rerun of 10,000 cached tiny task runs, CPU each", "`joblib.Memory` beside it", "≤ 20 µs",
         _cpu_us("cached.tiny", who="daskflow, processes"), at_most(20), _us),
    *(
        Goal(f"{what}, CPU", "`joblib.hash` beside it", f"≤ {most} µs", _cpu_us(f"keys.{name}"),
             at_most(most), _us)
        for what, name, most in (
            ("key of five keyword arguments", "five", 5),
            ("digest of a dataclass", "dataclass", 6),
            ("digest of a pydantic model", "pydantic", 6),
            ("digest of 31 nested containers", "nested", 40),
        )
    ),
    Goal("hash of a numeric frame of 256 MiB", "raw sha256 = 1", "≥ 0.9",
         _raw_rate("keys.frame"), at_least(0.9), _share),
    Goal("cached write of a table of 200 MB, rate", "pyarrow's write = 1", "≥ 0.8",
         _raw_rate("store.write"), at_least(0.8), _share),
    Goal("cached write of a table of 200 MB, memory", "pyarrow's write = 1", "≤ 1.1 ×",
         _memory_times_control("store.write"), at_most(1.1), _times),
    Goal("W9 map of maps, 1,000 × 10", "`client.map` = 1", "", _speedup("W9.deep"),
         at_least(0), _times),
    Goal("W9 10,000 with 30 % retried", "`client.map` = 1", "", _speedup("W9.retries"),
         at_least(0), _times),
    Goal("W9 10,000 lines of tasks", "`log_event` = 1", "", _speedup("W9.logs"),
         at_least(0), _times),
    Goal("W10 flights ETL, cold", "plain loop = 1", "", _speedup("W10.cold"), at_least(0), _times),
    Goal("W10 flights ETL, cached", "plain loop = 1", "", _speedup("W10.cached"),
         at_least(0), _times),
)  # fmt: skip


def goals_table(runs: Sequence[Recorded]) -> str:
    """Return goals and figures as a Markdown table; full runs count, quick ones do not."""
    found = [
        {summary.case: summary for summary in summaries(run.measurements)}
        for run in runs
        if not run.setting.quick
    ]
    lines = ["| figure | control in the same run | goal | measured | |", "|---|---|---|---|---|"]
    for goal in GOALS:
        values = [value for cases in found if (value := goal.find(cases)) is not None]
        lines.append(f"| {goal.figure} | {goal.control} | {goal.goal} | {_cells(goal, values)} |")
    return "\n".join(lines)


def _cells(goal: Goal, values: Sequence[float]) -> str:
    if not values:
        return "not measured | "
    middle = statistics.median(values)
    text = goal.shown(middle)
    if len(values) > 1:
        text += f" ({goal.shown(min(values))} to {goal.shown(max(values))})"
    verdict = "" if not goal.goal else "reached" if goal.reached(middle) else "not yet"
    return f"{text} | {verdict}"
