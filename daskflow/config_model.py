"""Reading settings where a judgement is needed: files, odd spellings, and what does not fit.

The model says what each setting may be, pydantic-settings reads and merges the sources, and what
does not fit is told with the name of its source.  The values leave as `Settings`.
Both files in one folder: ``daskflow.toml`` wins key by key.  Loads pydantic: only `daskflow.config`
imports this module, and only when it has to.
"""

from __future__ import annotations

import difflib
import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, get_args

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

from daskflow.config_plain import (
    ENV_PREFIX,
    LOCAL_RUNNERS,
    STORE_URL,
    HashAlgorithm,
    LoggingSettings,
    LogLevel,
    ResultSettings,
    RunnerSettings,
    Settings,
    StoreSettings,
    TaskSettings,
    settings_files,
)
from daskflow.errors import UsageError
from daskflow.results.storage_options import StorageOptions

__all__ = ["origin_of", "origins", "read"]

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
    if value not in LOCAL_RUNNERS and ":" not in value:
        raise ValueError("not a task runner")
    return value


def _absolute(value: str) -> str:
    if not Path(value).expanduser().is_absolute():
        raise ValueError("not absolute")
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
_Positive = Annotated[float, BeforeValidator(_not_bool), Field(gt=0, allow_inf_nan=False)]
_COUNT = "a whole number, 0 or more"
_SECONDS = "a number of seconds, 0 or more"
_SWITCH = "true or false"
_NEVER_SHOWN = ("results.secret", "results.storage_options")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Store(_Section):
    url: str = _setting("", "sqlite:///path/to/file.db", pattern=STORE_URL)
    record: bool = _setting(StoreSettings.record, _SWITCH)


class _Runner(_Section):
    task_runner: Annotated[str, AfterValidator(_known_runner)] = _setting(
        RunnerSettings.task_runner,
        'processes, threads, sync or an address such as "tcp://host:8786"',
    )
    workers: Annotated[int, BeforeValidator(_not_bool), Field(ge=1)] | None = _setting(
        RunnerSettings.workers, "a whole number, 1 or more; none for one worker a CPU"
    )
    threads_per_worker: Annotated[int, BeforeValidator(_not_bool), Field(ge=1)] = _setting(
        RunnerSettings.threads_per_worker, "a whole number, 1 or more"
    )
    target_parcel_seconds: Annotated[
        float, BeforeValidator(_not_bool), Field(gt=0, allow_inf_nan=False)
    ] = _setting(RunnerSettings.target_parcel_seconds, "a number of seconds greater than 0")
    no_workers_timeout_seconds: _Seconds | None = _setting(
        RunnerSettings.no_workers_timeout_seconds,
        "a number of seconds, 0 or more; none for 60 on local workers, else 3600",
    )
    scheduler_timeout_seconds: _Seconds = _setting(
        RunnerSettings.scheduler_timeout_seconds, _SECONDS
    )


class _Tasks(_Section):
    retries: _Count = _setting(TaskSettings.retries, _COUNT)
    retry_delay_seconds: _Seconds = _setting(TaskSettings.retry_delay_seconds, _SECONDS)
    crash_retries: _Count = _setting(TaskSettings.crash_retries, _COUNT)
    refresh_cache: bool = _setting(TaskSettings.refresh_cache, _SWITCH)


class _Results(_Section):
    storage: str = _setting("", 'a folder or a URL such as "s3://bucket/results"')
    enabled: bool = _setting(ResultSettings.enabled, _SWITCH)
    persist_by_default: bool = _setting(ResultSettings.persist_by_default, _SWITCH)
    allow_pickle: bool = _setting(ResultSettings.allow_pickle, _SWITCH)
    strict: bool = _setting(ResultSettings.strict, _SWITCH)
    secret: SecretStr | None = _setting(
        ResultSettings.secret, "a text; none to seal without a secret"
    )
    storage_options: Annotated[
        InstanceOf[StorageOptions], BeforeValidator(StorageOptions.checked)
    ] = _setting(
        StorageOptions(), "a table of what the storage's fsspec driver takes, such as anon = true"
    )
    timeout_seconds: Annotated[
        float, BeforeValidator(_not_bool), Field(gt=0, allow_inf_nan=False)
    ] = _setting(ResultSettings.timeout_seconds, "a number of seconds greater than 0")
    hash_algorithm: HashAlgorithm = _setting(
        ResultSettings.hash_algorithm, ", ".join(get_args(HashAlgorithm))
    )
    retention_days: _Positive | None = _setting(
        ResultSettings.retention_days, "a number of days greater than 0; none to keep all"
    )
    max_size_gb: _Positive | None = _setting(
        ResultSettings.max_size_gb, "a number of gigabytes greater than 0; none for no limit"
    )
    local_cache: Annotated[str, AfterValidator(_absolute)] | None = _setting(
        ResultSettings.local_cache, "the absolute path of a folder; none to keep nothing locally"
    )


class _Logging(_Section):
    level: Annotated[LogLevel, BeforeValidator(_upper)] = _setting(
        LoggingSettings.level, ", ".join(_LEVELS)
    )
    console: bool = _setting(LoggingSettings.console, _SWITCH)


class _Model(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        env_parse_none_str="none",
        extra="forbid",
        frozen=True,
    )

    home: Annotated[Path, BeforeValidator(_expanded)] = _setting("~/.daskflow", "a folder")
    store: _Store = _Store.model_construct()
    runner: _Runner = _Runner()
    tasks: _Tasks = _Tasks()
    results: _Results = _Results.model_construct()
    logging: _Logging = _Logging()

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


def read() -> Settings:
    """Return the settings that all sources together say.

    Raises
    ------
    UsageError
        A file cannot be read, or a value or key in it or in a variable does not fit.
    """
    _refuse_unknown_variables()
    try:
        model = _Model()
    except SettingsError as error:
        raise UsageError(
            f"{_no_section()} holds a whole section and is no JSON object: set one "
            f"variable a value, such as {ENV_PREFIX}RUNNER__WORKERS=4"
        ) from error
    except ValidationError as error:
        came_from = origins()
        lines = [
            _problem(one["loc"], one["type"], one["input"], came_from) for one in error.errors()
        ]
        raise UsageError("\n".join(dict.fromkeys(lines))) from None
    return Settings(
        home=model.home,
        store=StoreSettings(**dict(model.store)),
        runner=RunnerSettings(**dict(model.runner)),
        tasks=TaskSettings(**dict(model.tasks)),
        results=ResultSettings(**dict(model.results)),
        logging=LoggingSettings(**dict(model.logging)),
    )


def _refuse_unknown_variables() -> None:
    """A variable with ``__`` can only be meant as a setting, so a slip in its section is told."""
    for name in os.environ:
        key = name.upper().removeprefix(ENV_PREFIX)
        section, nested, _ = key.partition("__")
        if key == name.upper() or not nested or section.lower() in _Model.model_fields:
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
        if name.upper().startswith(ENV_PREFIX) and key in _Model.model_fields and key != "home":
            try:
                json.loads(text)
            except ValueError:
                found.append(f"{name}={text!r}")
    return " and ".join(found)


def _table(path: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"settings file {str(path)!r} cannot be read: {error}") from error
    table = document["tool"]["daskflow"] if path.name == "pyproject.toml" else document
    if not isinstance(table, dict):
        raise UsageError(f"[tool.daskflow] in {str(path)!r} is no table, but {table!r}")
    return table


def origins() -> dict[str, str]:
    """Return where each setting that is set came from: the path of a file, or a variable."""
    origins: dict[str, str] = {}
    for path in settings_files():
        origins.update((key, str(path)) for key, _ in _flat(_table(path)))
    names = {name.lower(): name for name in os.environ}
    for key, _ in _flat(EnvSettingsSource(_Model)()):
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
    for name, field in _Model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, _Section):
            section = field.annotation.model_fields
            found.update({f"{name}.{inner}": info for inner, info in section.items()})
        else:
            found[name] = field
    return MappingProxyType(found)


def origin_of(key: str, origins: Mapping[str, str]) -> str:
    """Where a setting came from; the values of a table may have come from several places."""
    inside = dict.fromkeys(each for name, each in origins.items() if name.startswith(f"{key}."))
    return origins.get(key) or ", ".join(inside) or "default"


def _problem(loc: tuple[int | str, ...], kind: str, value: object, origins: dict[str, str]) -> str:
    fields = _fields()
    key = ".".join(map(str, loc))
    origin = origin_of(key, origins)
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
