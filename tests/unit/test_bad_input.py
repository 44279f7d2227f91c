"""Bad input fails at the call that brought it; each message as a user reads it."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing

import pytest

from daskflow import DaskTaskRunner, flow, task
from daskflow.config import get_settings
from daskflow.errors import DaskflowError, ParameterError, StoreError, StoreVersionError, UsageError
from daskflow.runner.cluster.providers import resolve_task_runner
from daskflow.runner.store import open_store, open_writer
from tests.store import made


def plain(x, y=2):
    return x


def said(call):
    """The text of the `UsageError` that `call` raises."""
    with pytest.raises(UsageError) as caught:
        call()
    return str(caught.value)


def none_of(n):
    raise LookupError("no delays today")


NOT_PRINTED = "must not contain '/', '..' or characters that do not print"
LONG = "a" * 1000


@pytest.mark.parametrize(
    ("options", "text"),
    [
        pytest.param(
            {"retires": 2}, "@task has no option 'retires'; did you mean 'retries'?", id="typo"
        ),
        pytest.param(
            {"retries": -1}, "retries=-1 must be a whole number, 0 or more", id="retries-1"
        ),
        pytest.param(
            {"retries": 1.5}, "retries=1.5 must be a whole number, 0 or more", id="retries-1.5"
        ),
        pytest.param(
            {"retries": True}, "retries=True must be a whole number, 0 or more", id="retries-True"
        ),
        pytest.param(
            {"retry_delay_seconds": -1},
            "retry_delay_seconds=-1 must be 0 or a positive finite number",
            id="delay-negative",
        ),
        pytest.param(
            {"retry_delay_seconds": float("nan")},
            "retry_delay_seconds=nan must be 0 or a positive finite number",
            id="delay-nan",
        ),
        pytest.param(
            {"retry_delay_seconds": [1, -2]},
            "retry_delay_seconds=-2 must be 0 or a positive finite number",
            id="delay-in-list",
        ),
        pytest.param(
            {"retry_delay_seconds": []},
            "retry_delay_seconds=[] has no entries; give a number of seconds or a list",
            id="delay-empty",
        ),
        pytest.param(
            {"retry_jitter_factor": float("inf")},
            "retry_jitter_factor=inf must be a number, 0 or more",
            id="jitter",
        ),
        pytest.param({"tags": "etl"}, "tags='etl' must be a list of texts", id="tags-text"),
        pytest.param({"tags": [3]}, "tags must be texts, not 3", id="tags-number"),
        pytest.param({"tags": [""]}, "tag '' must be a text that is not empty", id="tags-empty"),
        pytest.param(
            {"tags": ["a\x00"]},
            "tag 'a\\x00' must not contain characters that do not print",
            id="tags-control",
        ),
        pytest.param(
            {"tags": [LONG]},
            f"tag '{LONG[:40]}'… has 1000 characters; 200 are allowed",
            id="tags-long",
        ),
    ],
)
def test_an_option_of_a_task_that_cannot_be(options, text):
    assert said(lambda: task(**options)(plain)) == text


def test_delays_that_cannot_be_made_tell_what_they_are_called_with():
    text = said(lambda: task(retries=2, retry_delay_seconds=none_of)(plain))
    assert "raised LookupError when it was called with 2, the number of retries" in text
    assert text.endswith("no delays today; it takes that and returns a list of seconds")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param("", "'' must be a text that is not empty", id="empty"),
        pytest.param(7, "7 must be a text that is not empty", id="number"),
        pytest.param("a/b", f"'a/b' {NOT_PRINTED}", id="slash"),
        pytest.param("..", f"'..' {NOT_PRINTED}", id="dots"),
        pytest.param("a\x1b[2J", f"'a\\x1b[2J' {NOT_PRINTED}", id="control"),
        pytest.param("a\nb", f"'a\\nb' {NOT_PRINTED}", id="line-break"),
        pytest.param("\ud800", f"'\\ud800' {NOT_PRINTED}", id="surrogate"),
        pytest.param(
            LONG, f"'{LONG[:40]}'… has 1000 characters; 200 are allowed", id="1000-characters"
        ),
    ],
)
def test_a_name_that_cannot_stand_in_a_file_name_or_on_a_terminal(name, text, home):
    @flow(task_runner="sync", flow_run_name=lambda: name)
    def named():
        raise AssertionError("it has started")

    assert said(lambda: task(name=name)(plain)) == f"task name {text}"
    assert said(lambda: flow(name=name)(plain)) == f"flow name {text}"
    assert said(named) == f"flow_run_name of named {text}"
    with open_store(get_settings().store.url) as store:
        assert store.flow_runs() == []


def test_a_name_may_be_an_emoji_and_a_tag_a_path():
    assert task(name="🚀 go", tags=["team/etl", "🚀"])(plain).tags == ("team/etl", "🚀")


@pytest.mark.parametrize(
    ("runner", "text"),
    [
        pytest.param("proceses", "task_runner='proceses' is not known (did you mean 'processes'?)"),
        pytest.param("foo://a:1", "'foo://a:1' has the unknown scheme 'foo'; known are tcp://"),
        pytest.param("tcp://box", "'tcp://box' has no host and port; with Dask's default port it"),
        pytest.param("tcp://box:99999", "'tcp://box:99999' has no port between 1 and 65535"),
        pytest.param(3, "task_runner=3 is not possible; it can be"),
    ],
)
def test_a_task_runner_that_cannot_be(runner, text):
    assert text in said(lambda: resolve_task_runner(runner))
    assert text in said(lambda: flow(task_runner=runner)(plain))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        pytest.param({"memory_limit": "lots"}, "memory_limit='lots' is no size; it can be text"),
        pytest.param({"memory_limit": -5}, "memory_limit=-5 is no size"),
        pytest.param({"memory_limit": True}, "memory_limit=True is no size"),
        pytest.param({"n_workers": "two"}, "n_workers='two' must be a whole number, 0 or more"),
        pytest.param({"threads_per_worker": 0}, "threads_per_worker=0 must be a whole number, 1"),
        pytest.param({"n_wrkers": 1}, "has the option 'n_wrkers'; did you mean 'n_workers'?"),
    ],
)
def test_worker_options_that_cannot_be(options, text):
    assert text in said(lambda: DaskTaskRunner(cluster_kwargs=options))


@pytest.mark.parametrize(
    "limit", ["4 GiB", "500MB", "1e9", "2.5g", "auto", None, 0, 4_000_000_000, 0.5]
)
def test_a_memory_limit_that_dask_understands_is_taken(limit):
    runner = DaskTaskRunner(cluster_kwargs={"memory_limit": limit})
    assert runner.cluster_kwargs["memory_limit"] == limit


@pytest.mark.parametrize(
    ("content", "text"),
    [
        pytest.param(None, "(FileNotFoundError: ", id="missing"),
        pytest.param("{broken", "(JSONDecodeError: ", id="broken"),
        pytest.param("{}", "(KeyError: 'address')", id="empty"),
    ],
)
def test_a_scheduler_file_without_an_address_is_refused_at_once(tmp_path, content, text):
    path = tmp_path / "scheduler.json"
    if content is not None:
        path.write_text(content)
    message = said(lambda: DaskTaskRunner(client_kwargs={"scheduler_file": str(path)}))
    assert message.startswith(f"scheduler_file={str(path)!r} tells no address {text}")
    assert message.endswith("the file that `dask scheduler --scheduler-file` writes once it runs")


def test_a_scheduler_file_is_where_the_address_is_read_from(tmp_path):
    path = tmp_path / "scheduler.json"
    path.write_text('{"type": "Scheduler", "address": "tcp://10.0.0.1:8786"}')
    runner = DaskTaskRunner(client_kwargs={"scheduler_file": path, "timeout": 5})
    assert runner == DaskTaskRunner(address="tcp://10.0.0.1:8786", client_kwargs={"timeout": 5})
    assert "exclude each other" in said(
        lambda: DaskTaskRunner(address="tcp://a:1", client_kwargs={"scheduler_file": path})
    )


@pytest.mark.parametrize(
    ("variable", "value", "text"),
    [
        ("RUNNER__WORKERS", "many", "is 'many': allowed is a whole number, 1 or more; none for"),
        ("TASKS__RETRIES", "-1", "is '-1': allowed is a whole number, 0 or more"),
        ("TASKS__RETRY_DELAY_SECONDS", "nan", "is 'nan': allowed is a number of seconds, 0 or"),
        ("LOGGING__LEVEL", "LOUD", "is 'LOUD': allowed is DEBUG, INFO, WARNING, ERROR, CRITICAL"),
        ("STORE__URL", "runs.db", "is 'runs.db': allowed is sqlite:///path/to/file.db"),
        ("STORE", "{bad", "='{bad' holds a whole section and is no JSON object: set one variable"),
    ],
)
def test_a_variable_that_does_not_parse_is_named(home, monkeypatch, variable, value, text):
    monkeypatch.setenv("DASKFLOW_STRANGER", "not a setting, and not ours to refuse")
    monkeypatch.setenv(f"DASKFLOW_{variable}", value)
    assert said(get_settings).startswith(
        f"DASKFLOW_{variable}{'' if text[0] == '=' else ' '}{text}"
    )


def test_a_variable_of_an_unknown_section_is_not_overlooked(home, monkeypatch):
    monkeypatch.setenv("DASKFLOW_RUNNR__WORKERS", "2")
    assert said(get_settings) == (
        "unknown setting DASKFLOW_RUNNR__WORKERS: did you mean 'DASKFLOW_RUNNER__WORKERS'"
    )


def test_parameters_that_do_not_fit_are_all_told_and_nothing_starts(home):
    @flow
    def etl(months: int, parts: list[int], share: float = 1.0):
        raise AssertionError("it has started")

    with pytest.raises(ParameterError) as caught:
        etl("x", [1, "y"], share="z")
    text = str(caught.value)
    assert text.startswith("flow etl got 3 parameter value(s) that do not fit:\n  months: ")
    assert "\n  parts.1: Input should be a valid integer" in text
    assert "\n  share: Input should be a valid number" in text
    assert text.endswith("correct them, or use @flow(validate_parameters=False)")
    with pytest.raises(ParameterError, match="cannot be called like this: missing a required"):
        etl(1)
    with open_store(get_settings().store.url) as store:
        assert store.flow_runs() == []


def store_said(path):
    with pytest.raises(StoreError) as caught, open_store(f"sqlite:///{path}") as store:
        store.flow_runs()
    return caught.value


def test_a_store_that_is_no_database_says_what_to_do(tmp_path):
    (tmp_path / "runs.db").write_text("a shopping list" * 100)
    text = str(store_said(tmp_path / "runs.db"))
    assert text.endswith(
        "could not answer: file is not a database; move the file away, so that an empty one takes "
        "its place, or name another store in DASKFLOW_STORE__URL"
    )
    assert "it is a folder: name another store" in str(store_said(tmp_path))


def test_a_store_of_a_newer_daskflow_is_refused_whole(tmp_path):
    path = tmp_path / "runs.db"
    with closing(open_writer(f"sqlite:///{path}")) as writer:
        writer.flow_run(made.flow_run())
        assert writer.flush(10)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 999")
    error = store_said(path)
    assert isinstance(error, StoreVersionError)
    assert "has schema 999, this daskflow knows up to" in str(error)
    assert str(error).endswith("upgrade daskflow or name another store in DASKFLOW_STORE__URL")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_store_in_a_folder_without_permission_says_so(tmp_path):
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o000)
    try:
        text = str(store_said(folder / "runs.db"))
    finally:
        folder.chmod(0o700)
    assert f"make {str(folder)!r} and what is in it writable" in text


def test_an_unknown_run_id_names_the_nearest(tmp_path):
    url = f"sqlite:///{tmp_path}/runs.db"
    with closing(open_writer(url)) as writer:
        writer.flow_run(made.flow_run(name="calm-otter"))
        assert writer.flush(10)
    with open_store(url) as store, pytest.raises(DaskflowError) as caught:
        store.find_flow_run("calm-oter")
    assert "'calm-oter'" in str(caught.value)
    assert "calm-otter" in str(caught.value).replace("'calm-oter'", "")
