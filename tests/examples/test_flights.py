"""examples/flights.py on all its data: the same tables as plain pandas, whatever happens meanwhile.

Each run is a process of its own, started as a user would start it; no flow is imported here.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPT = str(EXAMPLES / "flights.py")
DASKFLOW = str(Path(sys.executable).with_name("daskflow"))
ONE_FLIGHT = ["year", "month", "day", "carrier", "flight", "origin"]
KEYS = {
    "flights": ONE_FLIGHT,
    "rejected": ONE_FLIGHT,
    "carriers": ["carrier"],
    "routes": ["origin", "dest"],
    "gain": ["carrier", "plane_age"],
    "delay": ["origin", "hour", "sky"],
}


def run(*command: str, cwd: Path) -> str:
    """Run a command that has to succeed, and return what it printed."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=100, cwd=cwd, check=False
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pd.DataFrame]:
    """Return the tables as plain pandas computes them."""
    folder = tmp_path_factory.mktemp("plain")
    run(sys.executable, str(EXAMPLES / "flights_plain.py"), "--out", "tables", cwd=folder)
    return {name: read(folder / "tables", name) for name in KEYS}


def read(folder: Path, name: str) -> pd.DataFrame:
    """Read one table in the order of its key, and see that the key is one."""
    path = folder / name
    table = pd.read_parquet(path if path.is_dir() else path.with_suffix(".parquet"))
    if "time_hour" in table:  # plain pandas leaves what the flow reads as times and counts
        table["time_hour"] = pd.to_datetime(table["time_hour"], utc=True)
        table["cancelled"] = table["cancelled"].astype(bool)
    assert not table.duplicated(KEYS[name]).any()
    return table.sort_values(KEYS[name], ignore_index=True)


def assert_tables(folder: Path, expected: dict[str, pd.DataFrame]) -> None:
    """Compare every table with the expected one, floats within 1e-9."""
    for name, table in expected.items():
        found = read(folder, name)
        if name in ("flights", "rejected"):  # each side keeps columns that the other has no use for
            common = [column for column in table if column in found]
            assert {*ONE_FLIGHT, "dep_delay", "arr_delay", "tailnum"} <= {*common}
            found, table = found[common], table[common]
        pd.testing.assert_frame_equal(found, table, rtol=0, atol=1e-9, obj=name)


def shown_run(cwd: Path) -> dict[str, Any]:
    """Return what the record tells about the last run."""
    shown: dict[str, Any] = json.loads(run(DASKFLOW, "runs", "show", "@last", "--json", cwd=cwd))
    return shown


def stages(shown: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the stages of a shown run by their task."""
    return {stage["task"]: stage for stage in shown["stages"]}


@pytest.mark.parametrize(
    "command",
    [
        pytest.param((sys.executable, SCRIPT, "--out", "tables"), id="processes"),
        pytest.param(
            (sys.executable, SCRIPT, "--out", "tables", "--task-runner", "threads"), id="threads"
        ),
        pytest.param((DASKFLOW, "run", SCRIPT, "-p", "out=tables"), id="daskflow-run"),
    ],
)
def test_tables_are_those_of_plain_pandas(
    command: tuple[str, ...], tmp_path: Path, expected: dict[str, pd.DataFrame]
) -> None:
    printed = run(*command, cwd=tmp_path)
    assert_tables(tmp_path / "tables", expected)
    assert "read 336,776 flights from 12 monthly files" in printed


def test_tables_are_the_same_on_workers_that_know_nothing_of_the_example(
    tmp_path: Path, expected: dict[str, pd.DataFrame], external_address: str
) -> None:
    out = str(tmp_path / "tables")
    where = external_address
    run(sys.executable, SCRIPT, "--out", out, "--task-runner", where, cwd=tmp_path)
    assert_tables(tmp_path / "tables", expected)


def test_summary_and_record_tell_what_went_wrong(
    tmp_path: Path, expected: dict[str, pd.DataFrame]
) -> None:
    command = (sys.executable, SCRIPT, "--out", "tables", "--task-runner", "threads")
    printed = run(*command, "--months", "2,11", cwd=tmp_path)

    rejected = expected["rejected"][expected["rejected"]["month"].isin([2, 11])]
    carriers = read(tmp_path / "tables", "carriers")
    assert "left out a file: ValueError: flights-2014-01.csv.gz is cut short" in printed
    assert f"set aside {len(rejected):,} flights" in printed
    for problem, n in rejected["problem"].value_counts().items():
        assert f"{n:,} {problem}\n" in printed
    assert f"asked again for the names of {len(carriers)} carriers" in printed

    shown = shown_run(tmp_path)
    assert shown["flow_run"]["state"] == "Completed"
    assert stages(shown)["airline"]["retries"] == len(carriers)
    assert stages(shown)["extract"]["states"] == {"Completed": 2, "Failed": 1}


def test_months_of_an_earlier_run_are_taken_away(
    tmp_path: Path, expected: dict[str, pd.DataFrame]
) -> None:
    folder = tmp_path / "tables" / "flights"
    folder.mkdir(parents=True)
    (folder / "2013-05.parquet").write_bytes(b"of an earlier run")
    (folder / "notes.txt").write_text("not ours")
    command = (sys.executable, SCRIPT, "--out", "tables", "--task-runner", "sync")
    run(*command, "--months", "3", cwd=tmp_path)

    assert sorted(file.name for file in folder.iterdir()) == ["2013-03.parquet", "notes.txt"]
    march = expected["flights"]["month"] == 3
    assert len(pd.read_parquet(folder / "2013-03.parquet")) == march.sum()


@pytest.mark.chaos
@pytest.mark.parametrize(
    ("months", "written"),
    [
        pytest.param(range(5, 12), 0, id="while-it-reads"),
        pytest.param(range(1, 12), 3, id="while-it-holds-results"),
    ],
)
def test_tables_are_the_same_when_a_worker_is_killed(
    months: range,
    written: int,
    tmp_path: Path,
    expected: dict[str, pd.DataFrame],
    eventually: Callable[..., None],
) -> None:
    tables = tmp_path / "tables"
    output = tmp_path / "output.txt"
    with output.open("w") as written_to:
        process = subprocess.Popen(
            (sys.executable, SCRIPT, "--out", str(tables)), stdout=written_to, stderr=written_to
        )
    try:
        worker = worker_that_reads(process, tables / "inbox", months)
        if written:  # what it has read, and what came of it, is lost with it
            worker.resume()
            eventually(lambda: len(list(tables.glob("flights/*"))) >= written, within_s=30)
        worker.kill()
        status = process.wait(timeout=60)
    finally:
        process.kill()
        process.wait()
        print(output.read_text())
    assert status == 0
    assert_tables(tables, expected)

    shown = shown_run(tmp_path)
    assert shown["flow_run"]["state"] == "Completed"
    assert len(shown["lost_workers"]) == 1
    assert stages(shown)["extract"]["states"] == {"Completed": 12, "Failed": 1}
    if not written:
        assert stages(shown)["extract"]["crashes"] == 1  # that run was executed again


def worker_that_reads(process: subprocess.Popen[Any], inbox: Path, months: range) -> psutil.Process:
    """Stop a child of `process` while it has one of these monthly files open, and return it."""
    names = {str(inbox / f"flights-2013-{month:02}.csv.gz") for month in months}
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for child in psutil.Process(process.pid).children(recursive=True):
            try:
                if opened(child) & names:
                    child.suspend()
                    if opened(child) & names:  # still: it is in the middle of the file
                        return child
                    child.resume()
            except psutil.NoSuchProcess:
                continue
        assert process.poll() is None, "the flow ended before a worker read any of the files"
    raise AssertionError("no worker read any of the files")


def opened(process: psutil.Process) -> set[str]:
    """Return the files that a process has open."""
    return {file.path for file in process.open_files()}
