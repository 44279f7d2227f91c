"""Digests of fixed values, to compare between processes: whether they make the same cache keys.

The rules are the same everywhere; what a library makes of the same call is not: other versions of
pandas give a column of texts another dtype, and then its content is another.
"""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from daskflow.caching.hashing import content_digest

__all__ = ["canaries", "differing", "loaded_libraries"]

_DAY = dt.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=dt.UTC)
_COLUMNS: Mapping[str, Sequence[Any]] = {
    "n": [1, 2],
    "x": [0.5, -0.0],
    "s": ["a", "ä"],
    "t": [_DAY, _DAY],
}


def _plain() -> Any:
    return [None, True, 2**70, -0.0, 1j, "ä", b"\0", _DAY, Decimal("1.50"), {1: (2,)}, {"a", "b"}]


def _numpy() -> Any:
    import numpy as np  # heavy, like the next: only where the flow process has it loaded

    return [np.arange(6).reshape(2, 3), np.array(["a", "ä"]), np.array(["2026"], "M8[s]")]


def _pandas() -> Any:
    from daskflow.caching.canary_pandas import values  # as above

    return values(_COLUMNS)


def _polars() -> Any:
    from daskflow.caching.canary_polars import values  # as above

    return values(_COLUMNS)


def _pyarrow() -> Any:
    import pyarrow as pa  # as above

    return pa.table(_COLUMNS)


_VALUES: Mapping[str, Callable[[], Any]] = {
    "Python": _plain,
    "numpy": _numpy,
    "pandas": _pandas,
    "polars": _polars,
    "pyarrow": _pyarrow,
}


def loaded_libraries() -> list[str]:
    """Return whose values this process may have."""
    return [name for name in _VALUES if name == "Python" or name in sys.modules]


def canaries(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return digest and version by library; those that are not installed are left out."""
    found = {}
    for name in names:
        try:
            value = _VALUES[name]()
        except ImportError:
            continue
        version = getattr(sys.modules.get(name), "__version__", sys.version.partition(" ")[0])
        found[name] = content_digest(value, name=f"canary of {name}"), version
    return found


def differing(
    mine: Mapping[str, tuple[str, str]], theirs: Mapping[str, tuple[str, str]]
) -> list[str]:
    """Return the libraries whose values get other digests there, with both versions."""
    return [
        f"{name} ({theirs[name][1]} there, {version} here)"
        for name, (digest, version) in mine.items()
        if name in theirs and theirs[name][0] != digest
    ]
