"""A time limit for calls of drivers that have none and cannot be interrupted."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

__all__ = ["abandoned_after"]


def abandoned_after(within_s: float, call: Callable[[], Any]) -> Any:
    """Return what `call` does; past the time limit its thread is left behind, and dies with us.

    Raises
    ------
    TimeoutError
        When it has not come back within `within_s` (seconds).
    """
    ended: list[tuple[Any, BaseException | None]] = []

    def work() -> None:
        try:
            ended.append((call(), None))
        except BaseException as error:  # told where it is waited for
            ended.append((None, error))

    thread = threading.Thread(target=work, name="daskflow-storage", daemon=True)
    thread.start()
    thread.join(within_s)
    if not ended:
        raise TimeoutError(f"no answer within {within_s:.0f} s")
    value, error = ended[0]
    if error is not None:
        raise error
    return value
