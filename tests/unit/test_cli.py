"""The `daskflow` command itself: light help, exit codes, one message an error, config, doctor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata

import click
import pytest
from click.testing import CliRunner

from daskflow.errors import ClusterError, NotFoundError
from daskflow.runner.cli import checks
from daskflow.runner.cli.checks import Check, compare_versions
from daskflow.runner.cli.main import COMMANDS, cli
from daskflow.runner.cli.settings import without_password

HEAVY = ("dask", "distributed", "pydantic", "rich", "sqlite3", "pyarrow", "bokeh", "asyncio")


def invoke(*arguments: str):
    return CliRunner().invoke(cli, arguments, catch_exceptions=False)


def in_process(*arguments: str, **options):
    command = [sys.executable, "-m", "daskflow.runner.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


def command_raising(monkeypatch, error: BaseException) -> None:
    @click.command("doctor")
    def raising() -> None:
        raise error

    monkeypatch.setattr("daskflow.runner.cli.doctor.doctor", raising)


def test_help_names_every_command_and_its_line_is_the_commands_own():
    text = invoke("--help").stdout
    context = click.Context(cli)
    for name, (_, line) in COMMANDS.items():
        assert name in text
        command = cli.get_command(context, name)
        assert command is not None
        assert (command.name, command.help.splitlines()[0]) == (name, line)


def test_help_loads_nothing_heavy():
    code = (
        "import sys\nfrom daskflow.runner.cli.main import main\n"
        "try: main()\nexcept SystemExit as end: assert end.code == 0\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, "--help"], capture_output=True, text=True, timeout=60
    )
    assert ran.stderr.strip() == "[]"


def test_version_is_the_installed_one():
    assert invoke("--version").stdout == f"daskflow {metadata.version('daskflow')}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["rnu"], id="command"),
        pytest.param(["runs", "ls", "--frob"], id="option"),
        pytest.param(["runs", "ls", "--limit", "0"], id="limit"),
        pytest.param(["runs", "ls", "--state", "Fine"], id="state"),
        pytest.param(["run"], id="nothing-to-run"),
        pytest.param(["run", "x.py", "-p", "months"], id="parameter"),
    ],
)
def test_wrong_usage_exits_with_2_and_says_why_on_stderr(arguments):
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        pytest.param(NotFoundError("no run 'x'"), 3, "error: no run 'x'\n", id="not-found"),
        pytest.param(ClusterError("no route"), 6, "error: no route\n", id="unreachable"),
        pytest.param(KeyboardInterrupt(), 130, "interrupted\n", id="interrupted"),
    ],
)
def test_error_is_one_message_and_an_exit_code(monkeypatch, error, code, said):
    command_raising(monkeypatch, error)
    result = invoke("doctor")
    assert (result.exit_code, result.stdout, result.stderr) == (code, "", said)


def test_reader_that_leaves_ends_the_command_quietly(home):
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "w") as closed:
        command = [sys.executable, "-m", "daskflow.runner.cli.main", "config"]
        ran = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (ran.returncode, ran.stderr) == (141, "")


def test_wrong_setting_is_a_usage_error_of_any_command(monkeypatch):
    monkeypatch.setenv("DASKFLOW_RUNNER__WORKERS", "many")
    for arguments in (["config"], ["runs", "ls"], ["run", "x.py"]):
        result = invoke(*arguments)
        assert result.exit_code == 2
        assert "error: DASKFLOW_RUNNER__WORKERS is 'many'" in result.stderr


# ---- config


def test_config_shows_each_setting_with_its_origin(home, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DASKFLOW_RUNNER__WORKERS", "3")
    lines = {line.split()[0]: line.split()[1:] for line in invoke("config").stdout.splitlines()}
    assert lines["runner.workers"] == ["3", "DASKFLOW_RUNNER__WORKERS"]
    assert lines["runner.task_runner"] == ["processes", "default"]
    assert lines["home"] == [str(home), "DASKFLOW_HOME"]


def test_config_as_json_keeps_types(monkeypatch):
    monkeypatch.setenv("DASKFLOW_RUNNER__WORKERS", "3")
    found = [json.loads(line) for line in invoke("config", "--json").stdout.splitlines()]
    values = {one["key"]: one["value"] for one in found}
    assert values["runner.workers"] == 3
    assert values["logging.console"] is True
    assert values["runner.target_parcel_seconds"] == 0.05


def test_password_of_a_store_is_not_shown():
    assert without_password("postgresql://me:pa55@host/db") == "postgresql://me:***@host/db"
    assert without_password("sqlite:////home/me/runs.db") == "sqlite:////home/me/runs.db"


# ---- doctor


@pytest.fixture
def healthy_cluster(monkeypatch):
    """Leave the cluster out: what it takes to start one is tested with real processes."""
    found = Check("workers", "ok", "2 workers")
    monkeypatch.setattr("daskflow.runner.cli.doctor.check_cluster", lambda address: [found])


def test_doctor_is_content_with_a_healthy_installation(healthy_cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = invoke("doctor", "--json")
    found = {one["name"]: one for one in map(json.loads, result.stdout.splitlines())}
    assert result.exit_code == 0
    assert found["distributed"]["found"] == metadata.version("distributed")
    assert found["settings"]["found"] == "no settings file, defaults count"
    assert found["store"]["found"].endswith("made by the first run")


def test_doctor_names_the_settings_file_that_counts(healthy_cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "daskflow.toml").write_text("[runner]\nworkers = 2\n")
    assert f"settings     {tmp_path / 'daskflow.toml'}" in invoke("doctor").stdout


def test_doctor_fails_with_6_and_advice_for_a_store_that_is_none(healthy_cluster, home):
    home.mkdir()
    (home / "runs.db").write_text("this is no database" * 100)
    result = invoke("doctor")
    assert result.exit_code == 6
    assert "fail store" in result.stdout
    assert "→ set DASKFLOW_STORE__URL or DASKFLOW_HOME" in result.stdout


def test_doctor_fails_for_a_store_that_cannot_be_made(healthy_cluster, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DASKFLOW_HOME", str(tmp_path / "file" / "home"))
    result = invoke("doctor")
    assert result.exit_code == 6
    assert "cannot be made" in result.stdout


def test_doctor_tells_wrong_settings_and_looks_no_further(healthy_cluster, monkeypatch):
    monkeypatch.setenv("DASKFLOW_RUNNER__WORKERS", "many")
    result = invoke("doctor")
    assert result.exit_code == 6
    assert "fail settings     DASKFLOW_RUNNER__WORKERS is 'many'" in result.stdout
    assert "workers      2 workers" not in result.stdout


def test_doctor_names_a_package_that_is_missing(healthy_cluster, monkeypatch):
    monkeypatch.setattr(checks, "_PACKAGES", ("daskflow", "no-such-package"))
    result = invoke("doctor")
    assert result.exit_code == 6
    assert "pip install no-such-package" in result.stdout


def information(**packages: str) -> dict:
    return {"packages": {"python": "3.11.9", "dask": "2026.8.0", **packages}}


def test_same_versions_everywhere_are_fine():
    seen = {
        "client": information(),
        "scheduler": information(),
        "workers": {"tcp://a:1": information()},
    }
    (found,) = compare_versions(seen, {"tcp://a:1": metadata.version("daskflow")})
    assert found.status == "ok"


def test_versions_that_differ_name_the_node_and_the_package():
    seen = {
        "client": information(),
        "scheduler": information(dask="2026.1.0"),
        "workers": {"tcp://a:1": information(python="3.12.1"), "tcp://b:1": information()},
    }
    missing = metadata.PackageNotFoundError("daskflow")
    none, different = compare_versions(seen, {"tcp://a:1": "0.0.1", "tcp://b:1": missing})
    assert (none.status, different.status) == ("fail", "warn")
    assert "tcp://b:1" in none.found
    for said in (
        "scheduler: dask 2026.1.0 here 2026.8.0",
        "tcp://a:1: python 3.12.1 here 3.11.9",
        "tcp://a:1: daskflow 0.0.1 here",
    ):
        assert said in different.found


def test_process_without_home_still_answers_help():
    environment = {"PATH": os.environ["PATH"]}
    ran = in_process("--help", env=environment, cwd="/")
    assert ran.returncode == 0
    assert ran.stdout.startswith("Usage: daskflow")
