"""What results of benchmarks turn into: the table of goals, the page with pictures, comparisons."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from benchmarks import __main__ as command_line
from benchmarks import etl, journal
from benchmarks.cases import TITLES, selected
from benchmarks.cpu import CpuSeconds
from benchmarks.goals import GOALS, goals_table
from benchmarks.harness import WrongValue
from benchmarks.journal import Recorded, describe_setting
from benchmarks.measurement import Measurement
from benchmarks.page import render_page
from benchmarks.peers import comparing, environments
from benchmarks.pictures import newest, throughput
from benchmarks.results import summaries
from benchmarks.tables import results_table

SETTING = describe_setting(quick=False, rounds=1)
QUICK = describe_setting(quick=True, rounds=1)


def _measured(
    case: str, who: str, wall_s: float, runs: int = 10_000, cpu_s: float = 0.1, **figures: float
) -> Measurement:
    cpu = CpuSeconds(cpu_s / 2, 0.0, cpu_s / 2, 0.0)
    return Measurement(case, runs, runs, who, 0, wall_s, cpu, 0.5, figures)


W1 = (_measured("W1.submit", "dask", 20.0), _measured("W1.submit", "daskflow", 0.1))
MILLION = (
    _measured("W1.million", "daskflow, 10,000", 0.2),
    _measured("W1.million", "daskflow, 1,000,000", 30.0, 1_000_000, driver_mb=60.0),
)
NAPS = (_measured("W4.naps1000", "asyncio", 0.1), _measured("W4.naps1000", "daskflow", 0.2))


def _row(table: str, figure: str) -> list[str]:
    (line,) = [line for line in table.splitlines() if line.startswith(f"| {figure} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


# ---- unequal amounts of work


def test_ratio_of_contenders_with_unequal_work_is_per_task_run():
    (case,) = summaries(MILLION)
    million = case.contender("daskflow, 1,000,000")
    assert million is not None
    assert million.speedup.median == pytest.approx(0.2 * 100 / 30.0)
    assert (million.runs, million.figures) == (1_000_000, {"driver_mb": 60.0})
    assert case.contender("nobody") is None


def test_results_of_earlier_versions_can_still_be_read(tmp_path):
    path = tmp_path / "results.jsonl"
    journal.append(path, SETTING, W1)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines[1:]:
        del line["figures"], line["cpu"]["scheduler"]
    path.write_text("\n".join(map(json.dumps, lines)))
    assert journal.read(path)[0].measurements == W1


def test_meter_tells_a_scheduler_from_its_workers():
    busy = "import time\nwhile time.process_time() < 0.1: pass\nprint(1, flush=True); input()"
    # in a process of its own: children of this one count, and other tests have some
    program = f"""
import json, subprocess, sys
from benchmarks.cpu import Meter
pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
with subprocess.Popen([sys.executable, "-c", {busy!r}], **pipes) as child:
    assert child.stdout.readline() == "1\\n"
    spent = Meter((), child.pid).sample()
    child.communicate("\\n", timeout=30)
print(json.dumps([spent.scheduler, spent.workers, spent.rest]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    scheduler, workers, rest = json.loads(done.stdout)
    assert scheduler >= 0.1
    assert (workers, rest) == (0.0, 0.0)


# ---- the table


def test_table_says_what_is_reached_what_is_not_yet_and_what_was_not_measured():
    table = goals_table([Recorded(SETTING, (*W1, *MILLION, *NAPS))])
    assert _row(table, "W1 `.submit` loop, 10,000")[3:] == ["200 ×", "reached"]
    assert _row(table, "W1 1,000,000, results consumed")[3:] == ["30.00 s", "not yet"]
    assert _row(table, "W4 1,000 naps of 0.1 s")[3:] == ["0.20 s", "reached"]
    assert _row(table, "W2 chain of 300")[3:] == ["not measured", ""]
    assert _row(table, "cost of a run, 1,000,000 against 10,000")[3:] == ["1.50 ×", "not yet"]


def test_table_shows_the_median_of_several_runs_and_its_extremes():
    runs = [Recorded(SETTING, (W1[0], W1[1]._replace(wall_s=wall_s))) for wall_s in (0.1, 0.2, 0.4)]
    assert _row(goals_table(runs), "W1 `.submit` loop, 10,000")[3] == "100 × (50 × to 200 ×)"


def test_quick_runs_do_not_count_in_the_table():
    table = goals_table([Recorded(QUICK, W1)])
    assert _row(table, "W1 `.submit` loop, 10,000")[3] == "not measured"


def test_cost_of_recording_is_what_recorded_runs_need_beyond_others():
    off = _measured("W1.submit", "daskflow, record off", 0.1, cpu_s=0.06)
    table = goals_table([Recorded(SETTING, (*W1, off))])
    assert _row(table, "recording, CPU per task run")[3:] == ["4.0 µs", "not yet"]
    control, subject, _ = results_table(summaries((*W1, off))).splitlines()[2:]
    assert "4.0 µs" in subject
    assert "4.0 µs" not in control


def test_every_goal_has_a_name_of_its_own_and_can_be_missing():
    assert len({goal.figure for goal in GOALS}) == len(GOALS)
    assert {goal.find({}) for goal in GOALS} == {None}


# ---- the page


def test_page_stands_alone_and_has_a_picture_of_what_was_measured():
    page = render_page([Recorded(SETTING, (*W1, *MILLION))])
    assert "Throughput against number" in page
    assert "Use of the slots" not in page  # W5 was not measured
    assert re.findall(r"<script[^>]*\ssrc=", page) == []
    assert "<link" not in page.partition("<script")[0]


def test_page_takes_words_of_a_results_file_as_words():
    page = render_page([Recorded(SETTING, (_measured("<script>x", "<b>dask", 1.0),))])
    assert "<script>x" not in page
    assert "&lt;b&gt;dask" in page


def test_page_of_nothing_is_a_page():
    assert "0 runs of results" in render_page([])


def test_pictures_show_the_newest_figure_of_a_case():
    earlier, later = summaries(W1), summaries((W1[0], W1[1]._replace(wall_s=0.5)))
    (case,) = newest([earlier, later])
    assert case == later[0]


def test_throughput_has_a_line_for_each_way_and_none_without_w1():
    plot = throughput(summaries((*W1, *MILLION)))
    assert plot is not None
    named = {item.label.value for item in plot.legend[0].items}
    assert named == {"dask, loop", "daskflow, loop", "daskflow, as_completed"}
    assert throughput(summaries(NAPS)) is None


def test_report_writes_the_page(tmp_path, capsys):
    results, page = tmp_path / "results.jsonl", tmp_path / "out" / "page.html"
    journal.append(results, SETTING, W1)
    assert command_line.main(["report", str(results), "--html", str(page)]) == 0
    assert page.read_text().startswith("<!doctype html>")
    assert command_line.main(["table", str(results)]) == 0
    assert "200 ×" in capsys.readouterr().out


# ---- choosing cases


def test_a_workload_is_chosen_with_all_its_cases():
    assert selected(["W1"]) == ["W1.submit", "W1.map", "W1.growth", "W1.million"]
    assert selected(["W10", "latency"]) == ["latency", "W10.cold", "W10.cached"]
    assert selected([]) == list(TITLES)


# ---- peers


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["compare"], id="no-peers"),
        pytest.param(["compare", "--peers", "jolib"], id="unknown-peer"),
        pytest.param(["compare", "W99", "--peers", "joblib"], id="unknown-case"),
    ],
)
def test_comparison_that_makes_no_sense_exits_2(arguments):
    with pytest.raises(SystemExit) as exit_:
        command_line.main(arguments)
    assert exit_.value.code == 2


def test_peer_is_timed_in_a_process_of_its_own():
    timing = comparing._peer(Path(sys.executable), "joblib", "W1.map", 50)()
    assert timing.wall_s > 0
    assert timing.cpu.total > 0


def test_peer_that_cannot_do_the_work_says_why():
    run = comparing._peer(Path(sys.executable), "joblib", "W2.chain", 5)
    assert comparing._reason_against(run) == "a call of joblib cannot wait for another"


def test_environment_that_is_there_is_used_again(tmp_path, monkeypatch):
    made: list[list[str]] = []
    monkeypatch.setattr(environments, "_run", lambda command, name: _pretend(made, command))
    said: list[str] = []
    first = environments.environment_of("parsl", tmp_path, progress=said.append)
    again = environments.environment_of("parsl", tmp_path, progress=said.append)
    assert first == again == tmp_path / "parsl" / "bin" / "python"
    assert len(made) == 2  # the environment, then what goes into it
    assert "parsl>=" in " ".join(made[1])
    assert len(said) == 1


def _pretend(made: list[list[str]], command: list[str]) -> None:
    made.append(command)
    if "venv" in command:
        Path(command[-1]).mkdir(parents=True)


def test_environment_that_cannot_be_made_carries_what_the_installer_said():
    with pytest.raises(environments.PeerMissing, match=r"(?s)x cannot be installed:.*no such luck"):
        environments._run([sys.executable, "-c", "raise SystemExit('no such luck')"], "x")


# ---- W10


def test_tables_that_differ_stop_the_benchmark_and_say_which(tmp_path):
    for folder, value in (("plain", 1), ("flow", 2)):
        for name in etl._TABLES:
            path = etl._path(tmp_path / folder, name)
            if name == "flights":
                path.mkdir(parents=True)
                path = path / "2013-01.parquet"
            same = value if name == "gain" else 0
            pd.DataFrame({"a": [same]}).to_parquet(path)
    etl._compare(tmp_path / "plain", tmp_path / "plain", "itself")
    with pytest.raises(WrongValue, match="the table gain of flow is another one"):
        etl._compare(tmp_path / "plain", tmp_path / "flow", "flow")
