"""Task bodies with a hard timeout: each in a process of its own, which is killed when time is over.

A thread cannot be stopped, and a blocking C call cannot be interrupted; a process can be killed.
The child gets everything through a pipe and ends when that closes, so it never outlives its worker.
It leads a session: what the body has started is killed with it.

Pickled messages come back, each after its length: ``started``, log lines, and one end.
"""

from __future__ import annotations

import logging
import os
import pickle
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import IO, Any

import cloudpickle

from daskflow.errors import TaskFailed
from daskflow.runner.cluster.executor.capture import install_capture
from daskflow.runner.cluster.executor.errors import load_error, pickle_error
from daskflow.runner.cluster.executor.functions import function_of
from daskflow.runner.cluster.protocol import Code
from daskflow.runner.context import LogLine, TaskRunContext, current_task_run

__all__ = ["OutOfTime", "call_in_child"]

_LENGTH = struct.Struct("<Q")
_STARTING_S = 60.0  # Python and the user's imports; no part of the body's own time
_CHUNK = 1 << 20


class OutOfTime(Exception):
    """The body took longer than it may; its process is gone."""


# -- on the worker ---------------------------------------------------------------------------------


def call_in_child(
    code: Code,
    function: Any,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    context: TaskRunContext,
    limit_s: float,
) -> Any:
    """Return what a function returns in a process of its own.

    Parameters
    ----------
    code : Code
        Of the task; brings the function where it was sent along.
    function : callable
    args, kwargs
        Of the call.
    context : TaskRunContext
    limit_s : float
        Counts from when the body starts.

    Raises
    ------
    OutOfTime
    SystemExit
        When the child ended without telling how the body ended.
    BaseException
        What the body raised.
    """
    live = code.blob is None  # the function is in this process only, which is the flow's
    if live:
        digest = f"child-{code.digest}-{context.id}"
        code = code._replace(digest=digest, blob=cloudpickle.dumps(function))
    about = context.flow, context.task, context.number, context.index, context.attempt
    code = code._replace(function=None, cache=None)
    order = cloudpickle.dumps((sys.path, code, args, dict(kwargs), (*about, context.label)))
    process = subprocess.Popen(
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        start_new_session=True,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with suppress(BrokenPipeError):  # it has died already: the end of its output tells
                process.stdin.write(_LENGTH.pack(len(order)) + order)
                process.stdin.flush()
            hand_on = _log_here if live else context.sink
            return _listen(process.stdout, hand_on, context.id, limit_s)
        except EOFError:
            raise SystemExit(_how_it_ended(process)) from None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            with suppress(BrokenPipeError):
                process.stdin.close()


def _log_here(line: LogLine) -> None:
    """Log a line again where the terminal shows what is logged, and the record has it too."""
    if line.logger == "print":
        print(line.message)  # noqa: T201  (as the body did)
    else:
        logging.getLogger(line.logger).log(line.level, "%s", line.message)


def _listen(
    pipe: IO[bytes], hand_on: Callable[[LogLine], object], run_id: str, limit_s: float
) -> Any:
    due = [time.monotonic() + _STARTING_S]
    for what, content in _messages(pipe, due):
        if what == "started":
            due[0] = time.monotonic() + limit_s
        elif what == "line":
            hand_on(content)
        elif what == "value":
            return pickle.loads(content)
        else:
            raise load_error(content, run_id)
    raise EOFError


def _messages(pipe: IO[bytes], due: list[float]) -> Iterator[tuple[str, Any]]:
    """Messages from a child until its output ends; `OutOfTime` once `due` is over."""
    held = bytearray()
    while True:
        while len(held) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(held)
            end = _LENGTH.size + length
            if len(held) < end:
                break
            message = pickle.loads(bytes(held[_LENGTH.size : end]))
            del held[:end]
            yield message
        left = due[0] - time.monotonic()
        if left <= 0 or not select.select([pipe], [], [], left)[0]:
            raise OutOfTime
        chunk = os.read(pipe.fileno(), _CHUNK)
        if not chunk:
            return
        held += chunk


def _how_it_ended(process: subprocess.Popen[bytes]) -> str:
    code = process.wait()
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    return f"the child process of its hard timeout {how}"


# -- in the child ----------------------------------------------------------------------------------


def _end_with(pipe: IO[bytes]) -> None:
    """End this process when its worker closes the pipe, or is gone."""
    pipe.read()
    os._exit(1)


def main() -> None:
    """Execute one body."""
    home = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what the body prints to the file descriptor is no message
    orders, telling = sys.stdin.buffer, threading.Lock()
    (length,) = _LENGTH.unpack(orders.read(_LENGTH.size))
    data = orders.read(length)
    threading.Thread(target=_end_with, args=(orders,), daemon=True).start()

    def tell(what: str, content: Any) -> None:
        blob = pickle.dumps((what, content), 5)
        with telling:
            view = memoryview(_LENGTH.pack(len(blob)) + blob)
            while view:
                view = view[home.write(view) :]

    run_id = ""
    try:
        path, code, args, kwargs, about = pickle.loads(data)
        sys.path[:] = path
        flow, task, number, index, attempt, label = about
        sink = lambda line: tell("line", line)  # noqa: E731
        context = TaskRunContext(flow, task, number, index, attempt, sink, label)
        run_id = context.id
        install_capture(flow.log_level)
        function = function_of(code)
        current_task_run.set(context)
        tell("started", None)
        value = function(*args, **kwargs)
        tell("value", _pickled(value, context))
    except BaseException as error:
        tell("error", pickle_error(error, run_id))
    os._exit(0)  # threads that the body left behind end with it


def _pickled(value: Any, context: TaskRunContext) -> bytes:
    try:
        blob: bytes = cloudpickle.dumps(value)
    except Exception as error:
        what = f"the result of {context.name} (a {type(value).__qualname__})"
        text = f"{what} cannot be pickled, so it cannot leave its process: {error!r}"
        raise TaskFailed(context.id, text) from error
    return blob


if __name__ == "__main__":
    main()
