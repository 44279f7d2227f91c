"""Worker processes that start from nothing but `sys.path`: no ``__main__``, no terminal.

`multiprocessing` runs the parent's main module again in every process that it spawns, which is
why Dask scripts need an ``if __name__ == "__main__"`` guard.  A worker needs none of it: what
tasks use of ``__main__`` travels by value.  So `BareProcess` leaves the main module out of
the data that prepares the child, as joblib's loky does, and out of those of no other process:
the user's own spawned processes keep theirs, also when they start at the same moment.

The child is born with SIGINT blocked and leaves the terminal's session before it unblocks it:
a Ctrl-C ends workers when the flow process says so, never before.
"""

from __future__ import annotations

import multiprocessing.spawn
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.context import SpawnProcess
from typing import Any

__all__ = ["BareProcess"]

_preparing = threading.local()  # `.worker` is set in a thread that spawns one of our workers
_spawn_lock = threading.Lock()  # one spawn at a time: the environment belongs to the process


class BareProcess(SpawnProcess):
    """A spawned process that does not import the parent's main module and ignores Ctrl-C.

    Attributes
    ----------
    spawn_environment : dict of str to str
        Set in the child's environment from birth; the parent's is as before afterwards.
    """

    spawn_environment: dict[str, str]

    @classmethod
    def take_over(cls, process: Any, environment: dict[str, str]) -> None:
        """Make a `SpawnProcess` that has not started yet one of this class."""
        process.__class__ = cls
        process.spawn_environment = environment

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        with _spawn_lock, _environment(process_obj.spawn_environment), _sigint_blocked():
            with _main_left_out():
                return SpawnProcess._Popen(process_obj)

    def run(self) -> None:
        """Leave the terminal, then do what the process was made for (in the child)."""
        _leave_the_terminal()
        super().run()


@contextmanager
def _main_left_out() -> Iterator[None]:
    prepare = multiprocessing.spawn.get_preparation_data

    def without_main(name: str) -> dict[str, Any]:
        data = prepare(name)
        if getattr(_preparing, "worker", False):
            data.pop("init_main_from_name", None)
            data.pop("init_main_from_path", None)
        return data

    multiprocessing.spawn.get_preparation_data = without_main
    _preparing.worker = True
    try:
        yield
    finally:
        _preparing.worker = False
        # Somebody who wrapped it meanwhile keeps their wrapper around ours, which is harmless.
        if multiprocessing.spawn.get_preparation_data is without_main:
            multiprocessing.spawn.get_preparation_data = prepare


@contextmanager
def _environment(extra: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in extra}
    os.environ.update(extra)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _sigint_blocked() -> Iterator[None]:
    """Block SIGINT in this thread, so that a child is born with it blocked."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _leave_the_terminal() -> None:
    # A session of its own rather than a process group: a background *group* would be stopped
    # when a task reads from the terminal.  Children of tasks go along, so a Ctrl-C does not
    # kill what a draining task waits for.
    if hasattr(os, "setsid"):
        with suppress(OSError):
            os.setsid()
    # A Python handler, not SIG_IGN: what a task starts by exec gets the default back.
    signal.signal(signal.SIGINT, _ignore)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _ignore(signum: int, frame: object) -> None:
    pass
