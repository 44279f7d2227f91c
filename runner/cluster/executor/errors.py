"""Exceptions on their way from a worker to the flow process.

The exception travels as the user wrote it, if it survives a pickle round trip here on the worker
and is of a reasonable size; otherwise a `TaskFailed` travels that carries its type, text and
traceback.  The traceback's text travels along and becomes the exception's cause, as
`concurrent.futures` does it.  Nothing in here raises, whatever user code does when it is pickled,
printed or loaded.

Exceptions are reduced here and not by pickle's registry: importing distributed fills that with
reducers of tblib for the classes that exist by then, which drag every cause along and cannot load a
BaseExceptionGroup; later classes get plain pickling, which cannot load one whose `__init__` wants
other arguments than `args`.
"""

from __future__ import annotations

import contextlib
import io
import pickle
import traceback
from typing import Any

import cloudpickle

from daskflow.errors import TaskFailed

__all__ = ["KeyLost", "RemoteTraceback", "annotate", "error_bytes", "load_error", "pickle_error"]

_LARGEST = 1_048_576  # bytes of a pickled exception; a larger one holds data and stays behind
_LONGEST = 100_000  # characters of a traceback or message


class KeyLost(Exception):
    """A value that lived on the cluster, or in a result store, is gone."""


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


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """By value what only this process has, and exceptions in a way of their own."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, BaseException):
            base = _builtin_base(type(obj))
            if type(obj).__reduce__ is base.__reduce__:  # the class has no wish of its own
                return _rebuilt, (type(obj), obj.__reduce__()[1], obj.__dict__ or None)
        return super().reducer_override(obj)


def _builtin_base(kind: type[BaseException]) -> type[BaseException]:
    return next(base for base in kind.__mro__ if base.__module__ == "builtins")


def _rebuilt(
    kind: type[BaseException], args: tuple[Any, ...], state: dict[str, Any] | None
) -> BaseException:
    """An exception as it was, without its own `__init__`: `args` are what that one made of it."""
    error = kind.__new__(kind, *args)
    _builtin_base(kind).__init__(error, *args)
    if state:
        error.__dict__.update(state)
    return error


def _dumps(error: BaseException) -> bytes:
    file = io.BytesIO()
    _Pickler(file, 5).dump(error)
    return file.getvalue()


def _name(error: BaseException) -> str:
    return f"{type(error).__module__}.{type(error).__qualname__}"


def error_bytes(error: BaseException, task_run_id: str) -> bytes:
    """A pickle of `error`, or of a `TaskFailed` in its place when it does not survive one."""
    with contextlib.suppress(BaseException):  # user code may raise anything when it is pickled
        blob = _dumps(error)
        if len(blob) <= _LARGEST and type(pickle.loads(blob)) is type(error):
            return blob
    return _dumps(TaskFailed(task_run_id, _clipped(f"{_name(error)}: {_text(error)}")))


def pickle_error(error: BaseException, task_run_id: str) -> bytes:
    """Bytes that `load_error` turns back into `error`, or into the nearest that can travel."""
    try:
        text = _trimmed(error)
    except BaseException as broken:  # a __str__ that raises must not take the worker down
        text = f"{_name(error)} (its traceback could not be printed: {type(broken).__name__})\n"
    return pickle.dumps((error_bytes(error, task_run_id), _clipped(text)), 5)


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
