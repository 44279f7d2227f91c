"""`daskflow bench`: its verdict in words, as JSON, and what it refuses."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from daskflow.errors import UsageError
from daskflow.runner import measuring
from daskflow.runner.cli.main import cli
from daskflow.runner.cli.text import short_time
from daskflow.runner.measuring import ClusterFigures, measure_cluster, worthwhile_s

FOUND = ClusterFigures(
    slots=2,
    task_runs=64_000,
    per_run_s=20e-6,
    worthwhile_s=0.36e-3,
    slot_use=0.93,
    round_trip_s=6.2e-3,
    result_bytes_per_s=600e6,
)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch):
    """Run the command on figures that are given, and keep what it asked for."""
    asked: list[tuple] = []

    def run(*options: str, found: ClusterFigures = FOUND) -> Result:
        def pretend(task_runner, *, seconds, progress):
            asked.append((task_runner, seconds))
            for share in (0.0, 0.5, 0.7):
                progress(share, "round trip")
            progress(1.0, "done")
            return found

        monkeypatch.setattr(measuring, "measure_cluster", pretend)
        return CliRunner().invoke(cli, ["bench", *options], catch_exceptions=False)

    run.asked = asked
    return run


def test_verdict_says_what_a_task_run_costs_and_how_long_one_had_better_be(bench):
    result = bench()
    assert result.exit_code == 0
    assert (
        "this cluster spends 20 µs per task run; a task of 0.36 ms or more spends less than 10 % "
        "on overhead: make smaller ones larger, or leave them"
    ) in result.stdout
    assert "when tried" not in result.stdout


def test_round_trip_and_rate_are_in_the_table(bench):
    lines = {line[:13].strip(): line for line in bench().stdout.splitlines()}
    assert "6.2 ms" in lines["round trip"]
    assert "600 MB/s" in lines["large results"]
    assert "64,000" in lines["per task run"]


def test_verdict_that_the_cluster_did_not_bear_out_says_so(bench):
    text = bench(found=FOUND._replace(slot_use=0.6)).stdout
    assert "filled only 60% of the slots" in text


def test_results_of_threads_have_no_rate(bench):
    text = bench(found=FOUND._replace(result_bytes_per_s=None)).stdout
    assert "stay in this process" in text


def test_json_is_one_line_of_figures_with_units_in_their_names(bench):
    result = bench("--json")
    assert [json.loads(line) for line in result.stdout.splitlines()] == [FOUND._asdict()]


def test_progress_goes_to_stderr_once_a_step(bench):
    result = bench("--json")
    assert result.stderr.splitlines() == ["measuring: round trip", "measured"]


def test_options_reach_the_measurement(bench):
    bench("--task-runner", "tcp://host:8786", "--seconds", "2")
    bench()
    assert bench.asked == [("tcp://host:8786", 2.0), (None, 10.0)]


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(["--task-runner", "sync"], id="no-cluster"),
        pytest.param(["--task-runner", "proceses"], id="unknown-runner"),
        pytest.param(["--seconds", "0"], id="no-time"),
        pytest.param(["--seconds", "nan"], id="no-number"),
    ],
)
def test_wrong_usage_exits_with_2_before_anything_starts(options):
    result = CliRunner().invoke(cli, ["bench", *options], catch_exceptions=False)
    assert result.exit_code == 2
    assert "measuring" not in result.stderr


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan"), float("inf")])
def test_time_that_is_none_is_refused_at_the_call(seconds):
    with pytest.raises(UsageError, match="greater than 0"):
        measure_cluster("processes", seconds=seconds)


@given(st.floats(1e-6, 1.0), st.integers(1, 10_000))
def test_a_task_worth_its_while_spends_a_tenth_on_overhead(per_run_s, slots):
    task_s = worthwhile_s(per_run_s, slots)
    assert per_run_s / (task_s / slots + per_run_s) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 µs"),
        (23.4e-6, "23 µs"),
        (99.6e-6, "0.1 ms"),
        (0.36e-3, "0.36 ms"),
        (0.0062, "6.2 ms"),
        (0.115, "115 ms"),
        (2.13, "2.1 s"),
        (120.0, "2m00s"),
    ],
)
def test_short_time_has_two_figures(seconds, text):
    assert short_time(seconds) == text
