"""`python -m benchmarks simulate`: slots are filled, the figures add up, the report reads back."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.simulation import Workload, simulate
from benchmarks.simulation_report import picture, read_simulations

SHORT = Workload(0.005, 0.02, 0.005)


@pytest.fixture(scope="module")
def simulation():
    return simulate(9_000, workers=10, losses=1.0, seed=3, workload=SHORT)


def test_nineteen_of_twenty_slots_execute_runs_while_workers_are_lost(simulation):
    assert simulation.losses > 0
    assert simulation.use >= 0.95
    assert simulation.executions >= simulation.runs == 9_000


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
