"""Caching of task runs that execute in the flow's own process: direct calls and ``"sync"``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from daskflow.caching.plans import StoredRef
from daskflow.errors import DaskflowError, StoreError
from daskflow.runner.cache_notes import RunCache
from daskflow.runner.cluster.executor.cached import Bound, Looked, commit, finish, look
from daskflow.runner.cluster.protocol import BOUND_LIVE, Commit
from daskflow.runner.core.graph import Run

__all__ = ["Found", "look_inline", "store_inline"]


class Found:
    """A result that was in the store."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


def look_inline(run: Run, function: Callable[..., Any], values: Sequence[Any]) -> Looked | Found:
    """Look a run up whose inputs have these values."""
    cache = run.cache
    assert isinstance(cache, RunCache)
    deps = run.deps[: run.taken]
    bound = Bound(
        run.payload,
        [(BOUND_LIVE, value) for value in values],
        (),
        {},
        {},
    )
    ask = cache.ask(redo=False)
    if deps and ask.key is not None and ask.why is None:
        # inputs are the very objects that earlier runs returned, and may have been changed since
        ask = ask._replace(key=None)
    looked = look(cache.plan, ask, run.task_run_id, function, bound)
    entry = looked.entry
    if entry is None:
        return looked
    try:
        found = Found(StoredRef(cache.plan.store, entry).load())
    except StoreError:  # gone or damaged: it is made again, and replaces what is there
        return looked._replace(entry=None, ask=looked.ask._replace(replace=True))
    cache.told(Commit(run.number, True, entry.key, entry.content_digest, entry.duration_s, None))
    return found


def store_inline(looked: Looked, run: Run, value: Any, started_at: float, run_s: float) -> None:
    """Store what a run returned.

    Raises
    ------
    StoreError
        When it has to persist and cannot.
    """
    cache = run.cache
    assert isinstance(cache, RunCache)
    made = finish(looked, run.task_run_id, value, run_s, started_at)
    (entry,) = commit([made])
    why, digest = made.why, made.digest
    if isinstance(entry, DaskflowError):
        if looked.plan.required:
            raise entry
        why = f"{type(entry).__name__}: {entry}"
    cache.told(Commit(run.number, False, made.key, digest, None, why))
