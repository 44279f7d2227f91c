"""Exceptions on their way from a worker to the flow process.

The exception travels as the user wrote it, if it survives a pickle round trip here on the worker
and is of a reasonable size; otherwise a `TaskFailed` travels that carries its type, text and
traceback.  The traceback's text travels along and becomes the exception's cause, as
`concurrent.futures` does it.  Nothing in here raises, whatever user code does when it is pickled,
printed or loaded.
"""

from __future__ import annotations

import contextlib
import pickle
import traceback

from daskflow.errors import TaskFailed
from daskflow.runner.cluster.executor.values import dumps

__all__ = ["RemoteTraceback", "annotate", "load_error", "pickle_error"]

_LARGEST = 1_048_576  # bytes of a pickled exception; a larger one holds data and stays behind
_LONGEST = 100_000  # characters of a traceback or message


class RemoteTraceback(Exception):
    """The traceback of an exception as it was on its worker; shown as the cause."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


def annotate(error: BaseException, note: str) -> None:
    """Add a note to an exception, unless its class does not take one."""
    with contextlib.suppress(Exception):
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)


def _trimmed(error: BaseException) -> str:
    """The traceback from the user's function on, without the executor's own frames."""
    frame = error.__traceback__
    while frame is not None and "/cluster/executor/" in frame.tb_frame.f_code.co_filename:
        frame = frame.tb_next
    return "".join(traceback.format_exception(type(error), error, frame or error.__traceback__))


def _clipped(text: str) -> str:
    left_out = len(text) - _LONGEST
    if left_out <= 0:
        return text
    half = _LONGEST // 2
    return f"{text[:half]}\n[… {left_out} characters left out …]\n{text[-half:]}"


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as broken:
        return f"<its text could not be made: {type(broken).__name__}>"


def pickle_error(error: BaseException, task_run_id: str) -> bytes:
    """Bytes that `load_error` turns back into `error`, or into the nearest that can travel."""
    name = f"{type(error).__module__}.{type(error).__qualname__}"
    try:
        text = _trimmed(error)
    except BaseException as broken:  # a __str__ that raises must not take the worker down
        text = f"{name} (its traceback could not be printed: {type(broken).__name__})\n"
    try:
        blob = dumps(error)
        survived = len(blob) <= _LARGEST and type(pickle.loads(blob)) is type(error)
    except BaseException:  # user code: __reduce__ and __init__ may raise anything
        survived = False
    if not survived:
        blob = dumps(TaskFailed(task_run_id, _clipped(f"{name}: {_text(error)}")))
    return pickle.dumps((blob, _clipped(text)), 5)


def load_error(blob: bytes, task_run_id: str) -> BaseException:
    """The exception inside `blob`, with its remote traceback as the cause."""
    inner, text = pickle.loads(blob)
    last = text.strip().rpartition("\n")[2]
    error: object
    try:
        error = pickle.loads(inner)
    except BaseException as broken:  # its module is not here, or differs from the worker's
        cause = f"{type(broken).__name__}: {_text(broken)}"
        error = TaskFailed(task_run_id, f"{last} (could not be loaded here: {cause})")
    if not isinstance(error, BaseException):  # its class is something else here
        error = TaskFailed(task_run_id, f"{last} (loaded here as a {type(error).__qualname__})")
    error.__cause__ = RemoteTraceback(text)
    return error
