"""The event loop on which this process runs async task runs, in a thread of its own."""

from __future__ import annotations

import asyncio
import threading

__all__ = ["event_loop"]

_loop: asyncio.AbstractEventLoop | None = None
_lock = threading.Lock()


def event_loop() -> asyncio.AbstractEventLoop:
    """Return the loop, started at the first call."""
    global _loop
    with _lock:
        if _loop is None or _loop.is_closed():
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="daskflow-async", daemon=True).start()
        return _loop
