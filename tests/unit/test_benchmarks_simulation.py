"""`python -m benchmarks simulate`: slots are filled, the figures add up, the report reads back."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.simulation import Workload, simulate
from benchmarks.simulation_bound import list_schedule
from benchmarks.simulation_report import picture, read_simulations

SHORT = Workload(0.005, 0.02, 0.005)


@pytest.fixture(scope="module")
def simulation():
    return simulate(9_000, workers=10, losses=1.0, seed=3, workload=SHORT)


def test_nineteen_of_twenty_slots_execute_runs_while_workers_are_lost(simulation):
    assert simulation.losses > 0
    assert simulation.use >= 0.95
    assert simulation.executions >= simulation.runs == 9_000


def test_many_slots_are_filled_nearly_as_well_as_without_parcels():
    """A list schedule reaches 88 %: the scheduler takes 0.6 s of 3 to hand one to each slot."""
    played = simulate(24_000, workers=500, losses=0.0, seed=1)
    assert 0.85 <= played.best_use <= 0.92
    assert played.use >= 0.88 * played.best_use


def test_no_schedule_is_shorter_than_the_longest_item_or_the_work_of_a_slot():
    assert list_schedule([[1.0], [2.0]], 8, 4, 0.0).makespan_s == 6.0
    assert list_schedule([[1.0, 9.0], [2.0]], 2, 4, 0.0).makespan_s == 11.0


def test_a_list_schedule_uses_all_slots_but_for_its_start():
    assert list_schedule([[1.0]], 1_000, 10, 0.0).use == pytest.approx(1.0)
    # the tenth slot starts a second late, and so does the work of all but for the first one
    late = list_schedule([[1.0]], 1_000, 10, 0.1)
    assert late.most_s == pytest.approx(90.6, abs=0.6)
    assert late.use == pytest.approx(1 - 0.55 / 90.6, abs=0.002)


def test_the_driver_and_the_simulator_are_measured_apart(simulation):
    parts = simulation.driver_parts_us
    assert simulation.driver_us == pytest.approx(sum(parts.values()))
    assert all(parts[name] > 0 for name in ("submit", "pack", "take", "outcomes"))
    assert simulation.simulator_us > 0


def test_the_same_seed_plays_the_same_flow(simulation):
    again = simulate(9_000, workers=10, losses=1.0, seed=3, workload=SHORT)
    assert again.makespan_s == simulation.makespan_s
    assert again.parcels == simulation.parcels


def test_the_command_writes_a_table_lines_and_a_picture(tmp_path: Path, capsys):
    lines, svg = tmp_path / "lines.jsonl", tmp_path / "picture.svg"
    arguments = ["--workers", "4", "--json", str(lines), "--picture", str(svg)]
    assert main(["simulate", "--runs", "300", "--runs", "600", *arguments]) == 0
    assert [row.split("|")[1].strip() for row in capsys.readouterr().out.splitlines()[2:]] == [
        "300",
        "600",
    ]
    assert [each.runs for each in read_simulations(lines)] == [300, 600]
    root = ElementTree.fromstring(svg.read_text())
    assert len(root.findall("{http://www.w3.org/2000/svg}polyline")) == 4
    assert picture(read_simulations(lines)) == svg.read_text()


def test_a_file_of_something_else_is_refused(tmp_path: Path):
    path = tmp_path / "other.jsonl"
    path.write_text('{"samples": [], "case": "W1"}\n')
    with pytest.raises(ValueError, match="holds no simulations"):
        read_simulations(path)
