"""The settings of daskflow: one typed value and where each part of it came from.

Sources, weakest first: defaults; `[tool.daskflow]` in ``pyproject.toml`` and ``daskflow.toml`` in
the nearest folder upward from the working directory that has either; ``DASKFLOW_*`` variables
(``__`` nests: ``DASKFLOW_RUNNER__WORKERS=4``).  Settings are read once per process, and a value
that does not fit is a `UsageError` naming its source, so nothing starts on half-understood
settings.  pydantic, which costs more than a small flow, judges what `config_plain` leaves to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import is_dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from daskflow.config_plain import (
    LoggingSettings,
    LogLevel,
    ResultSettings,
    RunnerSettings,
    Settings,
    StoreSettings,
    TaskSettings,
    plain_settings,
    settings_files,
)

__all__ = [
    "LogLevel",
    "LoggingSettings",
    "ResultSettings",
    "RunnerSettings",
    "SettingOrigin",
    "Settings",
    "StoreSettings",
    "TaskSettings",
    "get_settings",
    "reset_settings",
    "settings_files",
    "settings_with_origins",
]


class SettingOrigin(NamedTuple):
    """One setting, its value, and the source it came from."""

    key: str  # "runner.workers"
    value: Any
    origin: str  # "default", the path of a file, or the name of a variable


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """Return the settings of this process, read once.

    Raises
    ------
    UsageError
        A file cannot be read, or a value or key in it or in a variable does not fit.
    """
    if (plain := plain_settings()) is not None:
        return plain
    from daskflow.config_model import read  # heavy: pydantic

    return read()


def reset_settings() -> None:
    """Forget the settings, so that the next `get_settings` reads every source again."""
    get_settings.cache_clear()


def settings_with_origins() -> list[SettingOrigin]:
    """Return every setting with its value and the source that it came from, in model order."""
    settings = get_settings()  # first, since it says what does not fit
    from daskflow.config_model import origin_of, origins  # heavy: pydantic

    found = origins()
    return [SettingOrigin(key, value, origin_of(key, found)) for key, value in _flat(settings)]


def _flat(settings: object, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in vars(settings).items():
        if is_dataclass(value):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
