"""Fixed values of pandas, whose digests are compared between processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

__all__ = ["values"]


def values(columns: Mapping[str, Sequence[Any]]) -> list[Any]:
    """Return what is as fixed as pandas is: what it makes of `columns`, and two of its own."""
    return [pd.DataFrame(columns), pd.Categorical(["b", "a"]), pd.date_range("2026", periods=3)]
