"""The settings of daskflow: one typed model and where each value came from.

Sources, weakest first: defaults; `[tool.daskflow]` in ``pyproject.toml`` and ``daskflow.toml`` in
the nearest folder upward from the working directory that has either; ``DASKFLOW_*`` variables
(``__`` nests: ``DASKFLOW_RUNNER__WORKERS=4``).  Both files in one folder: ``daskflow.toml`` wins
key by key.  Settings are read once per process, and a value that does not fit is a `UsageError`
naming its source, so nothing starts on half-understood settings.  This module loads pydantic;
import it inside functions that run a flow or a command, never on `import daskflow`.
"""

from __future__ import annotations

import difflib
import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, NamedTuple, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings.exceptions import SettingsError

from daskflow.errors import UsageError
from daskflow.results.storage_options import StorageOptions

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

ENV_PREFIX = "DASKFLOW_"
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
_LEVELS = get_args(LogLevel)


def _not_bool(value: object) -> object:
    # pydantic would read true as 1: a number of workers that nobody meant
    if isinstance(value, bool):
        raise ValueError("a number is expected")
    return value


def _upper(value: object) -> object:
    # what is no level keeps its spelling, for the error message
    return value.upper() if isinstance(value, str) and value.upper() in _LEVELS else value


def _known_runner(value: str) -> str:
    if value not in ("processes", "threads", "sync") and ":" not in value:
        raise ValueError("not a task runner")
    return value


def _expanded(value: object) -> object:
    return Path(value).expanduser().absolute() if isinstance(value, str) and value else value


def _setting(default: Any, allowed: str, **constraints: Any) -> Any:
    """Return a field whose error messages can say what is allowed."""
    return Field(
        default, validate_default=True, json_schema_extra={"allowed": allowed}, **constraints
    )


_Count = Annotated[int, BeforeValidator(_not_bool), Field(ge=0)]
_Seconds = Annotated[float, BeforeValidator(_not_bool), Field(ge=0, allow_inf_nan=False)]
_COUNT = "a whole number, 0 or more"
_SECONDS = "a number of seconds, 0 or more"
_SWITCH = "true or false"
_NEVER_SHOWN = ("results.secret", "results.storage_options")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StoreSettings(_Section):
    """Where the run record is kept."""

    url: str = _setting("", "sqlite:///path/to/file.db", pattern=r"^\w[\w+.-]*://")
    record: bool = _setting(True, _SWITCH)


class RunnerSettings(_Section):
    """What flows run on when they do not say it themselves."""

    task_runner: Annotated[str, AfterValidator(_known_runner)] = _setting(
        "processes", 'processes, threads, sync or an address such as "tcp://host:8786"'
    )
    workers: Annotated[int, BeforeValidator(_not_bool), Field(ge=1)] | None = _setting(
        None, "a whole number, 1 or more; none for one worker a CPU"
    )
    threads_per_worker: Annotated[int, BeforeValidator(_not_bool), Field(ge=1)] = _setting(
        1, "a whole number, 1 or more"
    )
    target_parcel_seconds: Annotated[
        float, BeforeValidator(_not_bool), Field(gt=0, allow_inf_nan=False)
    ] = _setting(0.05, "a number of seconds greater than 0")
    no_workers_timeout_seconds: _Seconds | None = _setting(
        None, "a number of seconds, 0 or more; none for 60 on local workers, else 3600"
    )
    scheduler_timeout_seconds: _Seconds = _setting(60.0, _SECONDS)


class TaskSettings(_Section):
    """Task options where the task does not set them."""

    retries: _Count = _setting(0, _COUNT)
    retry_delay_seconds: _Seconds = _setting(0.0, _SECONDS)
    crash_retries: _Count = _setting(3, _COUNT)
    refresh_cache: bool = _setting(False, _SWITCH)


class ResultSettings(_Section):
    """Where results are kept, and whether they are found again."""

    storage: str = _setting("", 'a folder or a URL such as "s3://bucket/results"')
    enabled: bool = _setting(True, _SWITCH)
    persist_by_default: bool = _setting(False, _SWITCH)
    allow_pickle: bool = _setting(True, _SWITCH)
    strict: bool = _setting(False, _SWITCH)
    secret: SecretStr | None = _setting(None, "a text; none to seal without a secret")
    storage_options: Annotated[
        InstanceOf[StorageOptions], BeforeValidator(StorageOptions.checked)
    ] = _setting(
        StorageOptions(), "a table of what the storage's fsspec driver takes, such as anon = true"
    )
    timeout_seconds: Annotated[
        float, BeforeValidator(_not_bool), Field(gt=0, allow_inf_nan=False)
    ] = _setting(30.0, "a number of seconds greater than 0")


class LoggingSettings(_Section):
    """What is logged, and whether the flow process prints it."""

    level: Annotated[LogLevel, BeforeValidator(_upper)] = _setting("INFO", ", ".join(_LEVELS))
    console: bool = _setting(True, _SWITCH)


class Settings(BaseSettings):
    """Every setting, typed and frozen; get it from `get_settings`."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        env_parse_none_str="none",
        extra="forbid",
        frozen=True,
    )

    home: Annotated[Path, BeforeValidator(_expanded)] = _setting("~/.daskflow", "a folder")
    store: StoreSettings = StoreSettings.model_construct()
    runner: RunnerSettings = RunnerSettings()
    tasks: TaskSettings = TaskSettings()
    results: ResultSettings = ResultSettings.model_construct()
    logging: LoggingSettings = LoggingSettings()

    @model_validator(mode="before")
    @classmethod
    def _store_is_at_home(cls, given: dict[str, Any]) -> dict[str, Any]:
        home = _expanded(given.get("home") or "~/.daskflow")
        store = given.get("store", {})
        if isinstance(store, Mapping):
            given["store"] = {"url": f"sqlite:///{home}/runs.db", **store}
        results = given.get("results", {})
        if isinstance(results, Mapping):
            given["results"] = {"storage": f"{home}/results", **results}
        return given

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        files = (_FileSource(settings_cls, path) for path in reversed(settings_files()))
        return (init_settings, env_settings, *files)


class _FileSource(PydanticBaseSettingsSource):
    def __init__(self, settings_cls: type[BaseSettings], path: Path) -> None:
        super().__init__(settings_cls)
        self._path = path

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        return self().get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        return _table(self._path)


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
    _refuse_unknown_variables()
    try:
        return Settings()
    except SettingsError as error:
        raise UsageError(
            f"{_no_section()} holds a whole section and is no JSON object: set one "
            f"variable a value, such as {ENV_PREFIX}RUNNER__WORKERS=4"
        ) from error
    except ValidationError as error:
        origins = _origins()
        lines = [_problem(one["loc"], one["type"], one["input"], origins) for one in error.errors()]
        raise UsageError("\n".join(dict.fromkeys(lines))) from None


def _refuse_unknown_variables() -> None:
    """A variable with ``__`` can only be meant as a setting, so a slip in its section is told."""
    for name in os.environ:
        key = name.upper().removeprefix(ENV_PREFIX)
        section, nested, _ = key.partition("__")
        if key == name.upper() or not nested or section.lower() in Settings.model_fields:
            continue
        known = [f"{ENV_PREFIX}{key.replace('.', '__').upper()}" for key in _fields()]
        near = difflib.get_close_matches(name.upper(), known, n=1)
        hint = f"did you mean {near[0]!r}" if near else f"variables are {', '.join(known)}"
        raise UsageError(f"unknown setting {name}: {hint}")


def _no_section() -> str:
    """Which variables hold a section that cannot be read."""
    found = []
    for name, text in os.environ.items():
        key = name.upper().removeprefix(ENV_PREFIX).lower()
        if name.upper().startswith(ENV_PREFIX) and key in Settings.model_fields and key != "home":
            try:
                json.loads(text)
            except ValueError:
                found.append(f"{name}={text!r}")
    return " and ".join(found)


def reset_settings() -> None:
    """Forget the settings, so that the next `get_settings` reads every source again."""
    get_settings.cache_clear()


def settings_with_origins() -> list[SettingOrigin]:
    """Return every setting with its value and the source that it came from, in model order."""
    values = _flat(get_settings().model_dump())  # first, since it says what does not fit
    origins = _origins()
    return [SettingOrigin(key, value, _origin(key, origins)) for key, value in values]


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
    try:
        return "daskflow" in tomllib.loads(path.read_text("utf-8")).get("tool", {})
    except (OSError, ValueError):
        return False


def _table(path: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"settings file {str(path)!r} cannot be read: {error}") from error
    table = document["tool"]["daskflow"] if path.name == "pyproject.toml" else document
    if not isinstance(table, dict):
        raise UsageError(f"[tool.daskflow] in {str(path)!r} is no table, but {table!r}")
    return table


def _origins() -> dict[str, str]:
    origins: dict[str, str] = {}
    for path in settings_files():
        origins.update((key, str(path)) for key, _ in _flat(_table(path)))
    names = {name.lower(): name for name in os.environ}
    for key, _ in _flat(EnvSettingsSource(Settings)()):
        parts = (ENV_PREFIX + key.replace(".", "__")).lower().split("__")
        # a section may have come as one JSON object, in the variable that names the section
        prefixes = ("__".join(parts[:length]) for length in range(len(parts), 0, -1))
        origins[key] = next((names[p] for p in prefixes if p in names), "environment")
    return origins


def _flat(nested: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in nested.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _fields() -> Mapping[str, FieldInfo]:
    found: dict[str, FieldInfo] = {}
    for name, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, _Section):
            section = field.annotation.model_fields
            found.update({f"{name}.{inner}": info for inner, info in section.items()})
        else:
            found[name] = field
    return MappingProxyType(found)


def _origin(key: str, origins: dict[str, str]) -> str:
    """Where a setting came from; the values of a table may have come from several places."""
    inside = dict.fromkeys(each for name, each in origins.items() if name.startswith(f"{key}."))
    return origins.get(key) or ", ".join(inside) or "default"


def _problem(loc: tuple[int | str, ...], kind: str, value: object, origins: dict[str, str]) -> str:
    fields = _fields()
    key = ".".join(map(str, loc))
    origin = _origin(key, origins)
    where = origin if origin.upper().startswith(ENV_PREFIX) else f"{key} in {origin!r}"
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(key, fields, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}" if near else f"settings are {', '.join(fields)}"
        return f"unknown setting {where}: {hint}"
    allowed = "a table of settings"
    if (field := fields.get(key)) and isinstance(field.json_schema_extra, dict):
        allowed = str(field.json_schema_extra["allowed"])
    if key in _NEVER_SHOWN:
        return f"{where} does not fit: allowed is {allowed}"
    return f"{where} is {value!r}: allowed is {allowed}"
