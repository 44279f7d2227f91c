"""config: the order of sources, the origin of each value, and errors that name their source."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from daskflow.config import (
    get_settings,
    reset_settings,
    settings_files,
    settings_with_origins,
)
from daskflow.config_model import read
from daskflow.config_plain import plain_settings
from daskflow.errors import UsageError


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory without settings files, whatever lies above the real one."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def write(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    reset_settings()
    return path


def origin_of(key: str) -> str:
    return next(found.origin for found in settings_with_origins() if found.key == key)


def test_defaults_when_nothing_is_set(project, home, monkeypatch):
    monkeypatch.delenv("DASKFLOW_HOME")
    settings = get_settings()
    assert settings.home == Path("~/.daskflow").expanduser()
    assert settings.store.url == f"sqlite:///{Path.home()}/.daskflow/runs.db"
    assert settings.runner.task_runner == "processes"
    assert settings.runner.workers is None
    assert settings.tasks.crash_retries == 3
    assert {found.origin for found in settings_with_origins()} == {"default"}


def test_store_lies_in_home(project, home):
    assert get_settings().store.url == f"sqlite:///{home}/runs.db"
    assert origin_of("home") == "DASKFLOW_HOME"
    assert origin_of("store.url") == "default"


def test_store_stays_in_home_when_another_of_its_settings_is_given(project, home, monkeypatch):
    monkeypatch.setenv("DASKFLOW_STORE__RECORD", "false")
    assert get_settings().store.url == f"sqlite:///{home}/runs.db"
    assert get_settings().store.record is False


def test_variable_wins_over_daskflow_toml_wins_over_pyproject(project, monkeypatch):
    pyproject = write(
        project / "pyproject.toml", "[tool.daskflow.tasks]\nretries=1\ncrash_retries=1\n"
    )
    own = write(project / "daskflow.toml", "[tasks]\nretries=2\nretry_delay_seconds=2\n")
    monkeypatch.setenv("DASKFLOW_TASKS__RETRY_DELAY_SECONDS", "3.5")
    tasks = get_settings().tasks
    assert (tasks.crash_retries, tasks.retries, tasks.retry_delay_seconds) == (1, 2, 3.5)
    assert origin_of("tasks.crash_retries") == str(pyproject)
    assert origin_of("tasks.retries") == str(own)
    assert origin_of("tasks.retry_delay_seconds") == "DASKFLOW_TASKS__RETRY_DELAY_SECONDS"


def test_nearest_folder_upward_counts(project, monkeypatch):
    found = write(project / "daskflow.toml", "[runner]\nworkers = 7\n")
    inner = project / "a" / "b"
    inner.mkdir(parents=True)
    write(inner / "pyproject.toml", "[tool.other]\nx = 1\n")  # not ours, so looked past
    monkeypatch.chdir(inner)
    assert settings_files() == [found]
    assert get_settings().runner.workers == 7


def test_broken_pyproject_of_somebody_else_is_ignored(project):
    write(project / "pyproject.toml", "this is no TOML")
    assert get_settings().runner.workers is None


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        pytest.param("RUNNER__WORKERS", "0", "whole number, 1 or more", id="too-small"),
        pytest.param("RUNNER__WORKERS", "many", "whole number, 1 or more", id="no-number"),
        pytest.param("RUNNER__TASK_RUNNER", "proceses", "processes, threads, sync", id="runner"),
        pytest.param("RUNNER__TARGET_PARCEL_SECONDS", "nan", "greater than 0", id="nan"),
        pytest.param("TASKS__RETRIES", "1.5", "whole number, 0 or more", id="fraction"),
        pytest.param("TASKS__RETRY_DELAY_SECONDS", "inf", "seconds, 0 or more", id="infinite"),
        pytest.param("LOGGING__LEVEL", "chatty", "DEBUG, INFO", id="level"),
        pytest.param("LOGGING__CONSOLE", "maybe", "true or false", id="switch"),
        pytest.param("STORE__URL", "runs.db", "sqlite:///", id="no-url"),
    ],
)
def test_variable_that_does_not_fit_is_named_with_what_is_allowed(
    project, monkeypatch, name, value, said
):
    monkeypatch.setenv(f"DASKFLOW_{name}", value)
    with pytest.raises(UsageError, match=said) as raised:
        get_settings()
    assert f"DASKFLOW_{name} is {value!r}" in str(raised.value)


def test_value_in_a_file_that_does_not_fit_is_named_with_the_file(project):
    path = write(project / "daskflow.toml", "[tasks]\nretries = true\n")
    with pytest.raises(UsageError, match=r"whole number, 0 or more") as raised:
        get_settings()
    assert f"tasks.retries in {str(path)!r} is True" in str(raised.value)


def test_every_wrong_value_is_named_at_once(project, monkeypatch):
    monkeypatch.setenv("DASKFLOW_RUNNER__WORKERS", "x")
    monkeypatch.setenv("DASKFLOW_TASKS__RETRIES", "y")
    with pytest.raises(UsageError, match=r"(?s)RUNNER__WORKERS.*TASKS__RETRIES"):
        get_settings()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("[runner]\nworker = 2\n", "did you mean 'runner.workers'", id="in-section"),
        pytest.param("hoem = '/tmp'\n", "did you mean 'home'", id="top-level"),
        pytest.param("[zzz]\nq = 2\n", "settings are home, store.url", id="nothing-near"),
    ],
)
def test_unknown_key_names_the_nearest(project, text, said):
    path = write(project / "daskflow.toml", text)
    with pytest.raises(UsageError, match=said) as raised:
        get_settings()
    assert str(path) in str(raised.value)


def test_unknown_nested_variable_names_the_nearest(project, monkeypatch):
    monkeypatch.setenv("DASKFLOW_RUNNER__WORKER", "2")
    with pytest.raises(UsageError, match=r"DASKFLOW_RUNNER__WORKER: did you mean 'runner.workers'"):
        get_settings()


def test_section_that_is_no_table_is_named(project):
    write(project / "daskflow.toml", "runner = 3\n")
    with pytest.raises(UsageError, match=r"runner in .* is 3: allowed is a table of settings"):
        get_settings()


def test_file_that_is_no_toml_is_named(project):
    path = write(project / "daskflow.toml", "[runner\n")
    with pytest.raises(UsageError, match="cannot be read") as raised:
        get_settings()
    assert str(path) in str(raised.value)


def test_section_as_one_json_variable(project, monkeypatch):
    monkeypatch.setenv("DASKFLOW_RUNNER", '{"workers": 3}')
    assert get_settings().runner.workers == 3
    assert origin_of("runner.workers") == "DASKFLOW_RUNNER"


def test_section_variable_that_is_no_json_is_a_usage_error(project, monkeypatch):
    monkeypatch.setenv("DASKFLOW_RUNNER", "3 workers")
    with pytest.raises(UsageError, match="DASKFLOW_RUNNER"):
        get_settings()


def test_none_by_variable_overrides_a_file(project, monkeypatch):
    write(project / "daskflow.toml", "[runner]\nworkers = 7\n")
    monkeypatch.setenv("DASKFLOW_RUNNER__WORKERS", "none")
    assert get_settings().runner.workers is None
    assert origin_of("runner.workers") == "DASKFLOW_RUNNER__WORKERS"


def test_level_is_read_in_any_case(project, monkeypatch):
    monkeypatch.setenv("DASKFLOW_LOGGING__LEVEL", "debug")
    assert get_settings().logging.level == "DEBUG"


def test_settings_are_read_once_until_reset(project, monkeypatch):
    before = get_settings()
    monkeypatch.setenv("DASKFLOW_TASKS__RETRIES", "9")
    assert get_settings() is before
    reset_settings()
    assert get_settings().tasks.retries == 9


PLAIN = {
    "HOME": ["/srv/flows", "relative/folder", "~/flows", "", "none"],
    "STORE__URL": ["sqlite:////srv/runs.db", "postgresql://host/runs", "runs.db", "none"],
    "STORE__RECORD": ["true", "false", "True", "off", "1", ""],
    "RUNNER__TASK_RUNNER": ["threads", "sync", "tcp://host:8786", "proceses"],
    "RUNNER__WORKERS": ["4", "0", "04", " 4", "4_000", "-1", "none", "٤"],
    "RUNNER__TARGET_PARCEL_SECONDS": ["2", "2.5", "0.25", "0", "1e3", "inf", "1.", "none"],
    "RUNNER__NO_WORKERS_TIMEOUT_SECONDS": ["30", "none", "0"],
    "TASKS__RETRIES": ["3", "0", "3.0", "true"],
    "RESULTS__STORAGE": ["s3://bucket/results", "", "none"],
    "RESULTS__HASH_ALGORITHM": ["sha256", "blake3", "BLAKE3", "md5", "", "none"],
    "RESULTS__SECRET": ["hush", "none", ""],
    "LOGGING__LEVEL": ["DEBUG", "debug", "chatty"],
    "runner__workers": ["4", "0"],
    "RUNNER": ['{"workers": 3}', "3 workers"],
    "RUNNER__WORKERS__X": ["4"],
    "RUNNER__": ["4"],
    "CRASH_AT": ["parcel-sent"],
    "ZZZ__Q": ["1"],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in PLAIN.items() for value in values]
)
def test_variable_read_without_the_model_means_what_the_model_says(
    project, home, monkeypatch, name, value
):
    monkeypatch.setenv(f"DASKFLOW_{name}", value)
    plain = plain_settings()
    assert plain is None or plain == read()


def test_usual_variables_need_no_pydantic(tmp_path):
    code = (
        "import sys; from daskflow.config import get_settings; "
        "assert get_settings().runner.workers == 4; assert get_settings().store.record is False; "
        "print('pydantic' in sys.modules)"
    )
    variables = {"DASKFLOW_RUNNER__WORKERS": "4", "DASKFLOW_STORE__RECORD": "false"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **variables},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False\n"
