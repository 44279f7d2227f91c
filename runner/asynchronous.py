"""What plain code asks about asyncio, without importing it.

asyncio, with sockets and TLS behind it, is a third of the start of a flow of direct calls.  Nobody
can run a loop or raise its errors before somebody has imported it.
"""

from __future__ import annotations

import sys

__all__ = ["cancellation", "loop_runs_here"]


def loop_runs_here() -> bool:
    """Whether an event loop runs in this thread."""
    if (asyncio := sys.modules.get("asyncio.events")) is None:
        return False
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def cancellation() -> tuple[type[BaseException], ...]:
    """Return the error of a cancelled coroutine, for ``except`` and `isinstance`."""
    asyncio = sys.modules.get("asyncio.exceptions")
    return () if asyncio is None else (asyncio.CancelledError,)
