"""Strict caching: what cannot be cached fails and says why, wherever it is found out."""

from __future__ import annotations

import threading

import pytest

from daskflow import DEFAULT, INPUTS, STRICT, flow, task
from daskflow.config import reset_settings
from daskflow.errors import TaskFailed, Uncacheable
from tests.cluster.told import Told

AROUND = pytest.mark.parametrize("where", ["processes", "threads", "sync"], indirect=True)
HERE = pytest.mark.parametrize("where", ["threads"], indirect=True)


@pytest.fixture
def told(tmp_path):
    return Told(tmp_path / "told")


@AROUND
def test_an_argument_without_content_fails_at_the_call(where, told):
    @task(cache_policy=DEFAULT + STRICT)
    def load(config):
        told("ran")

    @flow(task_runner=where)
    def runs():
        load.submit({"session": object()}).result()

    with pytest.raises(Uncacheable, match=r"task 'load' .* strict: .*config\['session'\]"):
        runs()
    assert told.take() == []


@AROUND
def test_what_only_the_worker_can_hash_fails_its_run(where, told):
    @task
    def opens():
        return object()

    @task(cache_policy=INPUTS + STRICT)
    def uses(session, x):
        told("ran")

    @flow(task_runner=where)
    def runs():
        uses.submit(opens.submit(), 1).result()

    with pytest.raises((Uncacheable, TaskFailed), match="task 'uses' cannot be cached"):
        runs()
    assert told.take() == []


@AROUND
def test_a_result_without_content_fails_its_run(where):
    @task(cache_policy=STRICT)
    def opens(x):
        return object()

    @flow(task_runner=where)
    def runs():
        return opens.submit(1).result()

    with pytest.raises((Uncacheable, TaskFailed), match=r"task 'opens' .*the result"):
        runs()


@HERE
def test_the_setting_makes_every_task_strict(where, monkeypatch, home):
    monkeypatch.setenv("DASKFLOW_RESULTS__STRICT", "true")
    reset_settings()
    lock = threading.Lock()

    @task(cache_key_fn=lambda context, arguments: arguments["x"].missing)
    def by_key(x):
        return x

    @task(persist_result=True)
    def by_code(x):
        return lock.locked()

    @task
    def plain(x):
        return 1

    @flow(task_runner=where)
    def runs(body, x):
        return body.submit(x).result()

    with pytest.raises(Uncacheable, match=r"task 'by-key|task 'by_key"):
        runs(by_key, 1)
    with pytest.raises(Uncacheable, match="lock"):
        runs(by_code, 1)
    assert runs(plain, threading.Lock()) == 1


@HERE
def test_strictness_changes_no_key(where, told):
    def body(x):
        told("ran")
        return x

    @flow(task_runner=where)
    def runs(policy):
        return task(cache_policy=policy)(body).submit([1]).result()

    assert runs(DEFAULT) == runs(DEFAULT + STRICT) == runs(STRICT) == [1]
    assert told.take() == ["ran"]
