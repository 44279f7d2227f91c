"""examples/train.py: the same trials as plain loops make, with hopeless settings stopped early."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import pandas as pd
import pytest
from sklearn.model_selection import ParameterGrid
from threadpoolctl import threadpool_limits

from daskflow.runner.store import open_store

SCRIPT = str(Path(__file__).parents[2] / "examples" / "train.py")
DASKFLOW = str(Path(sys.executable).with_name("daskflow"))
FAST = ["neighbours", "logistic", "svm"]
FAMILIES = [*FAST, "forest"]
# Floats are added up in the same order everywhere only if linear algebra has one thread.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

train = runpy.run_path(SCRIPT)


@pytest.fixture(scope="module")
def plain() -> Iterator[dict[str, Any]]:
    """Search each family in loops, without flow, task or cluster."""
    with threadpool_limits(1):
        digits = train["split"].fn(0)
        yield {family: search(family, digits) for family in FAMILIES}


def search(family: str, digits: Any) -> list[Any]:
    """Train each setting on 135, 270, 540 and 1080 rows for as long as it keeps up."""
    contenders, trials = list(ParameterGrid(train["GRIDS"][family])), []
    for rows in (135, 270, 540, 1080):
        if len(contenders) == 1 and rows < 1080:
            continue
        scored = []
        for settings in contenders:
            try:
                score = train["evaluate"].fn(settings, family, digits, rows, 0)
            except ValueError:  # more neighbours than rows
                continue
            scored.append(train["Trial"](family, settings, rows, score))
        scored = sorted(scored, key=lambda trial: -trial.score)
        trials += scored
        half = scored[: -(-len(scored) // 2)]
        contenders = [one.settings for one in half if one.score >= scored[0].score - 0.1]
    return trials


def run(*command: str, cwd: Path) -> str:
    """Run a command that has to succeed, and return what it printed."""
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=100,
        cwd=cwd,
        env=os.environ | ONE_THREAD,
        check=False,
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}\n{done.stderr}"
    return done.stdout


def assert_trials(folder: Path, families: list[str], plain: dict[str, Any]) -> None:
    """Compare every trial with those of plain loops, and the saved model with the best of them."""
    expected = [trial for family in families for trial in plain[family]]
    found = pd.read_csv(folder / "trials.csv")
    assert list(found["score"]) == [trial.score for trial in expected]
    assert list(found["settings"]) == [str(trial.settings) for trial in expected]
    assert list(found["rows"]) == [trial.rows for trial in expected]

    winner = max((one for one in expected if one.rows == 1080), key=lambda one: one.score)
    model = joblib.load(folder / "model.joblib")
    assert winner.settings.items() <= model[-1].get_params().items()
    assert model.score(*train["split"].fn(0).held_out) > 0.95


@pytest.mark.parametrize(
    ("command", "families"),
    [
        pytest.param((sys.executable, SCRIPT, "--out", "out"), FAMILIES, id="processes"),
        pytest.param(
            (DASKFLOW, "run", SCRIPT, "-p", "out=out", "-p", 'families=["svm"]'),
            ["svm"],
            id="daskflow-run",
        ),
    ],
)
def test_trials_are_those_of_plain_loops(
    command: tuple[str, ...], families: list[str], tmp_path: Path, plain: dict[str, Any]
) -> None:
    printed = run(*command, cwd=tmp_path)
    assert_trials(tmp_path / "out", families, plain)
    assert "digits that no decision has seen" in printed


def test_trials_are_the_same_on_workers_that_know_nothing_of_the_example(
    tmp_path: Path, plain: dict[str, Any], external_address: str
) -> None:
    out, where = str(tmp_path / "out"), external_address
    command = (sys.executable, SCRIPT, "--out", out, "--task-runner", where)
    run(*command, "--families", "logistic", cwd=tmp_path)
    assert_trials(tmp_path / "out", ["logistic"], plain)


def test_record_shows_each_search_and_what_was_stopped(
    tmp_path: Path, plain: dict[str, Any], home: Path
) -> None:
    command = (sys.executable, SCRIPT, "--out", "out", "--task-runner", "threads")
    run(*command, "--families", *FAST, cwd=tmp_path)
    assert_trials(tmp_path / "out", FAST, plain)
    with open_store(f"sqlite:///{home}/runs.db") as store:
        (parent,) = store.flow_runs(flow="train")
        searches = {run.name: run for run in store.children(parent.flow_run_id)}
        assert set(searches) == {f"tune-{family}" for family in FAST}
        for family in FAST:
            one = searches[f"tune-{family}"]
            assert (one.state, one.parent_flow_run_id) == ("Completed", parent.flow_run_id)
            fits = len(plain[family])
            refused = 2 if family == "neighbours" else 0  # 160 neighbours among 135 rows
            split = "Completed" if family == FAST[0] else "Cached"  # once, for all searches
            states = Counter({"Completed": fits, "Failed": refused}) + Counter([split])
            counts = store.counts(one.flow_run_id)
            assert counts == {state: number for state, number in states.items() if number}
            settings = len(ParameterGrid(train["GRIDS"][family]))
            assert fits + refused <= 4 * settings / 2  # all of them on four sizes: twice that
