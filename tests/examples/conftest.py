"""One external cluster for all examples: each brings its modules along, so they do not meet."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import foreign, leaks


@pytest.fixture(scope="session")
def external_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a scheduler with two workers that know nothing of the examples."""
    cluster = foreign.ForeignCluster(tmp_path_factory.mktemp("external"))
    pids = {process.pid for process in (cluster.scheduler, *cluster.workers.values())}
    leaks.shared_pids.append(lambda: pids)
    try:
        yield cluster.address
    finally:
        cluster.close()
