"""Fixtures for every test: an own home folder, real clusters, scripted task bodies, no leaks.

Clusters start at the first test that asks for one and serve the whole session or module; a test
that kills a worker of the shared one waits for its heir (`eventually`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import hypothesis
import pytest

from tests import foreign, leaks
from tests import s3_server as s3

if TYPE_CHECKING:
    from distributed import Client, LocalCluster

# A deadline per example measures the machine, not the code, where tests share two cores.
hypothesis.settings.register_profile("house", deadline=None, print_blob=True)
hypothesis.settings.register_profile(
    "ci", parent=hypothesis.settings.get_profile("house"), derandomize=True
)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "house")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give each test a home folder of its own and no setting of the person who runs it."""
    for name in [name for name in os.environ if name.startswith("DASKFLOW_")]:
        monkeypatch.delenv(name)
    folder = tmp_path / "daskflow-home"
    monkeypatch.setenv("DASKFLOW_HOME", str(folder))
    _reset_settings()
    yield folder
    _reset_settings()


def _reset_settings() -> None:
    if config := sys.modules.get("daskflow.config"):  # pure tests do not pay for pydantic
        config.reset_settings()


@pytest.fixture
def eventually() -> Callable[..., None]:
    """``eventually(condition, within_s=10)``: wait for a condition, with a deadline."""
    return foreign.eventually


# ---- clusters


class _Sharing:
    """Keeps what session-wide fixtures opened, so that `no_leaks` charges it to no module."""

    def __init__(self) -> None:
        nothing: frozenset[tuple[int, str]] = frozenset()
        self.allowed = leaks.Footprint(nothing, frozenset(), frozenset())

    def add(self, before: leaks.Footprint) -> None:
        now = leaks.Footprint.now()
        self.allowed = leaks.Footprint(
            self.allowed.processes | (now.processes - before.processes),
            self.allowed.threads | (now.threads - before.threads),
            self.allowed.ports | (now.ports - before.ports),
        )


_sharing = _Sharing()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Two real worker processes for the whole session; a test that kills one waits for its heir."""
    import dask  # heavy, like the next: only sessions that need a cluster pay for it
    from distributed import LocalCluster

    before = leaks.Footprint.now()
    with dask.config.set(foreign.CALM):
        starting = LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            local_directory=str(tmp_path_factory.mktemp("cluster")),
        )
    with starting as cluster:
        _sharing.add(before)
        # a list first: Dask takes a lost worker out of there seconds later, in its own thread
        leaks.shared_pids.append(lambda: {n.pid for n in list(cluster.workers.values()) if n.pid})
        leaks.shared_ports.append(lambda: {n.port for n in list(cluster.workers.values())})
        yield cluster
    leaks.shared_pids.clear()
    leaks.shared_ports.clear()


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    """Connect to the shared cluster once both workers are there."""
    from distributed import Client  # heavy

    with Client(cluster, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=30)
        yield client


@pytest.fixture(scope="module")
def external_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[foreign.ForeignCluster]:
    """`dask scheduler` and two `dask worker` processes that share nothing with this one."""
    cluster = foreign.ForeignCluster(tmp_path_factory.mktemp("foreign"))
    try:
        yield cluster
    finally:
        cluster.close()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3.S3Server]:
    """A real S3 server on 127.0.0.1 that counts requests, for the whole session."""
    before = leaks.Footprint.now()
    server = s3.S3Server(tmp_path_factory.mktemp("s3"))
    try:
        _sharing.add(before)
        yield server
    finally:
        server.close()


# ---- task bodies


class Scripted(Protocol):
    """A task body that follows a script and remembers its attempts."""

    def __call__(self, x: object = None) -> int:
        """Follow the script's step for this attempt; ``ok`` returns the attempt's number."""

    def attempts(self, x: object = None) -> int:
        """Return how often the body was started with this argument."""


@pytest.fixture
def scripted(tmp_path: Path) -> Callable[[Sequence[str]], Scripted]:
    """Make a body that follows a script of ``ok``, ``raise`` and ``die`` (SIGKILL to its process).

    Each argument value goes through the script on its own.  Attempts are counted on disk, where
    a killed worker cannot lose them; one attempt more than the script has is an AssertionError.
    The body is a closure, so it travels by value to workers that cannot import tests.
    """
    made = 0

    def make(script: Sequence[str]) -> Scripted:
        nonlocal made
        made += 1
        folder, steps = tmp_path / f"scripted-{made}", tuple(script)
        assert {*steps} <= {"ok", "raise", "die"}, f"unknown step in {steps!r}"

        def body(x: object = None) -> int:
            import hashlib  # inside, because a body travels by value to other processes
            import os
            import signal

            mine = folder / hashlib.sha1(repr(x).encode()).hexdigest()
            mine.mkdir(parents=True, exist_ok=True)
            attempt = 1
            while True:
                try:
                    os.close(os.open(mine / str(attempt), os.O_CREAT | os.O_EXCL))
                    break
                except FileExistsError:
                    attempt += 1
            if attempt > len(steps):
                raise AssertionError(f"attempt {attempt} of a script of {len(steps)} steps")
            if steps[attempt - 1] == "raise":
                raise ValueError(f"scripted to fail at attempt {attempt}")
            if steps[attempt - 1] == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            return attempt

        def attempts(x: object = None) -> int:
            import hashlib  # as above

            mine = folder / hashlib.sha1(repr(x).encode()).hexdigest()
            return len(list(mine.iterdir())) if mine.exists() else 0

        body.attempts = attempts  # type: ignore[attr-defined]
        return body  # type: ignore[return-value]

    return make


# ---- leaks


@pytest.fixture(scope="module", autouse=True)
def no_leaks() -> Iterator[None]:
    """Fail the module that leaves a process, a lasting thread or a listening port behind."""
    before = leaks.Footprint.now()
    yield
    left = ""

    def clean() -> bool:
        nonlocal left
        left = leaks.Footprint.now().beyond(before, _sharing.allowed)
        return not left

    try:
        foreign.eventually(clean, within_s=10)
    except AssertionError:
        pytest.fail(f"left behind by this module: {left}", pytrace=False)
