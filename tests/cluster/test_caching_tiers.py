"""A folder of this machine in front of a storage elsewhere: what it holds is not asked for."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner

from daskflow import INPUTS, flow, task
from daskflow.config import reset_settings
from daskflow.errors import UsageError
from daskflow.runner.cache_plans import refreshing
from daskflow.runner.cli.main import cli
from tests.cluster.told import Told


@pytest.fixture
def told(tmp_path):
    return Told(tmp_path / "told")


@pytest.fixture
def near(tmp_path, monkeypatch):
    monkeypatch.setenv("DASKFLOW_RESULTS__LOCAL_CACHE", str(tmp_path / "near"))
    reset_settings()
    return tmp_path / "near"


@pytest.fixture
def counting(s3_server, told, monkeypatch, near):
    """A flow of small and large results on S3."""
    s3_server.use(monkeypatch)
    monkeypatch.setenv("DASKFLOW_RESULTS__STORAGE", f"s3://{s3_server.new_bucket()}/results")
    reset_settings()

    @task(cache_policy=INPUTS)
    def large(x):
        told(f"large{x}")
        return np.full(50_000, x)

    @task(cache_policy=INPUTS)
    def total(values):
        told("total")
        return int(values.sum())

    @flow(task_runner="threads")
    def counting():
        arrays = large.map(range(3))
        return total.map(arrays).result(), arrays[2].result().shape

    return counting


EXPECTED = [0, 50_000, 100_000], (50_000,)
ALL = ["large0", "large1", "large2", "total", "total", "total"]


def test_what_was_read_once_is_not_asked_for_again(counting, told, s3_server, near):
    assert counting() == EXPECTED
    assert told.take() == ALL
    assert counting() == EXPECTED  # copies large ones when it loads them
    s3_server.requests()
    assert counting() == EXPECTED
    assert s3_server.requests() == []
    assert told.take() == []
    with refreshing(["total"]):
        assert counting() == EXPECTED
    assert told.take() == ["total"] * 3


def test_a_local_folder_that_is_of_no_use_costs_a_warning(counting, told, near, caplog):
    near.write_text("in the way")
    with caplog.at_level("WARNING", logger="daskflow"):
        assert counting() == EXPECTED
        assert counting() == EXPECTED
    assert told.take() == ALL
    assert "results are not kept locally" in caplog.text


def test_what_is_removed_is_executed_again(counting, told):
    counting()
    told.take()
    assert CliRunner().invoke(cli, ["cache", "rm", "--task", "total", "--yes"]).exit_code == 0
    assert counting() == EXPECTED
    assert told.take() == ["total"] * 3


def test_a_local_folder_has_an_absolute_path(monkeypatch):
    monkeypatch.setenv("DASKFLOW_RESULTS__LOCAL_CACHE", "s3://bucket/near")
    reset_settings()
    with pytest.raises(UsageError, match=r"LOCAL_CACHE is 's3://bucket/near': allowed is the abs"):
        flow(lambda: 1, task_runner="sync")()
