"""Task runs that a task submits from its worker process: asked for here, run by the driver.

One flow run has one driver, in its flow process.  A submission on a worker is a message to it on
the topic that reports use too; the outcome comes back by `Client.run`, which needs no slot.  Before
a task blocks on such a future, its parcel makes way: the unstarted rest goes back and the slot is
free for the very run that it waits for.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import logging
import pickle
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import cloudpickle

from daskflow.errors import StoreError
from daskflow.runner.arguments import Encoded, Literals, encode
from daskflow.runner.cluster.answers import Answer, await_answer, changed, wait_until
from daskflow.runner.cluster.executor.errors import KeyLost, load_error
from daskflow.runner.cluster.protocol import BOUND_INPUT, BOUND_PICKLED, BOUND_STORED
from daskflow.runner.context import FlowInfo, TaskRunContext
from daskflow.runner.core.states import FINAL, PENDING
from daskflow.runner.futures import TaskFuture
from daskflow.runner.tagging import current_tags

if TYPE_CHECKING:
    from daskflow.runner.cluster.executor.active import ActiveParcel
    from daskflow.runner.tasks import Task

__all__ = ["Ask", "NestedHost", "NestedRun", "on_wire", "seen_here"]


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
    tags: frozenset[str] = frozenset()  # of ``with tags(...)``, besides those of the flow run
    flow: str | None = None  # a flow run that the parent has called, which this belongs to
    pace: tuple[str, int] | None = None  # of a map with `max_in_flight`, and how many


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

    def __init__(self, label: str, host: NestedHost) -> None:
        self.token = self.task_run_id = ""  # until it is asked for
        self.label = label
        self.host = host
        self.state = PENDING
        self.message: str | None = None
        self.error: BaseException | None = None
        self.value: tuple[int, Any] | None = None
        self.result_bytes: int | None = None
        self.cause: NestedRun | None = None
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

    def take(self, answer: Answer) -> list[Callable[[], object]]:
        """The driver tells how this run has ended, or where its value is now."""
        self.label, self.task_run_id = answer.label, answer.task_run_id
        self.message, self.value = answer.message, answer.value
        if answer.error is not None:
            self.error = load_error(answer.error, answer.task_run_id)
        if answer.cause is not None:
            self.cause = _known.get(answer.cause)
        if answer.value is not None and answer.value[0] in (BOUND_INPUT, BOUND_STORED):
            self.result_bytes = 1  # fetching it blocks
        self.state = answer.state  # last: whoever sees a final state finds the rest in place
        callbacks, self.callbacks = self.callbacks, []
        return callbacks


_logger = logging.getLogger(__name__)
_WHOLE = Literals(shares=False)
_tasks: weakref.WeakKeyDictionary[Task[Any, Any], tuple[str, bytes]] = weakref.WeakKeyDictionary()
_sent: set[tuple[str, str]] = set()
_sending = threading.RLock()  # what brings a task leaves before what relies on it
_known: weakref.WeakValueDictionary[str, NestedRun] = weakref.WeakValueDictionary()
_paces = itertools.count()


class NestedHost:
    """Submits on behalf of one task run, and owns the futures that it gets.

    Parameters
    ----------
    context : TaskRunContext
        Of the task run that submits.
    parcel : ActiveParcel
        That it is executed in.
    flow : FlowInfo, optional
        Of a flow run that the task run has called, on whose behalf to submit.
    """

    def __init__(
        self, context: TaskRunContext, parcel: ActiveParcel, flow: FlowInfo | None = None
    ) -> None:
        around = flow or context.flow
        self._context = context
        self._parcel = parcel
        self._flow_run_id = flow.id if flow else None
        self._tags = frozenset(around.tags if around else ())

    def submit(
        self,
        task: Task[Any, Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        wait_for: Sequence[Any],
        pace: tuple[str, int] | None = None,
    ) -> TaskFuture[Any]:
        """Ask the driver for a run of `task`."""
        return self.submit_encoded(task, *self.encoded(task, args, kwargs, wait_for), pace)

    def encoded(
        self,
        task: Task[Any, Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        wait_for: Sequence[Any],
    ) -> tuple[Encoded, str | None]:
        """Arguments as they travel to the driver, and the name that they give the run."""
        task.check_arguments(args, kwargs)
        name = task.run_name(args, kwargs) if task.names_runs else None
        return encode(args, kwargs, wait_for, _WHOLE, task.name), name

    def submit_encoded(
        self, task: Task[Any, Any], encoded: Encoded, name: str | None, pace: Any
    ) -> TaskFuture[Any]:
        """Ask the driver for a run of `task` with these arguments."""
        channel = self._parcel.channel
        run = NestedRun(task.name, self)
        run.token = run.task_run_id = await_answer(channel, run)
        _known[run.token] = run
        with on_wire(self._parcel, task) as (digest, blob):
            channel.ask(
                "submit",
                Ask(
                    self._parcel.order.parcel_id,
                    self._context.number,
                    channel.worker,
                    run.token,
                    digest,
                    blob,
                    encoded.payload,
                    _tokens(encoded),
                    encoded.allowed,
                    encoded.taken,
                    name,
                    self.own_tags(),
                    self._flow_run_id,
                    pace,
                ),
            )
        future: TaskFuture[Any] = TaskFuture(run, self)  # type: ignore[arg-type]
        return future

    def own_tags(self) -> frozenset[str]:
        """Tags that hold here and not in the whole flow run."""
        return current_tags.get() - self._tags

    def pace(self, limit: int) -> tuple[str, int]:
        """What the runs of a map with `max_in_flight` have in common."""
        return f"{self._parcel.channel.worker}/{next(_paces)}", limit

    def announcer(self, _: Callable[[Any], object]) -> None:
        """Nothing that a submission takes along: `watch` it afterwards."""

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
        return self._wait(lambda: all(run.state in FINAL for run in runs), timeout)

    def value_of(self, run: Any, timeout: float | None) -> Any:
        """The result of a run that has succeeded; made again first if its worker was lost."""
        due = None if timeout is None else time.monotonic() + timeout
        while run.error is None:
            left = None if due is None else max(0.0, due - time.monotonic())
            if (held := run.value) is not None:
                tag, value = held
                if tag not in (BOUND_INPUT, BOUND_STORED):
                    return pickle.loads(value) if tag == BOUND_PICKLED else value
                try:
                    return value.load() if tag == BOUND_STORED else self._fetch(value, left)
                except (KeyLost, StoreError) as lost:
                    _logger.debug("a result of %s is gone: %s", run.label, lost)
                self._make_again(run, held)
            if not self._wait(lambda: run.value is not None or run.error is not None, left):
                raise TimeoutError(f"the result of {run.label} is not there after {timeout} s")
        raise run.error

    def _wait(self, condition: Callable[[], bool], timeout: float | None) -> bool:
        self._parcel.make_way()
        started = time.monotonic()
        try:
            return wait_until(condition, timeout)
        finally:
            self._parcel.waited_s += time.monotonic() - started

    def _fetch(self, key: str, timeout: float | None) -> Any:
        try:
            return self._parcel.channel.fetch(key, timeout)
        except TimeoutError:
            raise
        except Exception as error:  # CancelledError, KeyError: the version of Dask decides
            raise KeyLost(key) from error

    def _make_again(self, run: NestedRun, lost: tuple[int, Any]) -> None:
        """Have the driver execute a run once more, unless another thread has asked for it."""
        with changed:
            asks = run.value is lost
            if asks:
                run.value = None
        if asks:
            channel = self._parcel.channel
            await_answer(channel, run, run.token)
            channel.ask("lost", (run.token, channel.worker))

    def watch(self, run: Any, callback: Callable[[Any], object]) -> None:
        """Call `callback` with `run` once it is final; at once if it is."""
        with changed:
            if run.state not in FINAL:
                run.callbacks.append(functools.partial(callback, run))
                return
        callback(run)

    def let_go(self, run: Any) -> None:
        """The driver lets the run go when the asking task ends."""


def _tokens(encoded: Encoded) -> tuple[str, ...]:
    return tuple(run.token for run in encoded.deps)  # type: ignore[attr-defined]


def seen_here(token: str) -> NestedRun | None:
    """A run that this process asked for, if somebody still holds it."""
    return _known.get(token)


@contextlib.contextmanager
def on_wire(parcel: ActiveParcel, task: Task[Any, Any]) -> Iterator[tuple[str, bytes | None]]:
    """Digest and bytes of a task for a question asked inside; None when they were sent before."""
    digest, blob = _pickled(task)
    key = parcel.order.topic, digest
    with _sending:
        yield digest, None if key in _sent else blob
        _sent.add(key)


def _pickled(task: Task[Any, Any]) -> tuple[str, bytes]:
    found = _tasks.get(task)
    if found is None:
        blob = cloudpickle.dumps(task, 5)
        found = _tasks[task] = (hashlib.sha256(blob).hexdigest()[:32], blob)
    return found
