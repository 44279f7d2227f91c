"""The examples are edited and run again: what runs is what the edit concerns."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from daskflow.config import get_settings
from daskflow.runner.store import open_store

EXAMPLES = Path(__file__).parents[2] / "examples"
DASKFLOW = str(Path(sys.executable).with_name("daskflow"))
NEVER_KEPT = {"airline", "save", "save_month"}  # they talk to others or write files
BELOW_CLEAN = {"clean", "check", "join", "set_aside", "stack", "tally", "combine", "name_carriers"}


class Example:
    """A copy of the example that a test may edit."""

    files = ("flights.py", "nycflights.py", "carrier_service.py")

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in self.files:
            shutil.copy(EXAMPLES / name, folder)

    def run(self) -> set[str]:
        """Run one month, and return the tasks of which something was executed."""
        self.command(
            *(sys.executable, "flights.py", "--out", "out"),
            *("--months", "2", "--task-runner", "threads"),
        )
        shown = json.loads(self.command(DASKFLOW, "runs", "show", "@last", "--json"))
        executed = {stage["task"] for stage in shown["stages"] if "Completed" in stage["states"]}
        return executed - NEVER_KEPT

    def command(self, *command: str) -> str:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=100, cwd=self.folder, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def edit(self, before: str, after: str, name: str | None = None) -> None:
        """Replace what stands exactly once in the copy."""
        file = self.folder / (name or self.files[0])
        text = file.read_text()
        assert text.count(before) == 1, before
        file.write_text(text.replace(before, after))

    def late(self) -> float:
        """How large a share of flights the carriers' table calls late."""
        return float(pd.read_parquet(self.folder / "out" / "carriers.parquet")["late_share"].sum())


@pytest.fixture
def example(tmp_path: Path) -> Example:
    return Example(tmp_path)


def test_a_rerun_executes_what_an_edit_changed(example: Example) -> None:
    assert example.run() >= {"extract", "read_weather", *BELOW_CLEAN}
    late = example.late()

    example.edit("# Transform ---", "# A comment of somebody else.\n# Transform ---")
    assert example.run() == set()

    # one cleaning helper, and monthly files of other bytes: both are read again, and as what they
    # say is the same, nothing below is
    example.edit('weather["wind_speed"] > 200', 'weather["wind_speed"] > 250')
    example.edit("compresslevel=1", "compresslevel=2", "nycflights.py")
    assert example.run() == {"read_weather", "extract"}

    # one threshold: everything below, and not the reading
    example.edit("LATE_MINUTES = 15", "LATE_MINUTES = 30")
    assert example.run() == BELOW_CLEAN
    assert example.late() < late


class Search(Example):
    """A copy of the search for the best model."""

    files = ("train.py",)

    def trained(self) -> tuple[int, int]:
        """Search one family; return how many trials were trained, and how many there are."""
        self.command(
            *(sys.executable, "train.py", "--out", "out"),
            *("--families", "neighbours", "--task-runner", "threads"),
        )
        with open_store(get_settings().store.url) as store:
            last = store.flow_runs(flow="train")[0]
            (tune,) = store.children(last.flow_run_id)
            states = [run.state for run in store.task_runs(tune.flow_run_id)]
        trials = pd.read_csv(self.folder / "out" / "trials.csv")
        return states.count("Completed"), len(trials)


def test_a_search_that_was_edited_trains_what_the_edit_concerns(tmp_path: Path) -> None:
    search = Search(tmp_path)
    trained, trials = search.trained()
    assert trained >= trials > 20

    search.edit("MARGIN = 0.1  # a", "MARGIN = 0.1  # another comment: a")
    assert search.trained() == (0, trials)

    search.edit("MARGIN = 0.1", "MARGIN = 0.02")  # a threshold: others go on, and fewer of them
    trained, fewer = search.trained()
    assert fewer < trials
    assert trained <= 2

    search.edit("make_pipeline(StandardScaler(), model)", "make_pipeline(model)")  # a helper
    trained, others = search.trained()
    assert trained >= others
