"""Exceptions on their way from a worker to the flow process.

The exception travels as the user wrote it, if it survives a pickle round trip here on the worker;
otherwise a `TaskFailed` travels that carries its type, text and traceback.  The traceback's text
travels along and becomes the exception's cause, as `concurrent.futures` does it.
"""

from __future__ import annotations

import pickle
import traceback

from daskflow.errors import TaskFailed
from daskflow.runner.cluster.executor.values import dumps

__all__ = ["RemoteTraceback", "load_error", "pickle_error"]


class RemoteTraceback(Exception):
    """The traceback of an exception as it was on its worker; shown as the cause."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


def _trimmed(error: BaseException) -> str:
    """The traceback from the user's function on, without the executor's own frames."""
    frame = error.__traceback__
    while frame is not None and "/cluster/executor/" in frame.tb_frame.f_code.co_filename:
        frame = frame.tb_next
    return "".join(traceback.format_exception(type(error), error, frame or error.__traceback__))


def pickle_error(error: BaseException, task_run_id: str) -> bytes:
    """Bytes that `load_error` turns back into `error`, or into the nearest that can travel."""
    try:
        text = _trimmed(error)
    except Exception as broken:  # a __str__ that raises must not take the worker down
        text = f"{type(error).__name__} (its traceback could not be printed: {broken!r})\n"
    try:
        blob = dumps(error)
        survived = type(pickle.loads(blob)) is type(error)
    except BaseException:  # user code: __reduce__ and __init__ may raise anything
        survived = False
    if not survived:
        try:
            message = f"{type(error).__module__}.{type(error).__qualname__}: {error}"
        except Exception:
            message = f"{type(error).__module__}.{type(error).__qualname__}"
        blob = dumps(TaskFailed(task_run_id, message))
    return pickle.dumps((blob, text), 5)


def load_error(blob: bytes, task_run_id: str) -> BaseException:
    """The exception inside `blob`, with its remote traceback as the cause."""
    inner, text = pickle.loads(blob)
    try:
        error = pickle.loads(inner)
    except BaseException as broken:  # its module is not here, or differs from the worker's
        last = text.strip().rpartition("\n")[2]
        error = TaskFailed(task_run_id, f"{last} (could not be loaded here: {broken!r})")
    assert isinstance(error, BaseException)
    error.__cause__ = RemoteTraceback(text)
    return error
