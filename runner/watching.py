"""What becomes of the cluster while a flow runs: workers that go, none left, a scheduler that died.

Part of the driver's thread, which asks `ClusterWatch.look` a few times a second while something is
in flight.  It tells the pure driver what was lost and the record what happened; it decides nothing
about task runs.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from daskflow.errors import ClusterError
from daskflow.runner.cluster.protocol import BUSY, RECYCLED
from daskflow.runner.cluster.providers import LocalTaskRunner
from daskflow.runner.core.driver import Driver
from daskflow.runner.core.graph import Parcel, once_only
from daskflow.runner.core.stalls import OVER, STALLED, StallNews, StallWatch
from daskflow.runner.outcomes import Journal

if TYPE_CHECKING:
    from daskflow.runner.cluster.dispatch import Dispatch
    from daskflow.runner.cluster.news import WorkerNews

__all__ = ["ClusterWatch", "no_workers_timeout_s"]

_LOOK_S = 0.25  # how often Dask's view of what is in flight is looked at
_LOOK_SOON_S = 0.02  # the same, right after a worker was lost
_SOON_S = 2.0
_NO_LOCAL_WORKERS_S = 60.0  # without any worker for so long, nothing will come
_NO_WORKERS_S = 3600.0  # a queue of somebody else's may be long
_FORGOTTEN_S = 5.0  # a parcel that ended without a final report for so long goes again


def no_workers_timeout_s(runner: Any, chosen: float | None) -> float:
    """How long a cluster of `runner` may be without workers, in seconds."""
    if chosen is not None:
        return chosen
    fixed = isinstance(runner, LocalTaskRunner) or (runner.same_machine and not runner.adapt_kwargs)
    return _NO_LOCAL_WORKERS_S if fixed else _NO_WORKERS_S


class ClusterWatch:
    """Watches the cluster of one session.

    Parameters
    ----------
    driver : Driver
    outlet : Journal
    no_workers_timeout_s : float
    """

    def __init__(self, driver: Driver, outlet: Journal, no_workers_timeout_s: float) -> None:
        self._driver = driver
        self._outlet = outlet
        self._stall = StallWatch(no_workers_timeout_s)
        self._losses = 0
        self._untold: dict[str, float] = {}  # lost workers whose loss is not recorded yet
        self._look_at = 0.0
        self._soon_until = 0.0

    def pause_s(self, clock: float) -> float | None:
        """How long the thread may sleep; None for as long as it likes."""
        if not self._driver.parcels and not self._untold:
            return None
        return _LOOK_SOON_S if clock < self._soon_until else _LOOK_S

    def is_due(self, clock: float) -> bool:
        """Whether to look now."""
        return bool(self._driver.parcels or self._untold) and clock >= self._look_at

    def worker(self, news: WorkerNews, now: float, dispatch: Dispatch) -> None:
        """A worker came or went."""
        if news.action == RECYCLED:
            self._outlet.event(now, "daskflow.worker.recycled", news.worker)
            return
        if news.action == BUSY:
            self._busy(news, now)
            return
        leaving = dispatch.deaths.leaving
        left = news.worker in leaving
        if news.action == "remove-worker" and news.expected:
            leaving.add(news.worker)
        if news.action != "remove-worker":
            leaving.discard(news.worker)  # started again at the same address
            self._outlet.event(now, "daskflow.worker.added", news.worker)
        elif news.expected or left:
            self._outlet.event(now, "daskflow.worker.left", news.worker)
            if left:
                self._look_soon()
        else:
            self._losses += 1
            self._look_soon()
            self._untold[news.worker] = now

    def _busy(self, news: WorkerNews, now: float) -> None:
        """A body that was given up keeps a slot."""
        about = {"executing": [news.task_run], "ends": news.expected}
        self._outlet.event(now, "daskflow.worker.busy", news.worker, **about)
        until = "its process is started anew, once nothing else runs on it"
        if not news.expected:
            until = "it ends by itself, for no nanny can start the process anew"
        text = f"{news.task_run} was given up and goes on: a slot of {news.worker} is busy until "
        text += until
        self._outlet.tell(now, logging.WARNING, text)

    def _look_soon(self) -> None:
        self._look_at = time.monotonic()
        self._soon_until = self._look_at + _SOON_S

    def look(self, dispatch: Dispatch, clock: float) -> None:
        """Compare what is in flight with what Dask knows of it.

        Parameters
        ----------
        dispatch : Dispatch
        clock : float
            Seconds of the monotonic clock.
        """
        soon = clock < self._soon_until
        self._look_at = clock + (_LOOK_SOON_S if soon else _LOOK_S)
        driver, now = self._driver, time.time()
        dispatch.rule_requests(driver, clock, now)
        self.tell_losses(dispatch)
        news = dispatch.look()
        for run in dispatch.lost_values() if news or soon else ():
            driver.value_lost(run)
        for each in news:
            parcel = driver.parcels.get(each.parcel_id)
            if parcel is None:
                dispatch.release(each.parcel_id)
            elif each.status == "error":
                driver.parcel_failed(parcel.id, now, each.reason)
            elif each.status == "lost":
                untold = each.worker in self._untold or dispatch.deaths.may_come(each.worker)
                if each.exception is None or not untold:
                    dispatch.lost(driver, parcel, each, now)
            elif dispatch.silent_for(parcel.id, clock) > _FORGOTTEN_S:
                driver.parcel_lost(parcel.id, now, each.reason, executing=(), expected=True)
        self._look_for_stall(dispatch, now)

    def tell_losses(self, dispatch: Dispatch, *, now_or_never: bool = False) -> None:
        """Record the workers that were lost, with what their nannies have told of it."""
        for worker, at in list(self._untold.items()):
            if now_or_never or not dispatch.deaths.may_come(worker):
                del self._untold[worker]
                about = dispatch.about_loss(worker, self._driver)
                self._outlet.event(at, "daskflow.worker.lost", worker, **about)

    def sendable(self, parcels: Sequence[Parcel], dispatch: Dispatch) -> Sequence[Parcel]:
        """Leave out parcels whose inputs were lost; their runs wait for them to be made again."""
        if not self._losses:
            return parcels
        ok = []
        for parcel in parcels:
            gone = dispatch.lost_inputs(parcel)
            if not gone:
                ok.append(parcel)
                continue
            for dep in gone:
                self._driver.value_lost(dep)
            text, now = "an input was lost", time.time()
            self._driver.parcel_lost(parcel.id, now, text, executing=(), expected=True)
        return ok

    # -- no workers, no scheduler --------------------------------------------------------------

    def _look_for_stall(self, dispatch: Dispatch, now: float) -> None:
        waits = bool(self._driver.parcels)
        news = self._stall.look(time.monotonic(), waits=waits, workers=dispatch.workers)
        if news is None:
            return
        if news.what == OVER:
            self._driver.refuse(ClusterError(_given_up(news)), now)
        elif news.what == STALLED:
            count = sum(len(parcel.open) for parcel in self._driver.parcels.values())
            self._outlet.tell(
                now,
                logging.WARNING,
                f"no worker is left on the cluster: {count} task runs in flight wait for one, and "
                f"everything crashes in {news.left_s:.0f} s unless one comes "
                "(runner.no_workers_timeout_seconds)",
            )
            self._outlet.event(now, "daskflow.cluster.stalled", dispatch.session.description)
        else:
            text = f"a worker came after {news.lasted_s:.1f} s without any; the flow goes on"
            self._outlet.tell(now, logging.INFO, text)
            self._outlet.event(now, "daskflow.cluster.resumed", dispatch.session.description)

    def scheduler_lost(self, dispatch: Dispatch, now: float) -> None:
        """The connection is gone for good: what was in flight goes again on the next one."""
        self._losses += 1
        driver, address = self._driver, dispatch.address
        count = sum(len(parcel.open) for parcel in driver.parcels.values())
        self.tell_losses(dispatch, now_or_never=True)
        self._outlet.event(now, "daskflow.scheduler.lost", address)
        self._outlet.tell(
            now,
            logging.WARNING,
            f"the connection to the scheduler at {address} was lost; {count} task runs that were "
            "in flight are sent again as soon as there is one",
        )
        for run in dispatch.values():
            driver.value_lost(run)
        cause = f"the scheduler at {address} was lost, and its workers with it"
        for parcel in list(driver.parcels.values()):
            # what may run once only may be running: nobody is left to tell
            driver.parcel_lost(parcel.id, now, cause, executing=once_only(parcel))

    def scheduler_found(self, address: str, took_s: float) -> None:
        """There is a scheduler again."""
        now = time.time()
        self._outlet.event(now, "daskflow.scheduler.found", address)
        text = f"connected to the scheduler at {address} after {took_s:.1f} s; the flow goes on"
        self._outlet.tell(now, logging.INFO, text)


def _given_up(news: StallNews) -> str:
    return (
        f"no worker was there for {news.lasted_s:.1f} s, so nothing can run: look at why the "
        "cluster has none, or let flows wait longer (runner.no_workers_timeout_seconds, "
        "DASKFLOW_RUNNER__NO_WORKERS_TIMEOUT_SECONDS)"
    )
