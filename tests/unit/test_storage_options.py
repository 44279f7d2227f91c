"""Options of a result storage: where they come from, how they travel, and that no secret shows."""

from __future__ import annotations

import pickle

import pytest

from daskflow import ResultStorage, flow, task
from daskflow.caching.addresses import StoreAddress
from daskflow.caching.store import ResultStore
from daskflow.config import get_settings, settings_with_origins
from daskflow.errors import StoreError, UsageError
from daskflow.results.storage import Storage
from daskflow.results.storage_options import StorageOptions, without_credentials
from daskflow.runner.cache_defaults import CacheDefaults, FlowCacheOptions
from daskflow.runner.cache_plans import FlowCaching
from daskflow.runner.context import FlowInfo
from tests.unit.result_stores import key, publish

SECRET = "hunter2-of-mine"
GIVEN = {"key": SECRET, "anon": False, "client_kwargs": {"endpoint_url": "http://u:pw@h:1/x"}}


def test_what_is_secret_is_in_no_repr():
    options = StorageOptions(GIVEN)
    storage = ResultStorage(f"s3://{SECRET}:x@bucket/p", options)
    address = StoreAddress(storage.url, options=options)
    for shown in (options, storage, address, task(result_storage=storage)(len).options):
        assert SECRET not in repr(shown)
        assert "pw" not in repr(shown)
    assert repr(options) == (
        "{'key': '**********', 'anon': False, 'client_kwargs': {'endpoint_url': 'http://h:1/x'}}"
    )


def test_equal_options_are_one_store():
    one, other = StorageOptions({"a": 1, "b": [True]}), StorageOptions({"b": [True], "a": 1})
    assert (one, hash(one)) == (other, hash(other))
    assert one != StorageOptions({"a": 1, "b": [1]})
    assert pickle.loads(pickle.dumps(one)) == one
    assert not StorageOptions({})


def test_a_variable_is_read_where_the_storage_is_opened_and_does_not_travel(monkeypatch):
    options = StorageOptions({"key": "${MY_KEY}", "nested": {"secret": "${MY_KEY}"}, "plain": "x$"})
    with pytest.raises(UsageError, match="'key' is read from the environment, and MY_KEY is not"):
        options.resolved()
    monkeypatch.setenv("MY_KEY", SECRET)
    sent = pickle.dumps(options)
    assert SECRET.encode() not in sent
    resolved = {"key": SECRET, "nested": {"secret": SECRET}, "plain": "x$"}
    assert pickle.loads(sent).resolved() == resolved
    assert options.secrets() == [SECRET]
    assert "${MY_KEY}" in repr(options)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        pytest.param({"lock": object()}, "storage option 'lock' is a object", id="object"),
        pytest.param({"a": {"b": [b"x"]}}, r"storage option 'a\.b' is a bytes", id="nested"),
        pytest.param({1: 2}, "names that are texts, not 1", id="name"),
        pytest.param("key", "a dict of names and values", id="text"),
    ],
)
def test_options_that_cannot_be_are_refused_by_name(given, said):
    with pytest.raises(UsageError, match=said):
        StorageOptions(given)


@pytest.mark.parametrize("value", ["", 3, ResultStore, b"s3://x"], ids=str)
def test_a_result_storage_is_refused_where_it_is_written_down(value):
    with pytest.raises(UsageError, match="result_storage="):
        task(result_storage=value)(len)
    with pytest.raises(UsageError, match="result_storage="):
        flow(result_storage=value)(len)
    with pytest.raises(UsageError, match="needs a folder or a URL"):
        ResultStorage(value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://k:with/slash@bucket/p", "s3://bucket/p"),
        ("S3://bucket/p@v1", "s3://bucket/p@v1"),
        ("k@bucket", "k@bucket"),
    ],
)
def test_credentials_of_any_shape_are_not_shown(url, shown):
    assert without_credentials(url) == shown


def test_settings_take_options_from_files_and_from_variables(home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "daskflow.toml").write_text(
        f'[results.storage_options]\nkey = "{SECRET}"\nanon = true\n'
        '[results.storage_options.client_kwargs]\nregion_name = "eu"\n'
    )
    monkeypatch.setenv("DASKFLOW_RESULTS__STORAGE_OPTIONS__ANON", "false")
    options = get_settings().results.storage_options
    assert options.resolved() == {
        "key": SECRET,
        "anon": False,
        "client_kwargs": {"region_name": "eu"},
    }
    (shown,) = [s for s in settings_with_origins() if s.key == "results.storage_options"]
    assert SECRET not in f"{shown} {get_settings()!r}"
    assert shown.origin == (f"{tmp_path}/daskflow.toml, DASKFLOW_RESULTS__STORAGE_OPTIONS__ANON")


@pytest.mark.parametrize("text", ["[1]", "key:3", '{"a": }'])
def test_options_that_are_no_table_are_told_without_their_value(home, monkeypatch, text):
    monkeypatch.setenv("DASKFLOW_RESULTS__STORAGE_OPTIONS", text)
    with pytest.raises(
        UsageError, match="STORAGE_OPTIONS does not fit: allowed is a table"
    ) as said:
        get_settings()
    assert text not in str(said.value)


def test_options_of_the_settings_hold_for_their_protocol_only(home, monkeypatch):
    monkeypatch.setenv("DASKFLOW_RESULTS__STORAGE", "s3://ours/results")
    monkeypatch.setenv("DASKFLOW_RESULTS__STORAGE_OPTIONS", '{"anon": true}')
    defaults = CacheDefaults.of(get_settings(), FlowCacheOptions(), False, frozenset())
    caching = FlowCaching(defaults, FlowInfo("f", "f", "f"), {})

    def options(storage):
        plan = caching.plan(task(persist_result=True, result_storage=storage)(len))
        return plan.store.url, plan.store.options.resolved()

    assert options(None) == ("s3://ours/results", {"anon": True})
    assert options("s3://other/x") == ("s3://other/x", {"anon": True})
    assert options("memory://x") == ("memory://x", {})
    own = ResultStorage("s3://other/x", {"anon": False})
    assert options(own) == ("s3://other/x", {"anon": False})


def test_an_error_of_a_driver_quotes_no_option(monkeypatch):
    storage = Storage("memory://quoting", {"token": SECRET})

    def refuse(*_, **__):
        raise OSError(f"denied for {SECRET}")

    monkeypatch.setattr(storage._fs, "cat_file", refuse)
    with pytest.raises(StoreError, match=r"denied for \*{10}"):
        storage.read("a")


def test_a_driver_that_takes_no_such_option_is_told_by_name(monkeypatch):
    def strict(*_, **options):
        raise TypeError(f"unexpected keyword {options}")

    monkeypatch.setattr("fsspec.core.url_to_fs", strict)
    with pytest.raises(UsageError, match="does not take all of the options keyy; see") as caught:
        Storage("gs://bucket/x", {"keyy": SECRET})
    assert SECRET not in str(caught.value)


def test_a_store_on_s3_is_reached_by_options_alone(s3_server):
    endpoint = {"endpoint_url": s3_server.endpoint, "region_name": "us-east-1"}
    options = {"key": "x", "secret": SECRET, "client_kwargs": endpoint}
    store = ResultStore(f"s3://{s3_server.new_bucket()}/r", options=options)
    publish(store, 1, "a")
    again = pickle.loads(pickle.dumps(store))
    assert again.load(again.lookup([key(1)])[key(1)]) == "a"
