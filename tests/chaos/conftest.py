"""What the chaos tests share: a foreign cluster with nannies, and figures that are printed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from daskflow.config import reset_settings
from daskflow.results.breaker import forget_failures
from tests.cluster.told import Told
from tests.foreign import ForeignCluster
from tests.s3_server import S3Server


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


@pytest.fixture
def s3_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """A server of this test's own, which may be stopped and ended."""
    s3fs = pytest.importorskip("s3fs")
    server = S3Server(tmp_path)
    server.use(monkeypatch)
    s3fs.S3FileSystem.clear_instance_cache()  # one keeps the endpoint that it was made with
    yield server
    server.close()
    s3fs.S3FileSystem.clear_instance_cache()
    forget_failures()


@pytest.fixture
def told(tmp_path: Path) -> Told:
    """What task bodies tell, from any process."""
    return Told(tmp_path / "told")


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Set the time limit of requests: short where there is no answer, else for busy machines."""

    def limit(seconds: float) -> None:
        monkeypatch.setenv("DASKFLOW_RESULTS__TIMEOUT_SECONDS", str(seconds))
        reset_settings()

    return limit
