"""Benchmark figures: spreads, paired ratios, budgets, JSON lines, tables, exit codes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import __main__ as command_line
from benchmarks import journal, tables
from benchmarks.budgets import Budget, check, load_budgets
from benchmarks.cases import TITLES
from benchmarks.cpu import CpuSeconds
from benchmarks.harness import Case, WrongValue
from benchmarks.measurement import Measurement, Timing
from benchmarks.results import summaries
from benchmarks.stats import paired_ratios, summarise, turn_order

seconds = st.floats(min_value=1e-6, max_value=1e6)


def _cpu(total: float) -> CpuSeconds:
    return CpuSeconds(driver=total / 4, loop=total / 4, workers=total / 2, rest=0.0)


def _measured(contender: str, walls: Sequence[float], case: str = "W1.map") -> list[Measurement]:
    return [
        Measurement(case, 100, 100, contender, number, wall, _cpu(2 * wall), 0.5)
        for number, wall in enumerate(walls)
    ]


# ---- statistics


@given(st.lists(seconds, min_size=1))
def test_median_lies_between_low_and_high(values: list[float]) -> None:
    spread = summarise(values)
    assert spread.low <= spread.median <= spread.high
    assert (spread.low, spread.high, spread.rounds) == (min(values), max(values), len(values))


@given(st.lists(st.tuples(seconds, seconds, st.floats(0.1, 10)), min_size=1))
def test_ratio_does_not_change_when_the_machine_slows_down_for_a_round(
    rounds: list[tuple[float, float, float]],
) -> None:
    quiet = paired_ratios([c for c, _, _ in rounds], [s for _, s, _ in rounds])
    noisy = paired_ratios([c * f for c, _, f in rounds], [s * f for _, s, f in rounds])
    assert noisy == pytest.approx(quiet)


def test_ratios_of_unequal_rounds_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        paired_ratios([1.0, 2.0], [1.0])


@given(st.lists(st.text(), min_size=1, unique=True))
def test_everybody_goes_first_once_in_as_many_rounds_as_there_are_contenders(
    names: list[str],
) -> None:
    turns = [turn_order(names, number) for number in range(len(names))]
    assert [turn[0] for turn in turns] == names
    assert all(sorted(turn) == sorted(names) for turn in turns)


# ---- summaries


def test_summary_takes_the_median_of_the_ratios_of_each_round() -> None:
    measured = _measured("dask", [10.0, 20.0, 90.0]) + _measured("daskflow", [1.0, 1.0, 3.0])
    (summary,) = summaries(measured)
    assert summary.control.name == "dask"
    assert summary.subject is not None
    assert summary.subject.speedup == (20.0, 10.0, 30.0, 3)
    assert summary.subject.cpu_saving.median == 20.0


def test_summary_gives_cpu_per_task_run_by_process() -> None:
    (summary,) = summaries(_measured("dask", [1.0, 3.0, 2.0]))
    assert summary.control.cpu_s_per_run == pytest.approx((0.01, 0.01, 0.02, 0.0, 0.0))


def test_cases_stay_apart_and_in_the_order_in_which_they_ran() -> None:
    measured = _measured("dask", [1.0], "W3.tree") + _measured("dask", [2.0], "W1.map")
    assert [summary.case for summary in summaries(measured)] == ["W3.tree", "W1.map"]


# ---- budgets


BUDGET = Budget("W1.map", "time", goal=30.0, minimum=15.0, minimum_quick=10.0)


@pytest.mark.parametrize(
    ("ratio", "quick", "met"),
    [
        pytest.param(15.0, False, True, id="exactly-the-minimum"),
        pytest.param(14.9, False, False, id="below"),
        pytest.param(14.9, True, True, id="quick-has-a-minimum-of-its-own"),
        pytest.param(9.9, True, False, id="below-quick"),
    ],
)
def test_budget_is_met_from_its_minimum_on(ratio: float, quick: bool, met: bool) -> None:
    done = summaries(_measured("dask", [ratio]) + _measured("daskflow", [1.0]))
    (verdict,) = check([BUDGET], done, quick=quick)
    assert (verdict.met, verdict.measured) == (met, ratio)


def test_budget_looks_at_the_recorded_subject_and_not_at_later_columns() -> None:
    measured = _measured("dask", [20.0]) + _measured("daskflow", [2.0])
    done = summaries(measured + _measured("daskflow, record off", [1.0]))
    assert [verdict.measured for verdict in check([BUDGET], done, quick=False)] == [10.0]


def test_cpu_budget_looks_at_cpu_and_not_at_time() -> None:
    control, subject = _measured("dask", [20.0])[0], _measured("daskflow", [20.0])[0]
    done = summaries([control, subject._replace(cpu=_cpu(1.0))])
    budget = Budget("W1.map", "cpu", 30.0, 15.0, 15.0)
    assert [verdict.measured for verdict in check([budget], done, quick=False)] == [40.0]


def test_budget_whose_subject_was_not_measured_is_missed() -> None:
    (verdict,) = check([BUDGET], summaries(_measured("dask", [1.0])), quick=False)
    assert (verdict.met, verdict.measured) == (False, None)


def test_budget_of_a_case_that_did_not_run_is_not_looked_at() -> None:
    assert check([BUDGET], summaries(_measured("dask", [1.0], "W2.chain")), quick=True) == []


def test_every_budget_is_of_a_case_that_exists_and_asks_no_more_than_its_goal() -> None:
    budgets = load_budgets()
    cases = set(TITLES)
    assert budgets
    assert {budget.case for budget in budgets} <= cases
    assert all(0 < b.minimum_quick <= b.goal and 0 < b.minimum <= b.goal for b in budgets)


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        pytest.param('case = "W1.map"\ngoal = 1.0', "exactly the keys", id="missing-keys"),
        pytest.param(
            'case = "W1.map"\nfigure = "disk"\ngoal = 1.0\nminimum = 1.0\nminimum_quick = 1.0',
            "'disk' is none of time, cpu",
            id="unknown-figure",
        ),
    ],
)
def test_budget_that_makes_no_sense_is_refused(tmp_path: Path, entry: str, problem: str) -> None:
    path = tmp_path / "budgets.toml"
    path.write_text(f"[[budget]]\n{entry}\n")
    with pytest.raises(ValueError, match=problem):
        load_budgets(path)


# ---- JSON lines


def test_runs_are_read_back_as_they_were_appended(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    setting = journal.describe_setting(quick=True, rounds=2)
    first, second = _measured("dask", [1.0, 2.0]), _measured("daskflow", [0.5])
    journal.append(path, setting, first)
    journal.append(path, setting, second)
    assert [(run.setting, list(run.measurements)) for run in journal.read(path)] == [
        (setting, first),
        (setting, second),
    ]


def test_setting_says_with_what_a_run_was_measured() -> None:
    setting = journal.describe_setting(quick=False, rounds=5)
    assert setting.commit
    assert setting.date.endswith("+00:00")
    assert setting.versions["distributed"] != "not installed"
    assert len(setting.load) == 3


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("{", id="no-json"),
        pytest.param('{"kind": "measurement"}', id="measurement-before-any-run"),
        pytest.param('{"kind": "run"}', id="run-without-fields"),
        pytest.param("[]", id="no-object"),
    ],
)
def test_line_that_is_no_result_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text(f"{json.dumps({'kind': 'from the future'})}\n{line}\n")
    with pytest.raises(ValueError, match=r"results\.jsonl, line 2"):
        journal.read(path)


# ---- tables and the command line


def test_results_table_has_the_control_first_and_ratios_on_the_others() -> None:
    done = summaries(_measured("dask", [4.0, 6.0]) + _measured("daskflow", [0.1, 0.1]))
    heading, _, control, subject = tables.results_table(done).splitlines()
    assert heading.split()[:3] == ["case", "runs", "who"]
    assert control.split()[:3] == ["W1.map", "100", "dask"]
    assert "×" not in control
    assert "50.0 × (40–60)" in subject
    assert "2,000.0 µs" in subject  # 2 CPU seconds per second, over 100 runs


class Pretend:
    """Cases whose subject is so many times faster than its control."""

    def __init__(self, speedup: float, *, wrong: bool = False) -> None:
        self.speedup, self.wrong = speedup, wrong

    def __call__(self, names: Sequence[str], *_: Any, **__: Any) -> Iterator[Case]:
        for name in names:
            yield Case(
                name, "title", 10, 10, {"dask": lambda: self.timing(1.0), "daskflow": self.subject}
            )

    def subject(self) -> Timing:
        if self.wrong:
            raise WrongValue("daskflow gave 1, expected 2")
        return self.timing(1.0 / self.speedup)

    @staticmethod
    def timing(wall_s: float) -> Timing:
        return Timing(wall_s, _cpu(wall_s))


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Any:
    def install(speedup: float, **options: bool) -> None:
        monkeypatch.setattr(command_line, "make_cases", Pretend(speedup, **options))

    return install


def test_check_passes_when_all_budgets_are_met(
    pretend: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend(1e6)
    assert command_line.main(["run", "W1", "W2", "--quick", "--check"]) == 0
    assert "MISSED" not in capsys.readouterr().out


def test_check_exits_1_and_names_the_budget_that_was_missed(
    pretend: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend(1.5)
    assert command_line.main(["run", "W2", "W7.submit", "--quick", "--check"]) == 1
    captured = capsys.readouterr()
    missed = [line.split() for line in captured.out.splitlines() if line.startswith("MISSED")]
    assert [words[1] for words in missed] == ["W2.chain"]  # W7 needs less than 1.5
    assert "missed: W2.chain (time)" in captured.err


def test_without_check_a_slow_build_is_only_shown(pretend: Any) -> None:
    pretend(0.1)
    assert command_line.main(["run", "W1", "--quick"]) == 0


def test_wrong_value_exits_1_also_without_check(
    pretend: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend(1.0, wrong=True)
    assert command_line.main(["run", "W1.map"]) == 1
    assert "daskflow gave 1, expected 2" in capsys.readouterr().err


def test_report_prints_the_tables_that_the_run_printed(
    pretend: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend(20.0)
    path = tmp_path / "results.jsonl"
    assert command_line.main(["run", "W3", "--rounds", "2", "--json", str(path)]) == 0
    printed = capsys.readouterr().out
    assert command_line.main(["report", str(path)]) == 0
    assert capsys.readouterr().out.strip() == printed.strip()


def test_report_of_a_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    assert command_line.main(["report", str(tmp_path / "none.jsonl")]) == 2


@pytest.mark.parametrize("arguments", [["run", "W99"], ["run", "--rounds", "0"], []])
def test_arguments_that_make_no_sense_exit_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        command_line.main(arguments)
    assert exit_.value.code == 2


def test_list_names_every_case(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["list"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in TITLES)
