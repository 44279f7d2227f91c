"""Task runs that workers ask for: the driver's side, in the driver's thread.

A worker names the runs that it asks for by tokens.  The runs belong to the flow run of the task
that asks, and live as long as that task is executed: then they are let go, and those that are not
final when it is lost or done are cancelled.
"""

from __future__ import annotations

import logging
import pickle
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

from daskflow.runner.cluster.executor.errors import error_bytes
from daskflow.runner.cluster.nested import Answer, Ask
from daskflow.runner.cluster.protocol import BOUND_INPUT, BOUND_STORED
from daskflow.runner.core.driver import Driver
from daskflow.runner.core.graph import Remote, Run
from daskflow.runner.core.states import CANCELLED, FINAL, SUCCESSFUL
from daskflow.runner.stored import StoredValue

if TYPE_CHECKING:
    from daskflow.runner.tasks import Task

__all__ = ["Nesting", "NestingHost"]

_logger = logging.getLogger(__name__)


class NestingHost(Protocol):
    """The flow run's side: makes runs of tasks that came from a worker."""

    def nested_run(self, task: Task[Any, Any], parent: Run, ask: Ask, deps: tuple[Run, ...]) -> Run:
        """A run of `task`, not submitted yet."""


class Nesting:
    """Answers what the tasks of one session ask for.

    Parameters
    ----------
    driver : Driver
    deliver : callable
        Sends answers to a worker, without waiting: ``deliver(worker, answers)``.
    """

    def __init__(self, driver: Driver, deliver: Callable[[str, list[Answer]], None]) -> None:
        self.hosts: dict[str, NestingHost] = {}
        self._driver = driver
        self._deliver = deliver
        self._tasks: dict[str, Task[Any, Any]] = {}
        self._runs: dict[str, Run] = {}
        self._tokens: dict[Run, list[str]] = {}  # by the run that asked
        self._answers: dict[str, list[Answer]] = {}
        self._remaking: list[tuple[str, str, Run]] = []  # lost results that a worker waits for

    def take(self, kind: str, blob: bytes) -> None:
        """What a worker asks."""
        if kind == "submit":
            self._submit(Ask(*pickle.loads(blob)))
        elif kind == "seen":
            (token,) = pickle.loads(blob)
            if (run := self._runs.get(token)) is not None:
                run.looked_at = True
                if run.cause is not None:
                    run.cause.looked_at = True
        elif kind == "lost":
            token, worker = pickle.loads(blob)
            self._lost(token, worker)
        else:
            _logger.error("a worker asked for %r, which this driver does not know", kind)

    def _submit(self, ask: Ask) -> None:
        if ask.task is not None:
            self._tasks[ask.digest] = pickle.loads(ask.task)
        parcel = self._driver.parcels.get(ask.parcel_id)
        parent = parcel.open.get(ask.parent) if parcel is not None else None
        deps = [self._runs.get(token) for token in ask.deps]
        if parent is None or None in deps:  # the task that asks was given up on meanwhile
            late = Answer(ask.token, "", ask.token, CANCELLED, "asked too late", None, None)
            self._answers.setdefault(ask.worker, []).append(late)
            return
        host = self.hosts[parent.stage.scope.flow_run_id]
        known = tuple(dep for dep in deps if dep is not None)
        run = host.nested_run(self._tasks[ask.digest], parent, ask, known)
        self._runs[ask.token] = run
        self._tokens.setdefault(parent, []).append(ask.token)
        run.callbacks = [lambda: self._ended(ask.token, ask.worker, run)]
        self._driver.submit(run)

    def _lost(self, token: str, worker: str) -> None:
        """A worker found the result of a run gone that it asked for: it is made again."""
        run = self._runs.get(token)
        if run is None:
            late = Answer(token, "", token, CANCELLED, "asked too late", None, None)
            self._answers.setdefault(worker, []).append(late)
            return
        self._driver.value_lost(run)
        self._driver.value_needed(run)
        self._remaking.append((token, worker, run))

    def _ended(self, token: str, worker: str, run: Run) -> None:
        value = run.value
        if isinstance(value, Remote):
            remote: Any = value
            stored = isinstance(value, StoredValue)
            value = (BOUND_STORED, remote.ref) if stored else (BOUND_INPUT, remote.future.key)
        error = run.error
        good = run.state in SUCCESSFUL and error is None
        answer = Answer(
            token,
            run.label,
            run.task_run_id,
            run.state,
            run.message,
            None if error is None else _pickled_error(run),
            value if good else None,
        )
        self._answers.setdefault(worker, []).append(answer)

    def parent_ended(self, parent: Run) -> None:
        """The run that asked is not executed any more: what it asked for is nobody's."""
        now = time.time()
        for token in self._tokens.pop(parent, ()):
            run = self._runs.pop(token)
            if run.state not in FINAL:
                self._driver.cancel_run(run, now)
            self._driver.let_go(run)

    def asked(self) -> list[Run]:
        """Runs that have asked for others and were not seen to end."""
        return list(self._tokens)

    def answer(self) -> None:
        """Send what has become known since the last call."""
        if self._remaking:
            remaking, self._remaking = self._remaking, []
            for token, worker, run in remaking:
                if run.kept or run.error is not None:
                    self._ended(token, worker, run)
                else:
                    self._remaking.append((token, worker, run))
        if self._answers:
            answers, self._answers = self._answers, {}
            for worker, batch in answers.items():
                self._deliver(worker, batch)


def _pickled_error(run: Run) -> bytes:
    assert run.error is not None
    text = getattr(run.error.__cause__, "text", "") or f"{run.label}: {run.message}\n"
    return pickle.dumps((error_bytes(run.error, run.task_run_id), text), 5)


class Deliverer:
    """Sends answers to workers from a thread of its own: `Client.run` waits for the worker."""

    def __init__(self, run: Callable[[str, list[Answer]], None]) -> None:
        self._run = run
        self._pool: ThreadPoolExecutor | None = None

    def __call__(self, worker: str, answers: list[Answer]) -> None:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="daskflow-answers")
        self._pool.submit(self._send, worker, answers)

    def _send(self, worker: str, answers: list[Answer]) -> None:
        try:
            self._run(worker, answers)
        except Exception as error:  # the worker is gone: so is the task that asked
            _logger.debug("answers for %s were not delivered: %r", worker, error)

    def close(self) -> None:
        """Send nothing more."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
