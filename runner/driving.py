"""The driver's thread: it feeds the pure driver with events and carries out what it decides.

User threads and Dask's threads only append to its queues; this thread alone touches the driver,
so nothing on the path of a task run takes a lock.  It starts the cluster when a run
has to be executed, and ends it when the flow run closes.
"""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from daskflow.config import get_settings
from daskflow.errors import ClusterError, DaskflowError
from daskflow.runner.cache_desk import CacheDesk
from daskflow.runner.core.driver import Driver
from daskflow.runner.core.graph import Parcel, Run, Scope
from daskflow.runner.core.packing import PackingRules
from daskflow.runner.core.states import FINAL
from daskflow.runner.dropping import Dropping
from daskflow.runner.garbage import patient_collector
from daskflow.runner.inbox import Inbox
from daskflow.runner.nesting import Nesting
from daskflow.runner.outcomes import Journal
from daskflow.runner.watching import ClusterWatch, no_workers_timeout_s

if TYPE_CHECKING:
    from daskflow.runner.cluster.answers import Answer
    from daskflow.runner.cluster.dispatch import Dispatch
    from daskflow.runner.cluster.news import WorkerNews
    from daskflow.runner.cluster.protocol import Report
    from daskflow.runner.cluster.session import Session

__all__ = ["PENDING_RUNS", "DriverThread"]

_logger = logging.getLogger(__name__)

PENDING_RUNS = 100_000  # of a flow run: then `submit` waits
_LINGER_S = 0.002  # while the flow only submits, what comes within this leaves together
_OLD_SESSION_S = 5.0
_OPEN_ROWS_S = 0.5  # runs that are open for so long are recorded before they end


class DriverThread(Inbox):
    """Owns the driver of one session, and the thread it runs in.

    Parameters
    ----------
    runner : TaskRunner
        What the session is opened with, at the first submission.
    rules : PackingRules
    outlet : Journal
        Where runs, transitions and log lines go.
    live : bool
        Workers are threads of this process.
    """

    def __init__(self, runner: Any, rules: PackingRules, outlet: Journal, *, live: bool) -> None:
        super().__init__()
        self.runner = runner
        self.live = live
        self.outlet = outlet
        self.session: Session | None = None
        self.driver = Driver(rules, random.random)
        self.nesting = Nesting(self.driver, self._answer, self.hurry)
        self.changed = threading.Condition()
        self.broken: BaseException | None = None
        self.refused: DaskflowError | None = None  # why there is no session
        self.when_full: Callable[[Scope], object] = self.pending  # the shell waits instead
        self._dispatch: Dispatch | None = None
        self._desk = CacheDesk(self.driver, self.post)
        self.settling = 0  # threads that wait until a flow run is settled
        settings = get_settings().runner
        timeout_s = no_workers_timeout_s(runner, settings.no_workers_timeout_seconds)
        self._watch = ClusterWatch(self.driver, outlet, timeout_s)
        self._scheduler_timeout_s = settings.scheduler_timeout_seconds
        self._old_sessions: list[threading.Thread] = []  # that are being closed
        self.claims = self._desk.claims
        self.claims.send = self._send
        self.claims.tell = lambda parcel, line: outlet.logs(parcel, [line], "local", shown=False)
        self._open_rows_at = 0.0
        self._unrecorded: list[Run] = []  # since the last look at what is open for long
        self._young: list[Run] = []  # before that: open for `_OPEN_ROWS_S` at the next look
        self._dropping = Dropping(self.driver)

    def submit(self, run: Run) -> None:  # called by other threads
        """Take over a task run; returns at once unless very many are pending."""
        if (scope := run.stage.scope).open + len(self._submitted) >= PENDING_RUNS:
            self.when_full(scope)
        self._submitted.append(run)
        if not self._wake.is_set():
            self._wake.set()
        if self._thread is None:
            self.start()

    def stop(self, error: DaskflowError) -> None:  # called by other threads
        """End everything that is open with `error`, and whatever is submitted from now on."""
        self.post(self._stop, error)

    # -- the thread ----------------------------------------------------------------------------

    def _main(self) -> None:
        try:
            with patient_collector() as patience:
                while not self._closing:
                    self._turn()
                    patience.follow(sum([scope.open for scope in self.outlet.scopes()]))
                self._finish()
        except BaseException as error:  # whatever it is: nobody may wait for ever
            self.broken = error
            self._give_up(error)
        finally:
            with self.changed:
                self.changed.notify_all()
            self._close_session()

    def _give_up(self, error: BaseException) -> None:
        """This thread stops for a defect: every future still becomes final, and tells of it."""
        _logger.error("the driver of this flow run stopped: %r", error, exc_info=error)
        reason = ClusterError(f"the driver of this flow run stopped: {error!r}")
        reason.__cause__ = error
        dispatch, self._dispatch = self._dispatch, None  # nothing is sent any more
        try:
            self._take_submitted()
            self.driver.refuse(reason, time.time())
            self._carry_out()
        except Exception:  # the driver itself is broken: `broken` is all that can be told
            _logger.exception("its task runs could not be ended")
        finally:
            self._dispatch = dispatch

    def _open(self) -> None:
        from daskflow.runner.cluster.session import open_session  # loads Dask: when it is needed

        try:
            self._connect(open_session(self.runner))
        except DaskflowError as error:
            self._stop(error)

    def _connect(self, session: Session) -> None:
        from daskflow.runner.cluster.dispatch import Dispatch  # as above

        self.session = session
        self._dispatch = Dispatch(session, self._report_in, self._worker_in, self._asked_in)
        self.driver.slots = self._dispatch.slots()

    def _stop(self, error: DaskflowError) -> None:
        self.refused = error
        self.driver.refuse(error, time.time())
        self._take_submitted()
        self._carry_out()

    def _replace_session(self, old: Dispatch) -> None:
        """The scheduler is gone: wait for one at its place, or start another cluster if ours."""
        from daskflow.runner.replacing import close_in_background, connect_again  # loads Dask

        began = time.monotonic()
        self._watch.scheduler_lost(old, time.time())
        self._dispatch = self.session = None
        self._old_sessions.append(close_in_background(old))
        self._carry_out()
        failed = connect_again(self.runner, self._connect, self._scheduler_timeout_s, self._pause)
        if failed is not None:
            self._dispatch = self.session = None
            self._stop(failed)
        elif self._dispatch is not None:
            self._watch.scheduler_found(self._dispatch.address, time.monotonic() - began)

    def _pause(self, seconds: float) -> bool:
        """Wait before another try; False when this thread is to end."""
        time.sleep(seconds)  # what is submitted meanwhile is taken in the next turn
        return not self._closing

    def _send(self, parcels: Sequence[Parcel]) -> None:
        if (dispatch := self._dispatch) is None:
            return
        try:
            dispatch.send(self._watch.sendable(parcels, dispatch))
            while dispatch.fitness.warnings:
                self.outlet.tell(time.time(), logging.WARNING, dispatch.fitness.warnings.pop())
        except Exception as error:
            if dispatch.is_connected() and not isinstance(error, OSError):
                raise
            _logger.debug("nothing could be sent: %r", error)
            dispatch.link_broken = True  # the next turn looks for another scheduler
            self._wake.set()

    def _turn(self) -> None:
        now = time.monotonic()  # a clock that somebody sets back would have us wait for an hour
        due = self.driver.next_due()
        patience = None if due is None else max(0.0, due - now)
        if (look := self._watch.pause_s(now)) is not None:
            patience = look if patience is None else min(patience, look)
        elif self._unrecorded or self._young:
            patience = _OPEN_ROWS_S if patience is None else min(patience, _OPEN_ROWS_S)
        for look_at in (self.claims.next_look, self._dropping.due):
            if look_at is not None:
                wait_s = max(0.0, look_at - now)
                patience = wait_s if patience is None else min(patience, wait_s)
        if self._wake.wait(patience) and not self._urgent.is_set():
            self._urgent.wait(_LINGER_S)
        self._writing = True
        self._wake.clear()
        self._urgent.clear()
        self._take_submitted()
        self.driver.tick(time.monotonic())
        self._take_events()
        self._forget_nested()
        now = time.monotonic()
        self.driver.tick(now)
        dispatch = self._dispatch
        if dispatch is not None and not dispatch.is_connected():
            self._replace_session(dispatch)
        elif dispatch is not None and self._watch.is_due(now):
            self._watch.look(dispatch, now)
        if (drop_at := self._dropping.due) is not None and now >= drop_at:
            self._dropping.look(self._dispatch, now, time.time())
        if now >= self._open_rows_at:
            self._record_open(now)
        if lookups := self.driver.take_lookups():
            self._desk.look(lookups)
        self.claims.look(now)
        if self.session is None and self.refused is None:
            if self._wanted or self.driver.has_work():
                self._open()
        self.driver.pack(now)
        self._carry_out()

    def _take_events(self) -> None:
        while self._events:
            call, args = self._events.popleft()
            call(*args)

    def _take_submitted(self) -> None:
        submitted, driver = self._submitted, self.driver
        while submitted:
            run = submitted[0]  # popped when the driver has it, so that `settled` never misses it
            driver.submit(run)
            submitted.popleft()
            self._unrecorded.append(run)

    def _carry_out(self) -> None:
        send, final, transitions, done = self.driver.take()
        dispatch = self._dispatch
        if dispatch is not None:
            for parcel in done:
                dispatch.release(parcel.id)
            self.claims.came_back(done, transitions)
            if send and (go := self._desk.pass_on(send)):
                self._send(go)
        self.outlet.write(final, transitions)
        self._writing = False
        if final or self.driver.late or not send or self.settling:
            with self.changed:
                told = [run for run in final if run.callbacks is not None]
                callbacks = [(call, run) for run in told for call in run.callbacks or ()]
                for run in told:
                    run.callbacks = None
                self.changed.notify_all()
            for callback, run in callbacks:
                try:
                    callback(run)
                except Exception:
                    _logger.exception("a done callback raised; the flow goes on")
        if final:
            self._desk.ended(final)
            if self.driver.has_news():
                self._wake.set()
        self.nesting.answer()

    # -- what comes back -----------------------------------------------------------------------

    def _report_in(self, report: Report) -> None:
        self.post(self._report, report)

    def _report(self, report: Report) -> None:
        driver, dispatch = self.driver, self._dispatch
        if dispatch is None or (parcel := driver.parcels.get(report.parcel_id)) is None:
            driver.late += 1
            return
        if report.logs:
            self.outlet.logs(parcel, report.logs, report.worker, shown=self.live)
        dispatch.heard_of(parcel.id, report.worker, time.monotonic())
        for number, at in report.running:
            driver.started(parcel.id, number, at, report.worker)
            if (run := parcel.open.get(number)) is not None:
                self.outlet.running(run)
        if report.commits:
            self._desk.committed(parcel, report.commits)
        if report.told:
            self.claims.ended(parcel, (told[0] for told in report.told))
            driver.outcomes(parcel.id, dispatch.outcomes(report, parcel), report.worker, report.pid)
        if report.running:
            runs = [run for n, _ in report.running if (run := parcel.open.get(n)) is not None]
            self.claims.started(parcel, runs)
        for number, slot in report.gone:
            if (run := parcel.open.get(number)) is not None:
                driver.value_lost(run.deps[slot])
        if report.handed_back:
            self.claims.let_go([parcel.open[n] for n in report.handed_back if n in parcel.open])
            driver.handed_back(parcel.id, report.handed_back)
        if report.waits:
            self.claims.waits(parcel)
            driver.parcel_waits(parcel.id)
        if report.final:
            driver.parcel_done(parcel.id)

    def _asked_in(self, kind: str, blob: bytes) -> None:
        self.post(self.nesting.take, kind, blob)

    def _answer(self, worker: str, answers: list[Answer]) -> None:
        if self._dispatch is not None:
            self._dispatch.answer(worker, answers)

    def _forget_nested(self) -> None:
        """Runs that asked for others and are not in a parcel any more let go of them."""
        for parent in self.nesting.asked():
            if parent.parcel is None:
                self.nesting.parent_ended(parent)

    def _worker_in(self, news: WorkerNews) -> None:
        self.post(self._worker, news)

    def _worker(self, news: WorkerNews) -> None:
        if (dispatch := self._dispatch) is None:
            return
        self._watch.worker(news, time.time(), dispatch)
        self.driver.slots = dispatch.slots()

    # -- recording, cancelling, ending ---------------------------------------------------------

    def _record_open(self, now: float) -> None:
        self._open_rows_at = now + _OPEN_ROWS_S
        long_open = self._young
        self._young = [run for run in self._unrecorded if run.state not in FINAL]
        self._unrecorded = []
        self.outlet.open_runs([run for run in long_open if run.state not in FINAL])

    def _cancel(self, scope: Scope, grace_s: float | None) -> None:
        self._take_submitted()
        self.driver.cancel(scope, time.time())
        cancelled = [scope, *self.nesting.cancel(scope)]
        for each in cancelled:
            self._dropping.cancel(each, grace_s, time.monotonic())

    def _finish(self) -> None:
        """Closing: whatever is still open ends here, as cancelled."""
        self._take_submitted()
        if self._dispatch is not None:
            self._watch.tell_losses(self._dispatch, now_or_never=True)
            self._dropping.close(self._dispatch)
            self._take_events()  # workers that cannot be recycled have told so
        now = time.time()
        for scope in self.outlet.scopes():
            self.driver.cancel(scope, now)
        for parcel_id in list(self.driver.parcels):
            self.driver.drop_parcel(parcel_id, now)
        self._forget_nested()
        self._carry_out()

    def _close_session(self) -> None:
        with contextlib.ExitStack() as closing:
            for thread in self._old_sessions:
                closing.callback(thread.join, _OLD_SESSION_S)
            if self.session is not None:
                closing.callback(self.session.close)
            closing.callback(self._desk.close)
            if self._dispatch is not None:
                closing.callback(self._dispatch.close)
