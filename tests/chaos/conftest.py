"""What the chaos tests share: a foreign cluster with nannies, and figures that are printed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.foreign import ForeignCluster


@pytest.fixture
def figure(
    capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> Callable[[str], None]:
    """Print what a test has measured, past pytest's capture."""

    def show(text: str) -> None:
        with capsys.disabled():
            print(f"\n    {request.node.name}: {text}")

    return show


@pytest.fixture(scope="module")
def nannied_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForeignCluster]:
    """A cluster that is not ours, whose two workers have nannies and a memory limit."""
    cluster = ForeignCluster(tmp_path_factory.mktemp("nannied"), n_workers=0)
    try:
        for _ in range(2):
            cluster.add_worker("--memory-limit", "400MB", nanny=True)
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
def lonely(tmp_path: Path) -> Iterator[ForeignCluster]:
    """A cluster of one worker without a nanny, ``foreign-0``; tests add others."""
    folder = tmp_path / "cluster"
    folder.mkdir()
    cluster = ForeignCluster(folder, n_workers=1)
    yield cluster
    cluster.close()
