"""`measure_cluster` and `daskflow bench` on real workers."""

from __future__ import annotations

import json
import os

import pytest
from click.testing import CliRunner

from daskflow import DaskTaskRunner
from daskflow.config import get_settings
from daskflow.errors import UsageError
from daskflow.runner.cli.main import cli
from daskflow.runner.measuring import measure_cluster


def test_cluster_is_measured_and_the_users_record_stays_as_it_is(cluster, home):
    told: list[tuple[float, str]] = []
    found = measure_cluster(cluster, seconds=1.0, progress=lambda *step: told.append(step))
    assert found.slots == 2
    assert found.task_runs >= 1_000
    assert 1e-7 < found.per_run_s < 0.01  # less than any Dask task takes
    assert found.worthwhile_s > found.per_run_s
    assert 0 < found.slot_use <= 1
    assert 1e-4 < found.round_trip_s < 5
    assert found.result_bytes_per_s > 1e6
    shares = [share for share, _ in told]
    assert shares == sorted(shares)
    assert (shares[0], told[-1]) == (0.0, (1.0, "done"))
    assert not (home / "runs.db").exists()
    assert get_settings().store.url == f"sqlite:///{home}/runs.db"
    assert "DASKFLOW_STORE__URL" not in os.environ


def test_command_prints_the_figures_of_a_cluster_by_its_address(cluster):
    options = ["bench", "--task-runner", cluster.scheduler_address, "--seconds", "0.5", "--json"]
    result = CliRunner().invoke(cli, options, catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    (line,) = result.stdout.splitlines()
    assert json.loads(line)["slots"] == 2


def test_settings_are_put_back_when_the_cluster_does_not_start(monkeypatch):
    monkeypatch.setenv("DASKFLOW_STORE__RECORD", "false")
    with pytest.raises(UsageError, match="cannot be imported"):
        measure_cluster(DaskTaskRunner(cluster_class="os.NoCluster"), seconds=0.5)
    assert os.environ["DASKFLOW_STORE__RECORD"] == "false"
    assert get_settings().store.record is False
