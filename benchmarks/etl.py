"""W10: the flights ETL of `examples/`, as a flow and as the same functions in a plain loop.

``python -m benchmarks.etl MODE FOLDER MONTHS`` runs it once in a process of its own, which is what
a case of W10 times: import and start of the cluster included, as a user waits for them.  The tables
of both must be equal.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.cold import process_contender
from benchmarks.engines import settings
from benchmarks.harness import Case, WrongValue
from benchmarks.measurement import Timing

__all__ = ["TITLES", "etl_cases"]

TITLES = {
    "W10.cold": "the flights ETL as a flow, against the same functions in a plain loop",
    "W10.cached": "the same once more, its results kept, against the functions in a plain loop",
}
_MONTHS, _QUICK_MONTHS = 12, 2
_ROOT = Path(__file__).parent.parent
_FLOW_TASK_RUNS_PER_MONTH = 11  # extract … save_month, set_aside, four tallies, count
_TABLES = ("flights", "rejected", "carriers", "routes", "gain", "delay")


def etl_cases(scratch: Path, *, quick: bool, controls_only: bool = False) -> list[Case]:
    """Return the cases of W10.

    A case is a name and the modes that it compares (`_MODES`), the control first.
    """
    months = _QUICK_MONTHS if quick else _MONTHS
    compared = {"W10.cold": ("plain", "flow"), "W10.cached": ("plain", "cached")}
    return [
        Case(
            name,
            TITLES[name],
            months,
            months * _FLOW_TASK_RUNS_PER_MONTH,
            {_WHO[mode]: _contender(mode, scratch, months) for mode in modes},
            most_rounds=3,
        )
        for name, both in compared.items()
        for modes in [both[:1] if controls_only else both]
    ]


_WHO = {"plain": "plain loop", "flow": "daskflow", "cached": "daskflow"}


def _contender(mode: str, scratch: Path, months: int) -> Callable[[], Timing]:
    """Return what runs a mode and holds its tables against those of the plain loop."""
    kept = scratch / f"etl-plain-{months}"
    primed = scratch / f"etl-home-{months}"

    def once(out: Path, home: Path) -> Timing:
        environment = {
            **os.environ,
            **settings(home),
            "DASKFLOW_RUNNER__WORKERS": "2",
            "PYTHONPATH": str(_ROOT),
        }
        command = [sys.executable, "-m", "benchmarks.etl", mode, str(out), str(months)]
        return process_contender(command, environment, scratch, None)()

    def run() -> Timing:
        if mode == "cached" and not primed.exists():
            once(scratch / "etl-primed", primed)
        with tempfile.TemporaryDirectory(prefix="etl-", dir=scratch) as folder:
            out = kept if mode == "plain" else Path(folder) / "out"
            home = primed if mode == "cached" else Path(folder) / "home"  # nothing is kept there
            timing = once(out, home)
            if mode != "plain":
                _compare(kept, out, mode)
        return timing

    return run


def _compare(expected: Path, got: Path, who: str) -> None:
    """Raise `WrongValue` unless both folders hold the same tables."""
    import pandas as pd  # only W10 needs it

    for name in _TABLES:
        tables = [pd.read_parquet(_path(folder, name)) for folder in (expected, got)]
        try:
            pd.testing.assert_frame_equal(*tables)
        except AssertionError as error:
            raise WrongValue(f"W10: the table {name} of {who} is another one:\n{error}") from error


def _path(folder: Path, name: str) -> Path:
    return folder / name if name == "flights" else folder / f"{name}.parquet"


def _as_flow(example: Any, folder: Path, months: list[int]) -> None:
    example.etl(str(folder), months)


def _in_a_loop(example: Any, folder: Path, months: list[int]) -> None:
    """Call the functions of the flow one after the other, without any daskflow between."""
    weather = example.read_weather.fn(example.data_file("weather.csv"), "")
    planes = example.read_planes.fn(example.data_file("planes.csv"), "")
    airports = example.read_airports.fn(example.data_file("airports.csv"), "")
    rejected, count = [], 0
    tallies: dict[str, list[Any]] = {name: [] for name in example.TABLES}
    for file in example.deliver(folder / "inbox", months):
        try:
            extracted = example.extract.fn(file, "")
        except ValueError:
            continue  # the file that broke off is left out, as in the flow
        count += example.count.fn(extracted)
        checked = example.check.fn(example.clean.fn(extracted), airports)
        rejected.append(example.set_aside.fn(checked))
        joined = example.join.fn(checked, weather, planes, airports)
        example.save_month.fn(joined, folder / "flights")
        for name, (by, _) in example.TABLES.items():
            tallies[name].append(example.tally.fn(joined, by))
    tables = {"rejected": example.stack.fn(rejected)}
    for name, (by, measures) in example.TABLES.items():
        tables[name] = example.combine.fn(tallies[name], by, measures)
    with example.carrier_service(example.data_file("airlines.csv")) as service:
        names = [_asked(example, code, service) for code in tables["carriers"]["carrier"]]
    tables["carriers"] = example.name_carriers.fn(tables["carriers"], names)
    for name, table in tables.items():
        example.save.fn(table, folder / f"{name}.parquet")


def _asked(example: Any, code: str, service: Any) -> str:
    """Ask the service again when it turns the first question away, without a pause."""
    try:
        return str(example.airline.fn(code, service.address))
    except ConnectionError:
        return str(example.airline.fn(code, service.address))


_MODES: Mapping[str, Callable[[Any, Path, list[int]], None]] = {
    "plain": _in_a_loop,
    "flow": _as_flow,
    "cached": _as_flow,  # in a home that a run of "flow" has filled
}


def _main(mode: str, folder: str, months: str) -> None:
    sys.path.insert(0, str(_ROOT / "examples"))
    import flights  # type: ignore[import-not-found]  # examples are no package

    _MODES[mode](flights, Path(folder), list(range(1, int(months) + 1)))


if __name__ == "__main__":
    _main(*sys.argv[1:])
