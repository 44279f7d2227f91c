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
import threading
from collections.abc import Callable
from typing import Any

from dask.system import CPU_COUNT
from distributed import Client, Scheduler, performance_report
from tornado.ioloop import IOLoop

from daskflow.config import get_settings
from daskflow.errors import ClusterError, DaskflowError, UsageError
from daskflow.runner.cluster import foreign
from daskflow.runner.cluster.folders import private_folder
from daskflow.runner.cluster.local import (
    DEATHS_TOPIC,
    root_cause,
    start_processes,
    start_threads,
)
from daskflow.runner.cluster.loop import LoopThread
from daskflow.runner.cluster.protocol import WITH_NANNY
from daskflow.runner.cluster.providers import DaskTaskRunner, LocalTaskRunner, TaskRunner
from daskflow.runner.cluster.started import CLOSE_TIMEOUT_S, adapt, close_cluster, start_cluster

__all__ = ["Session", "open_session"]

WORKER_TIMEOUT_S = 60.0

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
        Where workers write their flight recorders: a private folder that outlives a killed
        worker and is removed when the session closes, or `WITH_NANNY` on clusters that are not
        ours.  None where workers are threads of this process.
    deaths_topic : str or None
        Event topic on which our own nannies tell how their workers end; others use `topic`.
    tells_deaths : bool
        There are nannies that tell.
    at_home : bool
        The scheduler lives in this process, so it has daskflow.
    loss_budget : bool
        A killed worker makes its parcels err at once: keys annotated with
        ``{"daskflow_lost": n}`` survive n losses (on a cluster of our own: none).
    checked : frozenset of str
        Workers, by address, whose versions fit.
    topic : str
        Name of the event topic that is the session's own and goes with it.
    """

    client: Client
    owned = False
    in_process = False
    description = ""
    flight_folder: str | None = None
    deaths_topic: str | None = None
    tells_deaths = False
    connect_timeout_s = foreign.CONNECT_TIMEOUT_S
    at_home = False
    loss_budget = True
    checked: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self._loop = LoopThread()
        self._closing = threading.Lock()
        self._at_close: list[Callable[[], object]] = [self._loop.stop]
        atexit.register(self.close)

    @property
    def loop(self) -> IOLoop:
        """The event loop of this session, in a thread of its own."""
        return self._loop.loop

    @property
    def topic(self) -> str:
        return f"daskflow-{self.client.id}"

    def nthreads(self) -> dict[str, int]:
        """Return the threads of each worker that is there now, by address."""
        threads: dict[str, int] = self.client.nthreads()
        return threads

    def wait_for_worker(self, timeout_s: float = WORKER_TIMEOUT_S) -> None:
        """Return when there is a worker; `ClusterError` when none has come within `timeout_s`."""
        try:
            self.client.wait_for_workers(1, timeout_s)
        except TimeoutError:
            raise ClusterError(
                f"No worker has joined {foreign.address_of(self.client)} within {timeout_s:g} s; "
                "start one (dask worker ADDRESS) or look at why the cluster starts none"
            ) from None

    def at_close(self, step: Callable[[], object]) -> None:
        """Have `close` call `step`, before all the steps that were added earlier."""
        self._at_close.append(step)

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


def open_session(
    runner: TaskRunner, connect_timeout_s: float = foreign.CONNECT_TIMEOUT_S
) -> Session:
    """Start or find the cluster that `runner` describes and connect to it.

    Blocks; not to be called from a thread that runs an event loop.

    Parameters
    ----------
    runner : TaskRunner
    connect_timeout_s : float
        How long a scheduler that is there already may take to answer.

    Raises
    ------
    ClusterError
        When the cluster cannot be started or reached, or does not fit this process.
    UsageError
        When the runner's arguments do not fit what they are for.
    """
    session = Session()
    session.connect_timeout_s = connect_timeout_s
    try:
        if isinstance(runner, LocalTaskRunner):
            _open_local(session, runner, DaskTaskRunner())
        elif isinstance(runner, DaskTaskRunner):
            _open_dask(session, runner)
        else:
            raise UsageError(f"{runner!r} runs tasks in the flow's own thread and has no session")
    except BaseException as error:
        session.close()
        if isinstance(error, DaskflowError) or not isinstance(error, Exception):
            raise
        raise ClusterError(
            f"The Dask cluster for {runner!r} did not start: {root_cause(error)}"
        ) from error
    return session


def _open_dask(session: Session, runner: DaskTaskRunner) -> None:
    if runner.address is not None or runner.cluster is not None:
        _connect(session, runner.address or runner.cluster, runner)
        session.at_home = isinstance(getattr(runner.cluster, "scheduler", None), Scheduler)
        _introduce(session, runner)
    elif local := runner.as_local():
        _open_local(session, local, runner)
    else:
        session.owned = True
        cluster = start_cluster(runner)
        session.at_close(lambda: close_cluster(cluster))
        adapt(cluster, runner.adapt_kwargs)
        _connect(session, cluster, runner)
        _introduce(session, runner)


def _introduce(session: Session, runner: DaskTaskRunner) -> None:
    """Make sure that a cluster which somebody else configured can run what we send it."""
    client = session.client
    session.checked = foreign.check_versions(client)
    registered = foreign.register_loss_budget(client, session.topic)
    session.at_close(lambda: foreign.leave(client, session.topic, registered=registered))
    session.loss_budget = registered
    address = foreign.address_of(client)
    if not runner.in_process:
        session.flight_folder = WITH_NANNY
        foreign.register_worker_plugins(session)
    session.in_process = runner.in_process  # what the arguments of tasks are made for already
    session.description = f"{address}, {_count(len(session.nthreads()), 'worker')}"


def _open_local(session: Session, local: LocalTaskRunner, runner: DaskTaskRunner) -> None:
    folder, remove_folder = private_folder()
    session.at_close(remove_folder)
    session.owned = session.at_home = True
    settings = get_settings().runner
    if local.kind == "threads":
        count, threads = 1, local.threads_per_worker or CPU_COUNT
        session.in_process = True
        cluster = start_threads(session.loop, threads=threads, folder=str(folder))
    else:
        count = local.workers or settings.workers or CPU_COUNT
        threads = local.threads_per_worker or settings.threads_per_worker
        flights = folder / "flights"
        flights.mkdir(mode=0o700)
        session.flight_folder = str(flights)
        session.deaths_topic, session.tells_deaths = DEATHS_TOPIC, True
        cluster = start_processes(
            session.loop,
            count,
            threads_per_worker=threads,
            folder=str(folder),
            flights=str(flights),
            **local.worker_options,
        )
    workers = "adaptive workers" if runner.adapt_kwargs else _count(count, "worker")
    session.description = f"{local.kind}, {workers} × {_count(threads, 'thread')}"
    session.at_close(cluster.kill_leftovers)
    session.at_close(lambda: close_cluster(cluster))
    if runner.adapt_kwargs:
        adapt(cluster, runner.adapt_kwargs)
        _connect(session, cluster, runner)
    else:
        starting = cluster.start_workers(count)
        _connect(session, cluster, runner)
        cluster.wait_for_first_worker(starting, WORKER_TIMEOUT_S)


def _connect(session: Session, target: Any, runner: DaskTaskRunner) -> None:
    client = foreign.connect(target, session.loop, runner.client_kwargs, session.connect_timeout_s)
    session.client = client
    session.at_close(lambda: client.close(timeout=CLOSE_TIMEOUT_S))
    if runner.performance_report_path is not None:
        report = performance_report(str(runner.performance_report_path))
        with client.as_current():
            report.__enter__()
        session.at_close(lambda: _write(report, client))


def _write(report: performance_report, client: Client) -> None:
    with client.as_current():
        report.__exit__(None, None, None)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
