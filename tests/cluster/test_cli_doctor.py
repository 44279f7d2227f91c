"""`daskflow doctor` with real worker processes and with a cluster of its own."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from daskflow.runner.cli.main import cli


def examine(*options: str) -> tuple[int, dict[str, dict]]:
    result = CliRunner().invoke(cli, ["doctor", "--json", *options], catch_exceptions=False)
    return result.exit_code, {
        one["name"]: one for one in map(json.loads, result.stdout.splitlines())
    }


def test_worker_processes_are_started_and_used(monkeypatch):
    monkeypatch.setenv("DASKFLOW_RUNNER__WORKERS", "1")
    code, found = examine()
    assert code == 0, found
    assert found["workers"]["status"] == "ok"
    assert "processes" in found["workers"]["found"]


def test_reachable_cluster_is_compared(external_address):
    code, found = examine("--address", external_address)
    assert code == 0, found
    assert found["cluster"]["status"] == "ok"
    assert external_address in found["cluster"]["found"]
    assert found["same versions"]["status"] == "ok"


@pytest.mark.parametrize(
    "address",
    [
        pytest.param("127.0.0.1", id="no-port"),
        pytest.param("carrier-pigeon://127.0.0.1:1", id="unknown-scheme"),
    ],
)
def test_address_that_cannot_be_exits_with_6_and_says_why(address):
    code, found = examine("--address", address)
    assert code == 6
    assert found["cluster"]["status"] == "fail"
    assert address in found["cluster"]["found"]
