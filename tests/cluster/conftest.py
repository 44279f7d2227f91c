"""The places where a flow's tasks can run, each shared by all tests that ask for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import foreign, leaks

EVERYWHERE = ("processes", "threads", "sync", "external")


@pytest.fixture(scope="session")
def external_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Working directory of the external workers: they can import what lies there."""
    return tmp_path_factory.mktemp("external")


@pytest.fixture(scope="session")
def external_address(external_folder: Path) -> Iterator[str]:
    """Address of a scheduler with two workers that share nothing with this process."""
    cluster = foreign.ForeignCluster(external_folder)
    pids = {process.pid for process in (cluster.scheduler, *cluster.workers.values())}
    leaks.shared_pids.append(lambda: pids)
    try:
        yield cluster.address
    finally:
        cluster.close()


@pytest.fixture(params=EVERYWHERE)
def where(request: pytest.FixtureRequest) -> Any:
    """A `task_runner`: worker processes, threads, this thread, an external scheduler.

    ``pytest.mark.parametrize("where", [...], indirect=True)`` leaves some of them out.
    """
    if request.param == "processes":
        return request.getfixturevalue("cluster")
    if request.param == "external":
        return request.getfixturevalue("external_address")
    return request.param


@pytest.fixture
def told(tmp_path):
    """Tell what was executed: tasks append to a file, the test reads it."""
    return Told(tmp_path / "told")


class Told:
    """Lines that task bodies append to a file, wherever they run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, what: object) -> None:
        with self.path.open("a") as file:
            file.write(f"{what}\n")

    def __daskflow_hash__(self) -> str:
        return "told"

    def take(self) -> list[str]:
        lines = self.path.read_text().split() if self.path.exists() else []
        self.path.unlink(missing_ok=True)
        return sorted(lines)
