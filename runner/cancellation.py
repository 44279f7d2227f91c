"""A flow run that is cancelled from another process: what that means in the process that runs it.

The lease's thread brings the wish.  Everything that is queued is dropped at once, whatever the flow
function does.  The function itself is ended as Ctrl-C would: in the main thread by a signal, which
also ends a blocking call; async code by cancelling its asyncio task; in any other thread at its
next wait or submission.  Workers import this module, so it needs no store, no engine and no Dask.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from types import FrameType
from typing import Any, Protocol, TypeVar

from daskflow.runner.context import FLOW_LOGGER
from daskflow.runner.core.leases import CancelRequest
from daskflow.runner.deadlines import Deadline

__all__ = ["CancelAsked", "Cancellation", "Member"]

R = TypeVar("R")

_logger = logging.getLogger(FLOW_LOGGER)
# Ignored where nobody handles it, so one that comes late does no harm; nobody uses it for anything.
_SIGNAL = getattr(signal, "SIGURG", None)


class CancelAsked(BaseException):
    """Signal of the engine: somebody outside wants the flow run to end.

    A BaseException, so that no ``except Exception`` of a flow eats it.
    """


class Member(Protocol):
    """A flow run that is cancelled; the engine's object fits."""

    def cancel_now(self, message: str, deadline: Deadline) -> None:
        """Start nothing more; raise what `deadline` raises at the next wait or submission."""


class _Asked(Deadline):
    """A deadline that has passed, for a flow function that is to end."""

    __slots__ = ("message",)

    def __init__(self, message: str) -> None:
        super().__init__(0.0, None)
        self.message = message

    def left(self) -> float:
        raise CancelAsked(self.message)


class Cancellation:
    """Shared by a flow run and by the subflows inside of it.

    Parameters
    ----------
    grace_s : float
        How long running task runs may go on, if the wish says nothing else.

    Attributes
    ----------
    message : str or None
        Who wants the flow run to end; None for nobody.
    """

    def __init__(self, grace_s: float) -> None:
        self.message: str | None = None
        self._grace_s = grace_s
        self._due = 0.0  # monotonic: when the grace is over
        self._members: dict[int, Member] = {}
        self._lock = threading.Lock()
        self._came = threading.Event()
        self._interrupt: Callable[[], object] | None = None  # ends the function of the outermost

    # -- the flow runs -------------------------------------------------------------------------

    def join(self, member: Member) -> None:
        """A flow run has started."""
        with self._lock:
            self._members[id(member)] = member

    def leave(self, member: Member) -> None:
        """A flow run is about to end: it is not cancelled, or interrupted, any more."""
        with self._lock:
            self._members.pop(id(member), None)

    def check(self) -> None:
        """Raise `CancelAsked` if nothing more is to start."""
        if self.message is not None:
            raise CancelAsked(self.message)

    def left_s(self) -> float:
        """Seconds of grace that are left to running task runs."""
        return max(0.0, self._due - time.monotonic())

    def sleep(self, seconds: float) -> None:
        """Let time pass, unless nothing more is to start: then raise `CancelAsked`."""
        self._came.wait(seconds)
        self.check()

    # -- the wish ------------------------------------------------------------------------------

    def ask(self, request: CancelRequest) -> None:
        """Somebody wants the flow run to end; called by the lease's thread, again for each wish."""
        grace_s = self._grace_s if request.grace_s is None else request.grace_s
        message = f"cancelled by {request.asked_by}"
        with self._lock:
            self._due = time.monotonic() + grace_s
            self.message = message
            self._came.set()
            members = list(self._members.values())
            interrupt = self._interrupt
        _logger.warning("Flow run %s; running task runs have %g s to end", message, grace_s)
        for member in members:
            member.cancel_now(message, _Asked(message))
        if interrupt is not None:
            with contextlib.suppress(RuntimeError):  # its event loop has been closed meanwhile
                interrupt()

    # -- the function of the outermost flow run ------------------------------------------------

    @contextlib.contextmanager
    def interrupting(self) -> Iterator[None]:
        """While active, a wish interrupts this thread, once, if it is the main one."""
        main = threading.current_thread() is threading.main_thread()
        free = _SIGNAL is not None and main and signal.getsignal(_SIGNAL) is signal.SIG_DFL
        if _SIGNAL is None or not free:
            yield
            return
        thread = threading.get_ident()
        armed = True

        def ring(signum: int, frame: FrameType | None) -> None:
            nonlocal armed
            if armed and self._members and self.message is not None:
                armed = False
                raise CancelAsked(self.message)

        signal.signal(_SIGNAL, ring)
        self._set_interrupt(lambda: signal.pthread_kill(thread, _SIGNAL))
        try:
            yield
        finally:
            armed = False
            self._set_interrupt(None)
            signal.signal(_SIGNAL, signal.SIG_DFL)

    async def awaited(self, call: Callable[[], Awaitable[R]], *, outermost: bool) -> R:
        """Await the body of an async flow run; `CancelAsked` when a wish has ended it."""
        import asyncio  # heavy for scripts without async code

        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        cancelled = False

        def cancel() -> None:
            nonlocal cancelled
            if not cancelled and not task.done():
                cancelled = True
                task.cancel()

        if outermost:
            self._set_interrupt(lambda: loop.call_soon_threadsafe(cancel))
        try:
            self.check()
            return await call()
        except asyncio.CancelledError as error:
            if self.message is None:
                raise
            raise CancelAsked(self.message) from error
        finally:
            if outermost:
                self._set_interrupt(None)
                if cancelled:
                    task.uncancel()
                cancelled = True  # one that comes late finds nothing to do

    def _set_interrupt(self, interrupt: Callable[[], Any] | None) -> None:
        with self._lock:
            self._interrupt = interrupt
