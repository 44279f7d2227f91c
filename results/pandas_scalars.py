"""pandas' scalars as tagged JSON: Timestamp, Timedelta, NaT and NA; others are left to pickle."""

from __future__ import annotations

from typing import Any

import pandas as pd

from daskflow.results.encoded import Unencodable
from daskflow.results.tagged import Untagged, zone_from_json, zone_to_json

__all__ = ["pandas_scalar", "pandas_scalar_from"]


def pandas_scalar(value: Any) -> Any:
    """Return a pandas scalar as tagged JSON; None for what is no scalar of these types."""
    if value is pd.NaT:
        return {"$": ["pandas", "NaT"]}
    if value is pd.NA:
        return {"$": ["pandas", "NA"]}
    if type(value) is pd.Timestamp:
        try:
            zone = zone_to_json(value.tzinfo)
        except Untagged as error:
            raise Unencodable(str(error)) from error
        ticks = int((value if zone is None else value.tz_convert(None)).asm8.view("i8"))
        return {"$": ["pandas", "Timestamp", ticks, value.unit, zone]}
    if type(value) is pd.Timedelta:
        return {"$": ["pandas", "Timedelta", int(value.asm8.view("i8")), value.unit]}
    return None


def pandas_scalar_from(kind: str, *rest: Any) -> Any:
    """Return the scalar that `pandas_scalar` wrote."""
    if kind == "NaT":
        return pd.NaT
    if kind == "NA":
        return pd.NA
    ticks, unit, *zone = rest
    if kind == "Timedelta":
        return pd.Timedelta(ticks, unit).as_unit(unit)
    naive = pd.Timestamp(ticks, unit=unit).as_unit(unit)
    return (
        naive if zone[0] is None else naive.tz_localize("UTC").tz_convert(zone_from_json(zone[0]))
    )
