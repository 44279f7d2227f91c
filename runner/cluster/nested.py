"""Task runs that a task submits from its worker process: asked for here, run by the driver.

One flow run has one driver, in its flow process.  A submission on a worker is a message to it on
the topic that reports use too; the outcome comes back by `Client.run`, which needs no slot.  Before
a task blocks on such a future, its parcel makes way: the unstarted rest goes back and the slot is
free for the very run that it waits for.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import pickle
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import cloudpickle

from daskflow.errors import StoreError
from daskflow.runner.arguments import Encoded, Literals, encode
from daskflow.runner.cluster.executor.errors import KeyLost, load_error
from daskflow.runner.cluster.protocol import BOUND_INPUT, BOUND_PICKLED, BOUND_STORED
from daskflow.runner.context import TaskRunContext
from daskflow.runner.core.states import FINAL, PENDING, SUCCESSFUL
from daskflow.runner.futures import TaskFuture
from daskflow.runner.tagging import current_tags

if TYPE_CHECKING:
    from daskflow.runner.cluster.executor.active import ActiveParcel
    from daskflow.runner.tasks import Task

__all__ = ["Answer", "Ask", "NestedHost", "NestedRun", "deliver", "deliver_bytes"]


class Ask(NamedTuple):
    """A submission from a worker, on its way to the driver."""

    parcel_id: int
    parent: int  # number of the task run that submits
    worker: str
    token: str  # what the worker calls the new run
    digest: str
    task: bytes | None  # the pickled task; None when this worker has sent it before
    payload: Any
    deps: tuple[str, ...]  # tokens of the runs whose futures are arguments
    allowed: frozenset[int] | None
    taken: int
    name: str | None
    tags: frozenset[str] = frozenset()  # of ``with tags(...)`` around the submission


class Answer(NamedTuple):
    """How a run ended that was asked for, on its way to the worker."""

    token: str
    label: str
    task_run_id: str
    state: str
    message: str | None
    error: bytes | None
    value: tuple[int, Any] | None


class NestedRun:
    """What a worker knows of a run that it asked for."""

    __slots__ = (
        "__weakref__",
        "callbacks",
        "cause",
        "error",
        "held",
        "host",
        "label",
        "message",
        "result_bytes",
        "seen",
        "state",
        "task_run_id",
        "token",
        "value",
    )

    def __init__(self, token: str, label: str, host: NestedHost) -> None:
        self.token = token
        self.label = label
        self.host = host
        self.task_run_id = token
        self.state = PENDING
        self.message: str | None = None
        self.error: BaseException | None = None
        self.value: tuple[int, Any] | None = None
        self.result_bytes: int | None = None
        self.cause: None = None
        self.held = False  # nothing to let go here: the driver does when the asking run ends
        self.seen = False
        self.callbacks: list[Callable[[], object]] = []

    @property
    def looked_at(self) -> bool:
        """Whether the asking task has noticed how the run ended."""
        return self.seen

    @looked_at.setter
    def looked_at(self, seen: bool) -> None:
        if seen and not self.seen:
            self.seen = True
            self.host.tell_seen(self)


_logger = logging.getLogger(__name__)
_WHOLE = Literals(shares=False)
_changed = threading.Condition()
_awaited: dict[str, NestedRun] = {}
_numbers = itertools.count()
_tasks: weakref.WeakKeyDictionary[Task[Any, Any], tuple[str, bytes]] = weakref.WeakKeyDictionary()
_sent: set[tuple[str, str]] = set()


def deliver_bytes(blob: bytes) -> None:
    """Take pickled outcomes; see `deliver`."""
    deliver(pickle.loads(blob))


def deliver(answers: Sequence[Answer]) -> None:
    """Take the outcomes of runs that this process asked for; runs in the worker's event loop."""
    callbacks: list[Callable[[], object]] = []
    with _changed:
        for answer in answers:
            run = _awaited.pop(answer.token, None)
            if run is None:
                continue  # the asking task was cancelled with its process: nobody waits
            run.label, run.task_run_id = answer.label, answer.task_run_id
            run.message, run.value = answer.message, answer.value
            if answer.error is not None:
                run.error = load_error(answer.error, answer.task_run_id)
            if answer.value is not None and answer.value[0] in (BOUND_INPUT, BOUND_STORED):
                run.result_bytes = 1  # fetching it blocks
            run.state = answer.state  # last: whoever sees a final state finds the rest in place
            callbacks += run.callbacks
        _changed.notify_all()
    for callback in callbacks:
        callback()


class NestedHost:
    """Submits on behalf of one task run, and owns the futures that it gets.

    Parameters
    ----------
    context : TaskRunContext
        Of the task run that submits.
    parcel : ActiveParcel
        That it is executed in.
    """

    def __init__(self, context: TaskRunContext, parcel: ActiveParcel) -> None:
        self._context = context
        self._parcel = parcel

    def submit(
        self,
        task: Task[Any, Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        wait_for: Sequence[Any],
    ) -> TaskFuture[Any]:
        """Ask the driver for a run of `task`."""
        task.check_arguments(args, kwargs)
        encoded = encode(args, kwargs, wait_for, _WHOLE, task.name)
        channel, number = self._parcel.channel, self._context.number
        digest, blob = _pickled(task)
        topic = self._parcel.order.topic
        known = (topic, digest) in _sent
        _sent.add((topic, digest))
        run = NestedRun(f"{channel.worker}/{next(_numbers)}", task.name, self)
        with _changed:
            _awaited[run.token] = run
        name = task.run_name(args, kwargs) if task.names_runs else None
        channel.ask(
            "submit",
            Ask(
                self._parcel.order.parcel_id,
                number,
                channel.worker,
                run.token,
                digest,
                None if known else blob,
                encoded.payload,
                _tokens(encoded),
                encoded.allowed,
                encoded.taken,
                name,
                current_tags.get(),
            ),
        )
        future: TaskFuture[Any] = TaskFuture(run, self)  # type: ignore[arg-type]
        return future

    def constant(self, task: Task[Any, Any], value: Any) -> Any:
        """An argument that every run of a map gets; it travels with each."""
        return value

    def tell_seen(self, run: NestedRun) -> None:
        """The asking task knows how `run` ended; it fails the flow no more."""
        self._parcel.channel.ask("seen", (run.token,))

    # -- what a future asks of its owner -------------------------------------------------------

    def wait_for(self, runs: Sequence[Any], timeout: float | None) -> bool:
        """Make way, then block until all `runs` are final."""
        if all(run.state in FINAL for run in runs):
            return True
        self._parcel.make_way()
        started = time.monotonic()
        deadline = None if timeout is None else started + timeout
        try:
            with _changed:
                for run in runs:
                    while run.state not in FINAL:
                        left = None if deadline is None else deadline - time.monotonic()
                        if left is not None and left <= 0:
                            return False
                        _changed.wait(left)
            return True
        finally:
            self._parcel.waited_s += time.monotonic() - started

    def value_of(self, run: Any, timeout: float | None) -> Any:
        """The result of a run that has succeeded; made again first if its worker was lost."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while run.error is None:
            assert run.state in SUCCESSFUL
            tag, value = run.value
            if tag not in (BOUND_INPUT, BOUND_STORED):
                return pickle.loads(value) if tag == BOUND_PICKLED else value
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                return value.load() if tag == BOUND_STORED else self._fetch(value, left)
            except KeyLost as lost:
                _logger.debug("a result of %s is gone: %s", run.label, lost)
            except StoreError as gone:
                _logger.debug("a result of %s is gone: %s", run.label, gone)
            if not self._make_again(run, left):
                raise TimeoutError(f"the result of {run.label} is not there after {timeout} s")
        raise run.error

    def _fetch(self, key: str, timeout: float | None) -> Any:
        try:
            return self._parcel.channel.fetch(key, timeout)
        except TimeoutError:
            raise
        except Exception as error:  # CancelledError, KeyError: the version of Dask decides
            raise KeyLost(key) from error

    def _make_again(self, run: NestedRun, timeout: float | None) -> bool:
        """Have the driver execute a run once more whose result was lost; False when not in time."""
        with _changed:
            run.state, run.value = PENDING, None
            _awaited[run.token] = run
        self._parcel.channel.ask("lost", (run.token, self._parcel.channel.worker))
        return self.wait_for((run,), timeout)

    def watch(self, run: Any, callback: Callable[[], object]) -> None:
        """Call `callback` once `run` is final; at once if it is."""
        with _changed:
            if run.state not in FINAL:
                run.callbacks.append(callback)
                return
        callback()

    def let_go(self, run: Any) -> None:
        """The driver lets the run go when the asking task ends."""


def _tokens(encoded: Encoded) -> tuple[str, ...]:
    return tuple(run.token for run in encoded.deps)  # type: ignore[attr-defined]


def _pickled(task: Task[Any, Any]) -> tuple[str, bytes]:
    found = _tasks.get(task)
    if found is None:
        blob = cloudpickle.dumps(task, 5)
        found = _tasks[task] = (hashlib.sha256(blob).hexdigest()[:32], blob)
    return found
