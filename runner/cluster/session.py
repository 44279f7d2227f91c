"""A session: one connection to one Dask cluster for one flow run, from start to end.

`open_session` starts or finds the cluster and returns a `Session` as soon as work can be sent:
for worker processes that is with the first worker, the others join while tasks run already.
Whatever a session opened it closes, in reverse order, each step on its own, so that a failure
in one leaves nothing else behind.  Sessions run on an event loop in a thread of their own and
touch neither Dask's global configuration nor its default client.
"""

from __future__ import annotations

import atexit
import logging
import shutil
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dask.system import CPU_COUNT
from distributed import Client

from daskflow.config import get_settings
from daskflow.errors import ClusterError, DaskflowError, UsageError
from daskflow.runner.cluster import foreign
from daskflow.runner.cluster.local import start_processes, start_threads, temporary_folder_parent
from daskflow.runner.cluster.loop import LoopThread
from daskflow.runner.cluster.providers import DaskTaskRunner, LocalTaskRunner, TaskRunner

__all__ = ["Session", "open_session"]

FIRST_WORKER_TIMEOUT_S = 60.0
_CLOSE_TIMEOUT_S = 15.0

_logger = logging.getLogger(__name__)


class Session:
    """A running connection to a cluster; made by `open_session`.

    Attributes
    ----------
    client : distributed.Client
        Synchronous client, usable from any thread, not the default one.
    owned : bool
        The session started the cluster and ends it.
    in_process : bool
        The workers are threads of this process.
    description : str
        For people: ``"processes, 2 workers × 1 thread"``.
    flight_folder : str or None
        Private folder that outlives a killed worker; removed when the session closes.  None
        where workers are no processes of ours on this machine.
    loss_budget : bool
        A killed worker makes its parcels err at once: keys annotated with
        ``{"daskflow_lost": n}`` survive n losses (on a cluster of our own: none).
    topic : str
        Name of the event topic that is the session's own and goes with it.
    """

    client: Client
    owned = False
    in_process = False
    description = ""
    flight_folder: str | None = None
    loss_budget = True

    def __init__(self) -> None:
        self._loop = LoopThread()
        self._at_close: list[Callable[[], object]] = [self._loop.stop]
        self._closing = threading.Lock()
        atexit.register(self.close)

    @property
    def topic(self) -> str:
        return f"daskflow-{self.client.id}"

    def nthreads(self) -> dict[str, int]:
        """Return the threads of each worker that is there now, by address."""
        threads: dict[str, int] = self.client.nthreads()
        return threads

    def close(self) -> None:
        """End the session, from any thread; a second call waits for the first."""
        with self._closing:
            self._loop.closing = True
            while self._at_close:
                step = self._at_close.pop()
                try:
                    step()
                except Exception as error:
                    _logger.debug("A step of closing the session failed: %r", error)
        atexit.unregister(self.close)


def open_session(runner: TaskRunner) -> Session:
    """Start or find the cluster that `runner` describes and connect to it.

    Blocks; not to be called from a thread that runs an event loop.

    Raises
    ------
    ClusterError
        When the cluster cannot be started or reached, or does not fit this process.
    """
    session = Session()
    try:
        if isinstance(runner, LocalTaskRunner):
            _open_local(session, runner)
        elif isinstance(runner, DaskTaskRunner):
            _open_dask(session, runner)
        else:
            raise UsageError(f"{runner!r} needs no session")
    except DaskflowError:
        session.close()
        raise
    except BaseException as error:
        session.close()
        if not isinstance(error, Exception):
            raise
        raise ClusterError(f"The Dask cluster for {runner!r} did not start: {error}") from error
    return session


def _open_local(session: Session, runner: LocalTaskRunner) -> None:
    settings = get_settings().runner
    folder = tempfile.mkdtemp(prefix="daskflow-", dir=temporary_folder_parent())  # mode 0700
    session._at_close.append(lambda: shutil.rmtree(folder, ignore_errors=True))
    session.owned = True
    if runner.kind == "threads":
        threads = runner.threads_per_worker or CPU_COUNT
        cluster = start_threads(session._loop.loop, threads=threads, folder=folder)
        session._at_close.append(lambda: cluster.close(timeout=_CLOSE_TIMEOUT_S))
        session.in_process = True
        session.client = _own_client(session, cluster)
        session.description = f"threads, {_size(1, threads)}"
        return
    count = runner.workers or settings.workers or CPU_COUNT
    threads = runner.threads_per_worker or settings.threads_per_worker
    flights = Path(folder) / "flights"
    flights.mkdir(mode=0o700)
    session.flight_folder = str(flights)
    cluster, starting = start_processes(
        session._loop.loop,
        n_workers=count,
        threads_per_worker=threads,
        folder=folder,
        **runner.worker_options,
    )
    session._at_close.append(cluster.kill_leftovers)
    session._at_close.append(lambda: cluster.close(timeout=_CLOSE_TIMEOUT_S))
    session.client = _own_client(session, cluster)
    cluster.wait_for_first_worker(starting, FIRST_WORKER_TIMEOUT_S)
    session.description = f"processes, {_size(count, threads)}"


def _own_client(session: Session, cluster: Any, **client_kwargs: Any) -> Client:
    client = Client(cluster, set_as_default=False, **client_kwargs)
    session._at_close.append(lambda: client.close(timeout=_CLOSE_TIMEOUT_S))
    return client


def _open_dask(session: Session, runner: DaskTaskRunner) -> None:
    session.client = foreign.connect(
        runner.address or runner.cluster, session._loop.loop, runner.client_kwargs
    )
    client = session.client
    session._at_close.append(lambda: client.close(timeout=_CLOSE_TIMEOUT_S))
    foreign.check_versions(client)
    session.loss_budget = foreign.register_loss_budget(client, session.topic)
    registered, topic = session.loss_budget, session.topic
    session._at_close.append(lambda: foreign.leave(client, topic, registered=registered))
    address = foreign.address_of(client)
    session.in_process = address.startswith("inproc://")
    session.description = address


def _size(workers: int, threads: int) -> str:
    return (
        f"{workers} worker{'s' if workers != 1 else ''} × "
        f"{threads} thread{'s' if threads != 1 else ''}"
    )
