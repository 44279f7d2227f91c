"""What a worker process waits for: runs and replies that it asked the driver for, by token.

A question goes to the driver on the topic that reports use; the answer comes back by `Client.run`,
which needs no slot, in the event loop of the Dask worker.  It may come when nobody waits any more.
"""

from __future__ import annotations

import itertools
import pickle
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from daskflow.runner.cluster.executor.errors import load_error
from daskflow.runner.deadlines import flow_deadline

if TYPE_CHECKING:
    from daskflow.runner.cluster.executor.channel import Channel

__all__ = [
    "Answer",
    "Reply",
    "ask_driver",
    "await_answer",
    "changed",
    "deliver",
    "deliver_bytes",
    "wait_until",
]


class Answer(NamedTuple):
    """How a run ended that was asked for, or a reply, on its way to the worker."""

    token: str
    label: str
    task_run_id: str
    state: str
    message: str | None
    error: bytes | None
    value: Any  # of a run: binding tag and value
    cause: str | None = None  # token of the run whose failure spread to this one


class _Waits(Protocol):
    def take(self, answer: Answer, /) -> list[Callable[[], object]]: ...


changed = threading.Condition()
_awaited: dict[str, _Waits] = {}
_numbers = itertools.count()


def await_answer(channel: Channel, waits: _Waits, token: str | None = None) -> str:
    """Have `waits` take the answer that comes for `token`, by default for a new one; returns it."""
    token = token or f"{channel.worker}/{next(_numbers)}"
    with changed:
        _awaited[token] = waits
    return token


def deliver_bytes(blob: bytes) -> None:
    """Take pickled answers; see `deliver`."""
    deliver(pickle.loads(blob))


def deliver(answers: Sequence[Answer]) -> None:
    """Take answers to what this process asked for; runs in the worker's event loop."""
    callbacks: list[Callable[[], object]] = []
    with changed:
        for answer in answers:
            if (waits := _awaited.pop(answer.token, None)) is not None:
                callbacks += waits.take(answer)
        changed.notify_all()
    for callback in callbacks:
        callback()


class Reply:
    """The answer to a question that is no submission."""

    def __init__(self) -> None:
        self.answer: Answer | None = None

    def take(self, answer: Answer) -> list[Callable[[], object]]:
        """The answer is there; for `deliver`."""
        self.answer = answer
        return []

    def value(self, timeout: float | None = None) -> Any:
        """Wait for the reply; None when `timeout` seconds were not enough.

        Raises
        ------
        BaseException
            What the driver answered instead of a reply.
        """
        if not wait_until(lambda: self.answer is not None, timeout):
            return None
        assert self.answer is not None
        if self.answer.error is not None:
            raise load_error(self.answer.error, self.answer.task_run_id)
        return self.answer.value


def ask_driver(channel: Channel, kind: str, *asked: Any) -> Reply:
    """Ask the driver a question; the reply comes later."""
    reply = Reply()
    token = await_answer(channel, reply)
    channel.ask(kind, (token, channel.worker, *asked))
    return reply


def wait_until(condition: Callable[[], bool], timeout: float | None) -> bool:
    """Wait for answers until `condition` holds; False when `timeout` seconds were not enough.

    Raises
    ------
    RanOut
        When the time of the flow run is over in which this is called.
    """
    due = None if timeout is None else time.monotonic() + timeout
    limit = flow_deadline()
    with changed:
        while not condition():
            left = None if due is None else due - time.monotonic()
            if left is not None and left <= 0:
                return False
            if limit is not None:
                left = limit.left() if left is None else min(left, limit.left())
            changed.wait(left)
    return True
