"""Where hooks are called: one thread per flow run, started by the first of them.

So neither the driver nor the flow function ever waits for a hook.  Flow runs that a worker executes
share the thread of the flow run around them, each with its own context.
"""

from __future__ import annotations

import contextvars
import logging
import queue
import threading
from collections.abc import Callable
from typing import Any, Protocol

from daskflow.runner.context import FLOW_LOGGER
from daskflow.runner.hooks import Hooks, call_hooks
from daskflow.runner.state import State

__all__ = ["HookCalls", "HookThread", "InContext"]

_logger = logging.getLogger(FLOW_LOGGER)


class HookCalls(Protocol):
    """Who has hooks called."""

    def tell(self, hooks: Hooks, subject: Any, run: Any, state: State, /) -> None: ...
    def put(self, call: Callable[..., object], /, *args: Any) -> None: ...
    def enter(self) -> None: ...
    def close(self) -> None: ...


class HookThread:
    """Calls what it is given in one thread, in order; the thread starts with the first call."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[tuple[Callable[..., object], tuple[Any, ...]] | None]
        self._calls = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._context = contextvars.copy_context()

    def tell(self, hooks: Hooks, subject: Any, run: Any, state: State) -> None:
        """Have hooks called, soon; see `call_hooks`."""
        self.put(call_hooks, hooks, subject, run, state)

    def enter(self) -> None:
        """What is current in the calling thread from now on is so for what is called, too."""
        self._context = contextvars.copy_context()

    def put(self, call: Callable[..., object], *args: Any) -> None:
        """Have `call` made, soon; what comes after the end is dropped."""
        if self._closed:
            _logger.debug("the flow run has ended: a hook of what it left behind is not called")
            return
        self._calls.put((call, args))
        if self._thread is None:
            name = "daskflow-hooks"
            self._thread = threading.Thread(target=self._main, name=name, daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Wait until everything was called, and end the thread."""
        self._closed = True
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._calls.put(None)
        while thread.is_alive():  # join with a bound: an interrupt must get through
            thread.join(0.5)

    def _main(self) -> None:
        while (item := self._calls.get()) is not None:
            call, args = item
            try:
                self._context.run(call, *args)
            except BaseException:
                _logger.exception("a hook ended badly; the flow goes on")


class InContext:
    """Has calls made in another one's thread, with what is current here."""

    def __init__(self, calls: HookCalls) -> None:
        self._calls = calls
        self._context = contextvars.copy_context()

    def enter(self) -> None:
        """What is current in the calling thread from now on is so for what is called, too."""
        self._context = contextvars.copy_context()

    def tell(self, hooks: Hooks, subject: Any, run: Any, state: State) -> None:
        """Have hooks called, soon."""
        self.put(call_hooks, hooks, subject, run, state)

    def put(self, call: Callable[..., object], *args: Any) -> None:
        """Have `call` made, soon."""
        self._calls.put(self._context.run, call, *args)

    def close(self) -> None:
        """The thread is the other one's."""
