"""What the settings are, and how they are read where that takes no judgement.

Most processes set nothing, or variables that can be read in one way only ("true", "4").  Those are
read here; `plain_settings` returns None for everything else, and `config_model` decides.  A value
that both can read means the same to both.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from daskflow.results.storage_options import StorageOptions

if TYPE_CHECKING:
    from pydantic import SecretStr

__all__ = [
    "ENV_PREFIX",
    "LOCAL_RUNNERS",
    "STORE_URL",
    "HashAlgorithm",
    "LogLevel",
    "LoggingSettings",
    "ResultSettings",
    "RunnerSettings",
    "Settings",
    "StoreSettings",
    "TaskSettings",
    "plain_settings",
    "settings_files",
]

ENV_PREFIX = "DASKFLOW_"
STORE_URL = r"^\w[\w+.-]*://"
LOCAL_RUNNERS = ("processes", "threads", "sync")
HashAlgorithm = Literal["sha256", "blake3"]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]


@dataclass(frozen=True)
class StoreSettings:
    """Where the run record is kept; ``url`` lies in `Settings.home` unless it is set."""

    url: str
    record: bool = True


@dataclass(frozen=True)
class RunnerSettings:
    """What flows run on when they do not say it themselves."""

    task_runner: str = "processes"
    workers: int | None = None
    threads_per_worker: int = 1
    target_parcel_seconds: float = 0.05
    no_workers_timeout_seconds: float | None = None
    scheduler_timeout_seconds: float = 60.0


@dataclass(frozen=True)
class TaskSettings:
    """Task options where the task does not set them."""

    retries: int = 0
    retry_delay_seconds: float = 0.0
    crash_retries: int = 3
    refresh_cache: bool = False


@dataclass(frozen=True)
class ResultSettings:
    """Where results are kept (in `Settings.home` unless set), and whether they are found again."""

    storage: str
    enabled: bool = True
    persist_by_default: bool = False
    allow_pickle: bool = True
    strict: bool = False
    secret: SecretStr | None = None
    storage_options: StorageOptions = field(default_factory=StorageOptions)
    timeout_seconds: float = 30.0
    hash_algorithm: HashAlgorithm = "sha256"
    retention_days: float | None = None
    max_size_gb: float | None = None
    local_cache: str | None = None


@dataclass(frozen=True)
class LoggingSettings:
    """What is logged, and whether the flow process prints it."""

    level: LogLevel = "INFO"
    console: bool = True


@dataclass(frozen=True)
class Settings:
    """Every setting, typed and frozen; get it from `get_settings`."""

    home: Path
    store: StoreSettings
    runner: RunnerSettings
    tasks: TaskSettings
    results: ResultSettings
    logging: LoggingSettings


def settings_files(start: Path | None = None) -> list[Path]:
    """Return the settings files that count, weakest first: those of the nearest folder upward.

    A ``pyproject.toml`` without ``[tool.daskflow]`` does not count.
    """
    here = (start or Path.cwd()).absolute()
    for folder in (here, *here.parents):
        found = [folder / name for name in ("pyproject.toml", "daskflow.toml")]
        if files := [path for path in found if path.is_file() and _counts(path)]:
            return files
    return []


def _counts(path: Path) -> bool:
    # An unrelated pyproject.toml that is broken or unreadable is not ours to complain about.
    if path.name == "daskflow.toml":
        return True
    import tomllib  # a project without a pyproject.toml need not pay for it

    try:
        return "daskflow" in tomllib.loads(path.read_text("utf-8")).get("tool", {})
    except (OSError, ValueError):
        return False


# ---- variables that can be read in one way only


def _text(text: str) -> str | None:
    return text or None


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[1-9][0-9]{0,8}", text) else None


def _seconds(text: str) -> float | None:
    return float(text) if re.fullmatch(r"[1-9][0-9]{0,8}(\.[0-9]{1,6})?", text) else None


def _one_of(*texts: str) -> Callable[[str], str | None]:
    return lambda text: text if text in texts else None


_PLAIN: Mapping[str, Callable[[str], Any]] = {
    "home": lambda text: Path(text).expanduser().absolute() if text else None,
    "store.url": lambda text: text if re.match(STORE_URL, text) else None,
    "store.record": {"true": True, "false": False}.get,
    "runner.task_runner": _one_of(*LOCAL_RUNNERS),
    "runner.workers": _number,
    "runner.threads_per_worker": _number,
    "runner.target_parcel_seconds": _seconds,
    "runner.no_workers_timeout_seconds": _seconds,
    "runner.scheduler_timeout_seconds": _seconds,
    "tasks.retries": _number,
    "tasks.retry_delay_seconds": _seconds,
    "tasks.crash_retries": _number,
    "tasks.refresh_cache": {"true": True, "false": False}.get,
    "results.storage": _text,
    "results.enabled": {"true": True, "false": False}.get,
    "results.persist_by_default": {"true": True, "false": False}.get,
    "results.allow_pickle": {"true": True, "false": False}.get,
    "results.strict": {"true": True, "false": False}.get,
    "results.timeout_seconds": _seconds,
    "results.hash_algorithm": _one_of(*get_args(HashAlgorithm)),
    "results.retention_days": _seconds,
    "results.max_size_gb": _seconds,
    "logging.level": _one_of(*get_args(LogLevel)),
    "logging.console": {"true": True, "false": False}.get,
}
_SECTIONS = {key.partition(".")[0] for key in _PLAIN}


def plain_settings() -> Settings | None:
    """Return the settings, or None where only the model can tell what they are."""
    if settings_files():
        return None
    given: dict[str, dict[str, Any]] = {section: {} for section in _SECTIONS}
    for name, text in os.environ.items():
        if not name.upper().startswith(ENV_PREFIX):
            continue
        section, _, inner = name.upper().removeprefix(ENV_PREFIX).lower().partition("__")
        key = f"{section}.{inner}" if inner else section
        if section not in _SECTIONS and "__" not in name:
            continue  # no setting, and not meant as one
        value = _PLAIN[key](text) if key in _PLAIN and name.isupper() else None
        if value is None or text == "none":
            return None
        given[section][inner] = value
    home: Path = given["home"].get("", None) or Path("~/.daskflow").expanduser().absolute()
    return Settings(
        home,
        StoreSettings(**{"url": f"sqlite:///{home}/runs.db", **given["store"]}),
        RunnerSettings(**given["runner"]),
        TaskSettings(**given["tasks"]),
        ResultSettings(**{"storage": f"{home}/results", **given["results"]}),
        LoggingSettings(**given["logging"]),
    )
