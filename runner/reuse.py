"""Task runs of an earlier attempt of their flow run, found again in the next one.

Those that succeeded are reused, and those that crashed for the workers that they cost stay crashed.

A run is known by its task's name, the content of its arguments, the runs whose futures are among
them, and its place among equals; never by the order of calls and never by code.  Equal contents
that pickle differently count as different: then the task just runs again.  Results stay where they
are, and what a plain task in this process returned is the same object again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from daskflow.runner.arguments import Encoded, Literal
from daskflow.runner.cluster.executor.values import dumps
from daskflow.runner.core.graph import Run
from daskflow.runner.core.states import CRASHED, SUCCESSFUL

if TYPE_CHECKING:
    from daskflow.runner.resuming import Resumption

__all__ = ["Reuse", "being_resumed", "resuming"]

# of the next flow run that no other one calls
being_resumed: ContextVar[Resumption | None] = ContextVar("daskflow_resumption", default=None)


@contextmanager
def resuming(resumption: Resumption) -> Iterator[None]:
    """The flow run that starts inside is not a new one, but goes on with what `resumption` says."""
    token = being_resumed.set(resumption)
    try:
        yield
    finally:
        being_resumed.reset(token)


class Reuse:
    """What a flow run with `retries` remembers of its task runs."""

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, int], Any] = {}
        self._places: dict[bytes, int] = {}

    def again(self) -> None:
        """A further attempt begins: it counts its equals from the start."""
        self._places.clear()

    def key(self, how: str, task_name: str, encoded: Encoded) -> tuple[bytes, int] | None:
        """What a run is known by; None when its arguments have no content to compare.

        Parameters
        ----------
        how : str
            A call is never taken for a submission.
        task_name : str
        encoded : Encoded
        """
        payload = encoded.payload
        try:
            blob = payload if isinstance(payload, bytes) else dumps(payload)
        except Exception:  # what stays in this process need not pickle
            return None
        digest = hashlib.blake2b(digest_size=16)
        deps = [_identity(dep) for dep in encoded.deps]
        allowed = sorted(encoded.allowed or ())
        for part in (repr((how, task_name, deps, allowed, encoded.taken)).encode(), blob):
            digest.update(len(part).to_bytes(8, "big") + part)
        found = digest.digest()
        place = self._places.get(found, 0)
        self._places[found] = place + 1
        return found, place

    def earlier(self, key: tuple[bytes, int] | None) -> Any:
        """What was remembered of this run, if it succeeded or is quarantined; else None."""
        held = None if key is None else self._known.get(key)
        run = getattr(held, "_run", held)
        if run is None or not (run.state in SUCCESSFUL or _is_quarantined(run)):
            return None
        return held

    def remember(self, key: tuple[bytes, int] | None, held: Any) -> None:
        """Hold a future, or the run of a call, and with it the result."""
        if key is not None:
            self._known[key] = held


def _is_quarantined(run: Run) -> bool:
    """Whether a run has cost all the workers that it may: it is not let loose on others again."""
    return run.state == CRASHED and run.crashes > run.stage.policy.crash_retries


def _identity(dep: Run) -> str:
    value = dep.value
    if isinstance(value, Literal):
        return hashlib.blake2b(value.blob, digest_size=16).hexdigest()
    return dep.task_run_id
