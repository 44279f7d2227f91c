"""Which model reads handwritten digits best?  A search that drops hopeless settings early.

    python examples/train.py --out digits
    daskflow run examples/train.py -p out=digits

The data are the 1,797 digits of 8 × 8 pixels that come with scikit-learn.  Each family of models is
searched by a subflow, by successive halving: train every setting of a grid on 135 rows, keep the
better half, double the rows, until all of them are in use.  What runs next depends on scores that
have just come in, and here that is a `while` and an `if`.  Trials are kept by the content of what
they are made of, so after an edit only those are trained that it concerns.  The winner is fitted
once more, tested on rows that no decision has seen, and saved.  The same seed gives the same trials
everywhere.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import joblib
import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import ParameterGrid, train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from daskflow import DEFAULT, flow, get_run_logger, task, unmapped

Family = Literal["neighbours", "logistic", "svm", "forest"]
GRIDS: dict[Family, dict[str, list[Any]]] = {
    "neighbours": {
        "n_neighbors": [1, 3, 5, 10, 20, 40, 80, 160],
        "weights": ["uniform", "distance"],
    },
    "logistic": {"C": [1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0], "max_iter": [1000]},
    "svm": {"C": [0.1, 1.0, 10.0, 100.0], "gamma": [1e-4, 1e-3, 0.01, 0.1, 1.0]},
    "forest": {"max_depth": [2, 4, 8, 16], "max_features": [0.05, 0.1, 0.3], "n_estimators": [150]},
}
MODELS = {
    "neighbours": KNeighborsClassifier,
    "logistic": LogisticRegression,
    "svm": SVC,
    "forest": RandomForestClassifier,
}
FIRST_ROWS, ALL_ROWS, HELD_OUT_ROWS = 135, 1080, 360  # what is left over is for validation
MARGIN = 0.1  # a setting that is further behind the best has had its chance


class Digits(NamedTuple):
    """Pixels and labels: to train on, to decide by, and to test the winner with at the end."""

    train: tuple[np.ndarray, np.ndarray]
    validation: tuple[np.ndarray, np.ndarray]
    held_out: tuple[np.ndarray, np.ndarray]


class Trial(NamedTuple):
    """One setting, trained on so many rows, and the share of validation digits that it read."""

    family: Family
    settings: dict[str, Any]
    rows: int
    score: float


def build(family: Family, settings: dict[str, Any], seed: int) -> Pipeline:
    """Make the model that a setting describes."""
    model = MODELS[family](**settings)
    if "random_state" in model.get_params():
        model.set_params(random_state=seed)
    return make_pipeline(StandardScaler(), model)


@task(cache_policy=DEFAULT)
def split(seed: int) -> Digits:
    """Load the digits, shuffle them and set rows aside."""
    pixels, labels = load_digits(return_X_y=True)
    x, x_test, y, y_test = train_test_split(
        pixels, labels, test_size=HELD_OUT_ROWS, stratify=labels, random_state=seed
    )
    x, x_valid, y, y_valid = train_test_split(
        x, y, train_size=ALL_ROWS, stratify=y, random_state=seed
    )
    return Digits((x, y), (x_valid, y_valid), (x_test, y_test))


@task(cache_policy=DEFAULT)
def evaluate(
    settings: dict[str, Any], family: Family, digits: Digits, rows: int, seed: int
) -> float:
    """Train one setting on the first `rows` rows, and score it on the validation rows."""
    pixels, labels = digits.train
    model = build(family, settings, seed).fit(pixels[:rows], labels[:rows])
    return float(model.score(*digits.validation))


@flow(flow_run_name="tune-{family}")
def tune(family: Family, seed: int) -> list[Trial]:
    """Search one family; return every trial, those on all rows last and the best of them first."""
    logger = get_run_logger()
    digits = split.submit(seed)
    contenders = list(ParameterGrid(GRIDS[family]))
    trials: list[Trial] = []
    rows = FIRST_ROWS
    while contenders:
        futures = evaluate.map(
            contenders, unmapped(family), unmapped(digits), unmapped(rows), unmapped(seed)
        )
        futures.wait()
        finished = []
        for settings, future in zip(contenders, futures, strict=True):
            if future.state.is_completed():
                finished.append(Trial(family, settings, rows, future.result()))
            else:  # such as 160 neighbours among 135 rows
                logger.info("left out %s: %s", settings, future.state.message)
        finished.sort(key=lambda trial: trial.score, reverse=True)
        trials += finished
        if rows == ALL_ROWS:
            break

        best, contenders = finished[0], []
        for trial in finished[: (len(finished) + 1) // 2]:  # successive halving
            if trial.score >= best.score - MARGIN:
                contenders.append(trial.settings)
        rows = 2 * rows if len(contenders) > 1 else ALL_ROWS
        logger.info("%d of %d go on to %d rows", len(contenders), len(finished), rows)
    return trials


@task
def finish(winner: Trial, digits: Digits, seed: int, file: Path) -> float:
    """Fit the winner on all that decisions have seen, save it, and score it on the rest."""
    pixels, labels = map(np.concatenate, zip(digits.train, digits.validation, strict=True))
    model = build(winner.family, winner.settings, seed).fit(pixels, labels)
    file.parent.mkdir(parents=True, exist_ok=True)
    joblib.dump(model, file)
    return float(model.score(*digits.held_out))


@flow
def train(
    families: list[Family] | None = None, out: str = "digits", seed: int = 0
) -> dict[str, Any]:
    """Search each family, save the best model, and return what it is and how well it does."""
    folder = Path(out).resolve()
    searches = [tune(family, seed) for family in families or get_args(Family)]
    winner = max((best(trials) for trials in searches), key=lambda trial: trial.score)
    digits = split.submit(seed)
    test_score = finish.submit(winner, digits, seed, folder / "model.joblib").result()

    every = pd.DataFrame([trial for trials in searches for trial in trials], columns=Trial._fields)
    every.to_csv(folder / "trials.csv", index=False)
    print(pd.DataFrame(map(summary, searches)).to_string(index=False))
    whole_grid = sum(len(ParameterGrid(GRIDS[trials[0].family])) for trials in searches) * ALL_ROWS
    print(f"trained on {every['rows'].sum():,} rows; every setting on all rows: {whole_grid:,}")
    print(f"best: {winner.family} {winner.settings}")
    print(f"  reads {test_score:.1%} of {HELD_OUT_ROWS} digits that no decision has seen")
    print(f"  saved in {folder / 'model.joblib'}; every trial is in {folder / 'trials.csv'}")
    print("to look at the run: daskflow runs show @last")
    return {**winner._asdict(), "test_score": test_score}


def best(trials: list[Trial]) -> Trial:
    """Return the best of those that got as far as all rows."""
    return next(trial for trial in trials if trial.rows == ALL_ROWS)


def summary(trials: list[Trial]) -> dict[str, Any]:
    """Tell in one line of the table how the search of a family went."""
    settings = len(ParameterGrid(GRIDS[trials[0].family]))
    to_the_end = sum(trial.rows == ALL_ROWS for trial in trials)
    return {
        "family": trials[0].family,
        "settings": settings,
        "stopped early": settings - to_the_end,
        "fits": len(trials),
        "score": f"{best(trials).score:.3f}",
        "best settings": ", ".join(f"{k}={v}" for k, v in best(trials).settings.items()),
    }


def main() -> None:
    """Run the flow with the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", default="digits", help="folder of model and trials [%(default)s]")
    parser.add_argument("--families", nargs="+", choices=get_args(Family), help="[all of them]")
    parser.add_argument("--seed", type=int, default=0, help="[%(default)s]")
    where = "processes, threads, sync or the address of a Dask scheduler [%(default)s]"
    parser.add_argument("--task-runner", default="processes", help=where)
    options = parser.parse_args()
    chosen = train.with_options(task_runner=options.task_runner)
    chosen(families=options.families, out=options.out, seed=options.seed)


if __name__ == "__main__":
    main()
