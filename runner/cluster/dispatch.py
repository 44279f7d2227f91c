"""Carry the driver's parcels to the workers and their reports back, over Dask.

Runs in the driver's thread; Dask's client thread only drops messages into the driver's inbox.
A parcel is one Dask key with an acknowledgement for a value: outcomes come as events while it
runs.  Whatever happens to that key besides finishing tells about the infrastructure, never about
user code.
"""

from __future__ import annotations

import pickle
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import dask
from distributed.scheduler import KilledWorker, NoValidWorkerError, NoWorkerError

from daskflow.errors import ClusterError, StoreError
from daskflow.runner.cluster.answers import Answer
from daskflow.runner.cluster.calling import WorkerCalls
from daskflow.runner.cluster.deaths import (
    DEATH,
    Deaths,
    about_death,
    describe_death,
    executing_on,
    last_lines,
)
from daskflow.runner.cluster.delivering import Deliverer
from daskflow.runner.cluster.draining import LEAVING
from daskflow.runner.cluster.entries import entry, live_entry
from daskflow.runner.cluster.executor.channel import live_orders, receivers
from daskflow.runner.cluster.executor.parcel import run_live_parcel, run_parcel
from daskflow.runner.cluster.fitness import Fitness
from daskflow.runner.cluster.foreign import address_of
from daskflow.runner.cluster.news import ParcelNews, WorkerNews
from daskflow.runner.cluster.orders import OrderMaker, is_lost
from daskflow.runner.cluster.outcome_reading import OutcomeReader
from daskflow.runner.cluster.placing import Placing
from daskflow.runner.cluster.plugin import LOSS_ANNOTATION
from daskflow.runner.cluster.protocol import BUSY, RECYCLED, Order, Report
from daskflow.runner.cluster.requests import Requests
from daskflow.runner.cluster.session import Session
from daskflow.runner.core.driver import Driver
from daskflow.runner.core.graph import LaneKey, Parcel, Run, executed_once, once_only
from daskflow.runner.core.states import CRASHED, FAILED

__all__ = ["Dispatch"]


class Dispatch:
    """Sends parcels to one session's cluster.

    Parameters
    ----------
    session : Session
    on_report : callable
        Takes a `Report`; called from Dask's client thread or a worker's thread.
    on_worker : callable
        Takes a `WorkerNews`; called from Dask's client thread.
    on_ask : callable
        Takes what a task asks of the driver, its kind and bytes; called from Dask's client thread.
    """

    def __init__(
        self,
        session: Session,
        on_report: Callable[[Report], object],
        on_worker: Callable[[WorkerNews], object],
        on_ask: Callable[[str, bytes], object],
    ) -> None:
        self.session = session
        self.client = session.client
        self.topic = session.topic
        self._orders = OrderMaker(session)
        self._entry: Callable[..., int] = run_parcel if session.at_home else entry
        self._live_entry = run_live_parcel if session.at_home else live_entry
        self._requests = Requests(session.client)
        self._placing = Placing(session, self._requests)
        self._deliverer = Deliverer(session)
        self.fitness = Fitness(session, self._requests)
        self._token = uuid.uuid4().hex[:8]
        self._futures: dict[int, Any] = {}
        self._workers: dict[int, str] = {}  # where a parcel was last heard of
        self._heard_at: dict[int, float] = {}
        self.calls = WorkerCalls(session, self._workers)
        self._lost_together: Counter[str | None] = Counter()  # parcels, by worker
        self._reader = OutcomeReader(session.client)
        self.outcomes = self._reader.read
        self._on_report = on_report
        self._on_ask, self._on_worker = on_ask, on_worker
        self._comm = session.client.scheduler_comm
        self.address = address_of(session.client)
        self.link_broken = False  # set by whoever finds that nobody answers
        self.workers, self._slots = 0, 1
        self.deaths = Deaths(lambda: session.tells_deaths)
        if session.in_process:
            receivers[self.topic] = on_report
        else:
            self.client.subscribe_topic(self.topic, self._report_event)
        if session.deaths_topic is not None:
            self.client.subscribe_topic(session.deaths_topic, self._report_event)

        def worker_event(event: tuple[Any, Any]) -> None:
            message = event[1]
            if isinstance(message, dict):
                action = message.get("action")
                if action in ("add-worker", "remove-worker"):
                    expected, worker = bool(message.get("expected")), str(message.get("worker"))
                    self._deliverer.worker(worker, came=action == "add-worker")
                    on_worker(WorkerNews(action, worker, expected))

        self.client.subscribe_topic("all", worker_event)

    def slots(self) -> int:
        """Threads there now, when workers come and go; at least one, or none will come."""
        self._requests.workers_changed()
        self.fitness.workers_changed()
        try:
            threads = self.session.nthreads()
        except Exception as error:
            if self.is_connected() and not isinstance(error, OSError):
                raise
            self.link_broken = True
        else:
            self.workers, self._slots = len(threads), max(1, sum(threads.values()))
        return self._slots

    def is_connected(self) -> bool:
        """Whether the scheduler is the one that this object was made for.

        Dask's client connects again by itself, to a scheduler that knows nothing of ours.
        """
        same = self.client.scheduler_comm is self._comm
        return same and self.client.status == "running" and not self.link_broken

    # -- out -----------------------------------------------------------------------------------

    def send(self, parcels: Sequence[Parcel]) -> None:
        """Send parcels; those that may share a call of the client do."""
        groups: dict[tuple[LaneKey, bool, tuple[str, ...]], list[Any]] = {}
        for parcel in parcels:
            place = self._placing.place(parcel)
            if place is None:
                continue  # `rule_requests` says what becomes of it
            inputs: list[Any] = []
            order = self._orders.order(parcel, inputs)
            if not self.fitness.fits(parcel, order.codes):
                continue  # as above
            if place.only is not None:
                order = order._replace(only=place.only)
            group = groups.setdefault((parcel.lane.key, bool(inputs), place.workers), [])
            group.append((parcel, order, inputs))
        for (lane, has_inputs, workers), group in groups.items():
            self._send_group(lane, workers, has_inputs, group)

    def rule_requests(self, driver: Driver, clock: float, now: float) -> None:
        """Tell the driver of parcels that a worker can run now, and of those that none can."""
        ruling = self._requests.look(driver.parcels, clock)
        for parcel_id in sorted(ruling.again, reverse=True):  # each goes back before the others
            parcel = driver.parcels[parcel_id]
            worker = self._placing.pinned(parcel_id)
            if worker is not None:
                gone = ClusterError(f"worker {worker} is gone")
                news = ParcelNews(parcel_id, "lost", str(gone), worker, gone)
                self.lost(driver, parcel, news, now)
                continue
            reason = "a worker came that can run it"
            driver.parcel_lost(parcel_id, now, reason, executing=(), expected=True)
        for parcel_id, misfit in self.fitness.refused():
            # a result that cannot be stored fails its run, however early that is known
            state = FAILED if isinstance(misfit, StoreError) else CRASHED
            driver.refuse_parcel(parcel_id, misfit, now, state)
        for key, error in ruling.refused:
            driver.refuse_lane(key, error, now)

    def _send_group(
        self,
        lane: LaneKey,
        workers: tuple[str, ...],
        has_inputs: bool,
        group: list[tuple[Parcel, Order, list[Any]]],
    ) -> None:
        keys = [f"{parcel.runs[0].stage.name}-{self._token}-{parcel.id}" for parcel, _, _ in group]
        options: dict[str, Any] = {"key": keys, "pure": False}
        if lane.priority:
            options["priority"] = lane.priority
        if lane.resources:
            options["resources"] = dict(lane.resources)
        if workers:  # Dask takes names that it does not know for hosts: addresses are sure
            options["workers"] = list(workers)
        with dask.annotate(**{LOSS_ANNOTATION: 0}):
            if self.session.in_process:
                for parcel, order, _ in group:
                    live_orders[self.topic, parcel.id] = order
                futures = self.client.map(
                    self._live_entry,
                    [self.topic] * len(group),
                    [parcel.id for parcel, _, _ in group],
                    **options,
                )
            else:
                blobs = [pickle.dumps(tuple(order), 5) for _, order, _ in group]
                more = ([inputs for _, _, inputs in group],) if has_inputs else ()
                futures = self.client.map(self._entry, blobs, *more, **options)
        for (parcel, _, _), future in zip(group, futures, strict=True):
            self._futures[parcel.id] = future

    # -- back ----------------------------------------------------------------------------------

    def _report_event(self, event: tuple[Any, Any]) -> None:
        about, blob = event[1]
        if about == DEATH:
            self.deaths.note(blob)
            return
        if about == LEAVING:
            self.deaths.leaving.add(blob.decode())
            return
        if about == RECYCLED:
            self.deaths.leaving.add(worker := blob.decode())
            self._on_worker(WorkerNews(RECYCLED, worker, expected=True))
            return
        if about == BUSY:
            worker, task_run, ends = pickle.loads(blob)
            self._on_worker(WorkerNews(BUSY, worker, ends, task_run))
            return
        if isinstance(about, str):
            self._on_ask(about, blob)
            return
        self._on_report(Report(*pickle.loads(blob)))

    def heard_of(self, parcel_id: int, worker: str, now: float) -> None:
        """A report of this parcel came from `worker`."""
        self._workers[parcel_id] = worker
        self._heard_at[parcel_id] = now

    def was_heard_of(self, parcel_id: int) -> bool:
        """Whether a worker has reported on this parcel: then it has started."""
        return parcel_id in self._workers

    def silent_for(self, parcel_id: int, now: float) -> float:
        """Seconds since the first look at, or the last report of, this parcel."""
        return now - self._heard_at.setdefault(parcel_id, now)

    def answer(self, worker: str, answers: list[Answer]) -> None:
        """Tell a worker what became of runs that its tasks asked for; waits for nobody."""
        self._deliverer.send(worker, answers)

    def release(self, parcel_id: int) -> None:
        """Nothing more is expected of this parcel."""
        self._futures.pop(parcel_id, None)
        self._workers.pop(parcel_id, None)
        self._heard_at.pop(parcel_id, None)
        self._placing.release(parcel_id)
        if self.session.in_process:
            live_orders.pop((self.topic, parcel_id), None)

    def look(self) -> list[ParcelNews]:
        """Parcels whose Dask key has ended; the final report of a finished one came before."""
        news = []
        for parcel_id, future in list(self._futures.items()):
            status = future.status
            if status == "pending":
                continue
            news.append(self._news(parcel_id, future, status))
        self._lost_together = Counter(each.worker for each in news if each.status == "lost")
        return news

    def _news(self, parcel_id: int, future: Any, status: str) -> ParcelNews:
        worker = self._workers.get(parcel_id)
        if status == "finished":
            return ParcelNews(
                parcel_id, "finished", "it ended without a final report", worker, None
            )
        if status in ("cancelled", "lost"):
            return ParcelNews(parcel_id, "lost", f"Dask {status} its key", worker, None)
        error = future.exception()
        if isinstance(error, KilledWorker):
            last = getattr(error.last_worker, "address", None) or worker
            return ParcelNews(parcel_id, "lost", f"worker {last} died", last, error)
        if isinstance(error, (NoWorkerError, NoValidWorkerError)):
            return ParcelNews(parcel_id, "error", f"no worker came: {error}", worker, error)
        reason = f"{type(error).__name__}: {error}"
        return ParcelNews(parcel_id, "error", reason, worker, error)

    def lost(self, driver: Driver, parcel: Parcel, news: ParcelNews, now: float) -> None:
        """Tell the driver of a parcel whose key was lost, with all that is known of the blame."""
        if news.exception is None:  # its inputs or the scheduler went: nothing of it has run
            driver.parcel_lost(parcel.id, now, news.reason, executing=(), expected=True)
            return
        if news.worker in self.deaths.leaving:  # nobody is charged but who may run once only
            reason = f"worker {news.worker} left before it ended"
            driver.parcel_lost(parcel.id, now, reason, executing=once_only(parcel))
            return
        death = self.deaths.of(news.worker)
        reason = news.reason if death is None else describe_death(death)
        entries = executing_on(news.worker, death, self.session.flight_folder)
        if entries is None:
            self._placing.lost_on(list(parcel.open.values()), news.worker)
            known = self.was_heard_of(parcel.id) or bool(once_only(parcel))
            alone = known or self._lost_together[news.worker] < 2
            driver.parcel_lost(parcel.id, now, reason, executing=None, alone=alone)
            return
        mine = [entry for entry in entries if entry.parcel_id == parcel.id]
        executing = {entry.number for entry in mine if entry.number is not None}
        if any(entry.number is None for entry in mine):
            executing.update(parcel.open)
        executing.update(executed_once(parcel, executing))
        self._placing.lost_on([parcel.open[n] for n in executing if n in parcel.open], news.worker)
        if death is not None:
            lines = [line for number in executing for line in last_lines(death, number)]
            reason += "".join(f"\n  it logged: {line}" for line in lines)
        driver.parcel_lost(parcel.id, now, reason, executing=executing)

    def about_loss(self, worker: str, driver: Driver) -> dict[str, Any]:
        """What the record tells of a lost worker."""
        death = self.deaths.of(worker)
        return {} if death is None else about_death(death, driver.parcels)

    def lost_inputs(self, parcel: Parcel) -> list[Run]:
        """Inputs of a parcel whose values lived on workers that are gone."""
        deps = [dep for run in parcel.runs for dep in run.deps[: run.taken]]
        return [dep for dep in deps if dep.kept and is_lost(dep)]

    def values(self) -> list[Run]:
        """Runs whose results live on workers."""
        return [run for run in self._reader.held() if run.kept]

    def lost_values(self) -> list[Run]:
        """Runs whose results lived on workers that are gone."""
        return [run for run in self.values() if is_lost(run)]

    def close(self) -> None:
        """Let go of everything that this dispatch holds on the cluster."""
        receivers.pop(self.topic, None)
        self._deliverer.close()
        if not self.is_connected():
            return
        for parcel_id in list(self._futures):
            self.release(parcel_id)
        if not self.session.in_process:
            self.client.unsubscribe_topic(self.topic)
