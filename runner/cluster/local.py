"""The clusters that daskflow starts itself: worker processes or threads on this machine.

Nothing listens outside 127.0.0.1, and inside only what the work needs: the scheduler (and its
HTTP routes, without the Bokeh dashboard, whose import costs half a second), nannies, workers.
`start_processes` returns while workers are still starting: the scheduler is up within
milliseconds, so the client connects and the flow can begin with the first worker.

Policy of an owned cluster: a killed worker makes its tasks err at once (`allowed-failures` 0; what
runs again is daskflow's decision), a silent worker is given up after `WORKER_TTL`, and tasks err
when no worker has been there for `NO_WORKERS_TIMEOUT_S`.  All of it is set on these servers
only; Dask's global configuration is not touched.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import logging
import os
import signal
import threading
from collections import deque
from collections.abc import Collection
from contextlib import suppress
from itertools import chain, repeat
from multiprocessing.context import SpawnProcess
from typing import Any

from distributed import Client, Nanny, Scheduler, Security, Worker
from distributed.core import Server, Status
from distributed.deploy.spec import SpecCluster
from distributed.nanny import WorkerProcess
from distributed.process import AsyncProcess
from distributed.utils import in_async_call
from distributed.worker_memory import parse_memory_limit
from tornado.ioloop import IOLoop

from daskflow.errors import ClusterError
from daskflow.runner.cluster.deaths import tell_death, watch_memory
from daskflow.runner.cluster.loop import quiet_about_lost_connections
from daskflow.runner.cluster.plugin import REPORT_TOPIC, drained
from daskflow.runner.cluster.spawning import BareProcess
from daskflow.runner.cluster.tls import cluster_security

__all__ = [
    "DEATHS_TOPIC",
    "NO_WORKERS_TIMEOUT_S",
    "WORKER_TTL",
    "LocalNanny",
    "LocalSpecCluster",
    "LocalWorker",
    "root_cause",
    "start_processes",
    "start_threads",
]

WORKER_TTL = "30s"
DEATHS_TOPIC = REPORT_TOPIC + "deaths"
NO_WORKERS_TIMEOUT_S = 3600.0  # the driver is more exact, and takes a setting
_CLOSE_WORKER_S = 0.5  # an idle one takes 0.1 s
_CLOSE_THREADS_S = 0.5
_ENDING = frozenset({Status.closing, Status.closing_gracefully, Status.closed, Status.failed})
# Periodic callbacks of Dask's servers: its default and ours, in milliseconds.
_CALM_MS = {
    "tick": (20.0, 500.0),  # how long the event loop is held up
    "monitor": (500.0, 1000.0),  # CPU and memory of the process
    "profile": (10.0, 100.0),  # call stacks of what is executing
}
_HEARTBEAT_S = 2.0  # Dask's is 0.5; that a worker is gone is told by its connection, not by this
_TCP_TIMEOUT = "15s"  # Dask needs more than 10 s here ("Timeout too low")

_logger = logging.getLogger(__name__)


def _calm(server: Server) -> None:
    """Measure less often what nobody looks at here; what the user has configured stays.

    Dask's defaults took 4 % of a CPU in the flow process and 3 % in each worker, doing nothing.
    """
    for name, (default_ms, calm_ms) in _CALM_MS.items():
        callback = server.periodic_callbacks.get(name)
        if callback is not None and callback.callback_time == default_ms:
            callback.callback_time = calm_ms


class _Scheduler(Scheduler):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        _calm(self)
        if self.no_workers_timeout is None:  # there is no argument for it; the user's own wins
            self.no_workers_timeout = NO_WORKERS_TIMEOUT_S

    def heartbeat_worker(self, *args: Any, **options: Any) -> dict[str, Any]:
        """Take a worker's heartbeat, and tell it when to send the next one."""
        answer = super().heartbeat_worker(*args, **options)
        if "heartbeat-interval" in answer:
            answer["heartbeat-interval"] = max(answer["heartbeat-interval"], _HEARTBEAT_S)
        return answer

    async def _track_retire_worker(self, ws: Any, *args: Any, **options: Any) -> Any:
        """Remove a retired worker when it executes none of our keys any more."""
        await drained(self, ws)
        return await super()._track_retire_worker(ws, *args, **options)

    def log_event(self, topic: str | Collection[str], msg: Any) -> None:
        """Pass an event on; reports and parcels are not kept, as Dask does with the last ones."""
        super().log_event(topic, msg)
        if isinstance(topic, str) and topic.startswith(REPORT_TOPIC):
            self._broker.truncate(topic)
            for comm in (*self.client_comms.values(), *self.stream_comms.values()):
                comm.recent_message_log.clear()


class _PortlessScheduler(_Scheduler):
    def start_http_server(self, *_: Any, **__: Any) -> None:
        """Open no port: in-process servers talk through memory."""


class LocalWorker(Worker):
    """A worker without a port of its own, whose client is nobody's default."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._opening_client = threading.Lock()
        self._own_client: Client | None = None
        super().__init__(*args, **options)
        _calm(self)
        self.batched_stream.recent_message_log = deque(maxlen=1)  # reports, the last thousand

    def _get_client(self, timeout: float | None = None) -> Client:
        """Return the client for what tasks compute with Dask.

        distributed's own opens one for each of two threads that ask at once, and makes it the
        default of the process before it can be used.
        """
        if not in_async_call(self.loop):
            with self._opening_client:
                if not self._client:
                    self._client = self._own_client = Client(
                        self.scheduler,
                        loop=self.loop,
                        security=self.security,
                        set_as_default=False,
                        direct_to_workers=True,
                        name="worker",
                    )
        return super()._get_client(timeout)

    async def close(self, *args: Any, **options: Any) -> Any:
        """Close, with the client of its tasks first."""
        if self._own_client is not None:
            client, self._own_client = self._own_client, None
            await client._close(fast=True)
        return await super().close(*args, **options)

    def start_http_server(self, *_: Any, **__: Any) -> None:
        """Open no port: nobody looks at the dashboard of a single local worker."""


class _ProcessWorker(LocalWorker):
    def __init__(self, *args: Any, **options: Any) -> None:
        quiet_about_lost_connections()  # this is the worker's own process
        super().__init__(*args, **options)
        gc.freeze()  # modules stay for good: the collector need not look at them again


class _ThreadsWorker(LocalWorker):
    """A worker in this process, whose end no task holds up: a thread cannot be stopped."""

    async def close(  # type: ignore[override]  # as in distributed
        self,
        timeout: float = _CLOSE_THREADS_S,  # noqa: ASYNC109  (distributed's signature)
        *args: Any,
        **options: Any,
    ) -> Any:
        """Close; a task that is still executing then goes on without a worker."""
        return await super().close(min(timeout, _CLOSE_THREADS_S), *args, **options)


class _OwnedWorkerProcess(WorkerProcess):
    """distributed's, but what it spawns is a `BareProcess`, also after a restart."""

    _init_msg_interval = 0.01  # distributed looks every 0.05 s whether its worker has started

    @property
    def process(self) -> AsyncProcess | None:
        process: AsyncProcess | None = self.__dict__["process"]
        return process

    @process.setter
    def process(self, process: AsyncProcess | None) -> None:
        # There is no argument for the process class: Dask takes it from multiprocessing.
        spawned: Any = getattr(process, "_process", None)
        if spawned is not None and type(spawned) is SpawnProcess:
            BareProcess.take_over(spawned, self.env)
        self.__dict__["process"] = process


class LocalNanny(Nanny):
    """A nanny whose worker needs no ``__main__`` guard, opens one port and closes quickly."""

    def __init__(self, *args: Any, flights: str | None = None, **options: Any) -> None:
        super().__init__(*args, **{"worker_class": _ProcessWorker, **options})
        _calm(self)
        self._starting = False
        self.flights = flights  # folder of the flight recorders
        watch_memory(self)
        self.silence_logs = logging.ERROR  # in the worker process; here, it would be global
        # Dask leaves these in the environ of the flow process; `env` has them for the worker.
        self.pre_spawn_env = {}

    async def instantiate(self) -> Status:
        """Start the worker process, as often as it is killed while it starts.

        Its first task may kill it before the nanny has heard that it is up, and Dask would
        give it up for good then.  Dask asks again at each death, but two that start it at once
        lose each other's events and wait for ever: the first does it for all.
        """
        if self._starting:
            return Status.starting
        self._starting, pauses = True, chain((0.0,) * 3, (0.1, 0.2, 0.5), repeat(1.0))
        try:
            status = await super().instantiate()
            while self._is_dead() and self.status not in _ENDING:
                await asyncio.sleep(next(pauses))
                status = await super().instantiate()
            return status
        finally:
            self._starting = False

    def _is_dead(self) -> bool:
        return self.process is None or self.process.status == Status.stopped

    async def _on_worker_exit(self, exitcode: int) -> None:
        if self.flights is not None:
            try:
                tell_death(self, exitcode, self.flights, DEATHS_TOPIC)
            except Exception:  # it is started again all the same
                _logger.exception("the end of a worker could not be told")
        await super()._on_worker_exit(exitcode)

    async def close(  # type: ignore[override]  # as in distributed
        self,
        timeout: float = _CLOSE_WORKER_S,  # noqa: ASYNC109  (distributed's signature)
        reason: str = "nanny-close",
    ) -> Any:
        """Close the worker, by SIGKILL when a task that nobody waits for keeps it busy."""
        return await super().close(timeout=timeout, reason=reason)

    @property
    def process(self) -> WorkerProcess | None:
        process: WorkerProcess | None = self.__dict__["process"]
        return process

    @process.setter
    def process(self, process: WorkerProcess | None) -> None:
        if process is not None:
            process.__class__ = _OwnedWorkerProcess
        self.__dict__["process"] = process


class LocalSpecCluster(SpecCluster):
    """A `SpecCluster` whose workers are all alike and may start while it is in use already."""

    def start_workers(self, count: int) -> concurrent.futures.Future[None]:
        """Begin to start `count` more workers; the future is done when all are there."""

        async def grow() -> None:
            for _ in range(count):
                self.worker_spec.update(self.new_worker_spec())
            await self._correct_state()

        loop: Any = self.loop
        return asyncio.run_coroutine_threadsafe(grow(), loop.asyncio_loop)

    def wait_for_first_worker(
        self, starting: concurrent.futures.Future[None], timeout_s: float
    ) -> None:
        """Return when a worker has joined; `ClusterError` when none can or does in time."""

        async def joined() -> None:
            scheduler: Any = self.scheduler
            while not scheduler.workers:
                if starting.done():
                    starting.result()  # raises why it failed
                await asyncio.sleep(0.005)

        try:
            self.sync(joined, callback_timeout=timeout_s)
        except TimeoutError:
            raise ClusterError(
                f"No local worker process joined within {timeout_s:g} s; the machine may be "
                "overloaded or out of memory: try fewer workers (DASKFLOW_RUNNER__WORKERS=1) or "
                'task_runner="threads"'
            ) from None
        except Exception as error:
            raise ClusterError(
                f"The local worker processes did not start: {root_cause(error)}"
            ) from error

    def kill_leftovers(self) -> None:
        """SIGKILL worker processes that an orderly end has left alive."""
        for worker in list(self._created):
            pid = getattr(worker, "pid", None)
            if pid:
                with suppress(OSError):
                    os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))


def start_processes(
    loop: IOLoop,
    n_workers: int,
    *,
    threads_per_worker: int,
    folder: str,
    security: Any = None,
    **worker_options: Any,
) -> LocalSpecCluster:
    """Start a scheduler here that is ready for `n_workers` worker processes under nannies.

    Parameters
    ----------
    loop : IOLoop
        Event loop, running in a thread of its own, for the scheduler and the nannies.
    n_workers, threads_per_worker : int
        The size of the cluster; `LocalSpecCluster.start_workers` starts the workers.
    folder : str
        Existing private folder for what workers write; the caller removes it at the end.
    security : bool or distributed.Security, optional
        True for TLS with certificates that live as long as the cluster.
    **worker_options
        Handed to `distributed.Nanny` and on to its worker, such as `memory_limit`, `resources`.
    """
    security = cluster_security(security)
    protocol = "tls://" if security.require_encryption else "tcp://"
    common = {"host": "127.0.0.1", "protocol": protocol, "security": security}
    worker_options.setdefault(
        "memory_limit", parse_memory_limit("auto", 1, max(n_workers, 1), logger=_logger)
    )
    worker_options.setdefault("local_directory", folder)
    config = {"distributed.comm.timeouts.tcp": _TCP_TIMEOUT, **worker_options.pop("config", {})}
    scheduler_options = {
        **common,
        "port": 0,
        "dashboard": False,
        "dashboard_address": "127.0.0.1:0",
        "allowed_failures": 0,
        "worker_ttl": WORKER_TTL,
        "local_directory": folder,
    }
    nanny_options = {**common, "nthreads": threads_per_worker, "config": config, **worker_options}
    return LocalSpecCluster(
        loop=loop,
        scheduler={"cls": _Scheduler, "options": scheduler_options},
        worker={"cls": LocalNanny, "options": nanny_options},
        security=security,
        scheduler_sync_interval="60s",
    )


def start_threads(loop: IOLoop, *, threads: int, folder: str) -> LocalSpecCluster:
    """Start a scheduler and one worker of `threads` threads in this process, with no port."""
    security = Security()
    common = {"protocol": "inproc://", "local_directory": folder, "security": security}
    worker_options = {**common, "nthreads": threads, "memory_limit": 0}
    return LocalSpecCluster(
        loop=loop,
        scheduler={
            "cls": _PortlessScheduler,
            "options": {**common, "dashboard": False, "allowed_failures": 0},
        },
        worker={"cls": _ThreadsWorker, "options": worker_options},
        security=security,
        scheduler_sync_interval="60s",
    )


def root_cause(error: BaseException) -> str:
    """Return what an error of Dask's start-up goes back to: it says "failed to start" itself."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return f"{type(error).__name__}: {error}"
