"""Retention by itself: what the settings do not allow any more goes at the end of a flow run."""

from __future__ import annotations

import logging
import time

import pytest

from daskflow import flow, task
from daskflow.caching.store import ResultStore
from daskflow.config import get_settings, reset_settings
from daskflow.errors import StoreError
from daskflow.runner.retention import EVERY_S, apply_retention
from tests.unit.result_stores import publish


@flow(task_runner="sync")
def around(body=lambda: None):
    return body()


@flow(task_runner="sync")
def inner():
    return len(stored())


def stored():
    return {entry.task for entry in ResultStore(get_settings().results.storage).entries()}


@pytest.fixture
def setting(monkeypatch):
    def setting(name, value):
        monkeypatch.setenv(f"DASKFLOW_RESULTS__{name}", str(value))
        reset_settings()

    return setting


@pytest.fixture
def aged():
    """Results of 40 days ago and of now."""
    store, now = ResultStore(get_settings().results.storage), time.time()
    publish(store, 1, "a", task="old", created_unix=now - 40 * 86_400)
    publish(store, 2, "b", task="new", created_unix=now)


def lines(caplog):
    return [each.getMessage() for each in caplog.records if "old results" in each.getMessage()]


@pytest.mark.usefixtures("aged")
def test_old_results_go_at_the_end_of_the_outermost_flow_run(setting, caplog):
    setting("RETENTION_DAYS", 30)
    with caplog.at_level(logging.INFO, "daskflow"):
        assert around(inner) == 2  # an inner flow removes nothing
    assert stored() == {"new"}
    (line,) = lines(caplog)
    assert line.startswith("removed 1 old results and 0 blobs from ")


@pytest.mark.usefixtures("aged")
def test_nothing_goes_unless_settings_say_so(caplog):
    around()
    assert stored() == {"old", "new"}
    assert not (get_settings().home / "retention").exists()


@pytest.mark.usefixtures("aged")
def test_the_oldest_go_when_there_are_too_many(setting):
    setting("MAX_SIZE_GB", 0.000000004)  # 4 bytes: one of them
    around()
    assert stored() == {"new"}


@pytest.mark.usefixtures("aged")
def test_it_is_done_once_an_hour(setting):
    setting("RETENTION_DAYS", 50)
    now = time.time()
    apply_retention(get_settings(), now)
    setting("RETENTION_DAYS", 30)
    apply_retention(get_settings(), now + EVERY_S - 1)
    assert stored() == {"old", "new"}
    apply_retention(get_settings(), now + EVERY_S + 1)
    assert stored() == {"new"}


@task
def one():
    return 1


@pytest.mark.parametrize("fault", [StoreError("it is away"), OSError("disk"), KeyboardInterrupt()])
def test_a_store_that_cannot_be_swept_fails_no_flow(setting, monkeypatch, caplog, fault):
    def gc(self, **options):
        raise fault

    setting("RETENTION_DAYS", 30)
    monkeypatch.setattr(ResultStore, "gc", gc)
    with caplog.at_level(logging.WARNING, "daskflow"):
        assert around(lambda: one.submit().result()) == 1
    assert len(lines(caplog)) == 1
