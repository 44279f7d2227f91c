"""The places where a flow's tasks can run, each shared by all tests that ask for it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import foreign, leaks
from tests.cluster.resumed import PLAIN, Script, module_name

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
def script(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Script]:
    """A script with a flow, of a name of its own, that commands run and resume."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    name = module_name(request.node.name)
    yield Script(tmp_path, name)
    sys.modules.pop(name, None)


@pytest.fixture
def failed(script: Script) -> Script:
    """A flow run whose third item has failed."""
    script.write(PLAIN)("run", script.path, code=1)
    assert script.ran() == {"clean0": 1, "clean1": 1, "clean2": 1, "clean3": 1, "loose": 3}
    return script.mend()
