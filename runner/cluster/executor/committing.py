"""Tell the outcomes of cached runs, after what they made is stored.

Invariant: a result that persists is in its store before its outcome is told.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import Any, NamedTuple

from daskflow.caching.plans import CachePlan, StoreAddress, StoredRef, open_store
from daskflow.errors import DaskflowError
from daskflow.runner.cluster.executor.active import ActiveParcel
from daskflow.runner.cluster.executor.attempt import Kept, tell_error, tell_result
from daskflow.runner.cluster.executor.cached import (
    Bound,
    Cached,
    KeyAsk,
    Looked,
    Made,
    commit,
    finish,
    found_by,
    look,
    run_cached,
)
from daskflow.runner.cluster.executor.values import Slot, encode_result
from daskflow.runner.cluster.protocol import (
    BOUND_INPUT,
    BOUND_STORED,
    ENDED_WELL,
    Commit,
)
from daskflow.runner.context import TaskRunContext

__all__ = ["Committing"]

_UNKNOWN = KeyAsk()
_STORED = BOUND_STORED, None, None
_FIXED = frozenset({bool, int, float, complex, str, bytes, type(None), Slot})
_MOST = 512  # results that wait to be stored together
_WAIT_S = 0.05  # and for how long the first of them


class _Waiting(NamedTuple):
    """An outcome that is told once its result is stored."""

    context: TaskRunContext
    started_at: float
    run_s: float
    cpu_s: float | None
    made: Made
    ridden: tuple[int, Any, int | None]  # how the result travels with its outcome


class Committing:
    """The cached runs of one parcel.

    Parameters
    ----------
    parcel : ActiveParcel
    functions : sequence
        The tasks' functions, by place, without a clock around them.
    """

    def __init__(self, parcel: ActiveParcel, functions: Any) -> None:
        self.digests: dict[int, tuple[str, str]] = {}  # by number, with the algorithm
        self._looked_anew: set[tuple[StoreAddress, str]] = set()
        self._parcel = parcel
        self._functions = functions
        self._waiting: deque[_Waiting] = parcel.unstored
        parcel.committing = self._commit

    def bound(self, payload: Any, bindings: Any, inputs: Any, local: Kept) -> Bound:
        """The arguments of a run."""
        return Bound(payload, bindings, inputs, local, self.digests)

    def ask(self, number: int) -> KeyAsk:
        """What the driver knows of a run's key."""
        found: KeyAsk = self._parcel.order.asks.get(number, _UNKNOWN)
        return found

    def _ask(self, number: int, bound: Bound) -> KeyAsk:
        ask = self.ask(number)
        looked_up = ask.key is not None and ask.why is None
        if looked_up and self._parcel.channel.live and not _unchangeable(bound.payload):
            # the flow has the very same objects, and may have changed them since it made the key
            return ask._replace(key=None, fresh=ask.replace)  # it may be one that is there
        return ask

    def _look_anew(self, plan: CachePlan, ask: KeyAsk) -> None:
        """Once for a parcel of lost runs: this process may have looked before they were stored."""
        place = plan.store, plan.flow_run_id
        if ask.again and place not in self._looked_anew:
            self._looked_anew.add(place)
            with suppress(DaskflowError):  # told when it is looked up
                open_store(*place).forget()

    def look(self, place: int, context: TaskRunContext, bound: Bound) -> Looked:
        """Look an async run up; its body is awaited by the caller, who calls `finish` then."""
        plan = self._parcel.order.codes[place].cache
        assert plan is not None
        ask = self._ask(context.number, bound)
        self._look_anew(plan, ask)
        return look(plan, ask, context.id, self._functions[place], bound)

    found_by = staticmethod(found_by)
    finish = staticmethod(finish)

    def run(self, place: int, context: TaskRunContext, call: Any, bound: Bound) -> Cached | Made:
        """Look a plain run up, and execute it on a miss."""
        plan = self._parcel.order.codes[place].cache
        assert plan is not None
        function, ask = self._functions[place], self._ask(context.number, bound)
        self._look_anew(plan, ask)
        return run_cached(plan, ask, context.id, function, call, bound, self._parcel.now)

    def tell(
        self,
        context: TaskRunContext,
        started_at: float,
        run_s: float,
        cpu_s: float | None,
        result: Cached | Made,
        kept: Kept | None,
    ) -> None:
        """Note that a run ended well; `kept` gets the result when a later run takes it."""
        number, parcel = context.number, self._parcel
        if isinstance(result, Cached):
            entry = result.ref.entry
            self.digests[number] = entry.content_digest, result.ref.store.hash_algorithm
            if kept is not None:
                kept[number] = BOUND_STORED, result.ref
            parcel.commits.append(
                Commit(number, True, result.key, entry.content_digest, entry.duration_s, None)
            )
            size = entry.size_bytes
            told = (number, ENDED_WELL, started_at, run_s, cpu_s, None, BOUND_STORED)
            parcel.told.append((*told, result.ref, size))
            return
        waiting = _Waiting(context, started_at, run_s, cpu_s, result, _STORED)
        if result.prepared is None:
            self._tell_made(waiting, kept)
            return
        # whoever takes it gets what is stored, or a copy made now: the object itself may change
        # before it is taken, and keys of what takes it are made of what was returned
        entry = result.prepared[0]
        ridden = _copied(result.value) if entry.payload is not None else _STORED
        if ridden[0] != BOUND_STORED:
            waiting = waiting._replace(ridden=ridden)
        if kept is not None:
            self.digests[number] = entry.content_digest, result.store.algorithm
            ref = StoredRef(result.store.store, entry)
            kept[number] = (BOUND_STORED, ref) if ridden[0] == BOUND_STORED else ridden[:2]
        with parcel.telling:
            self._waiting.append(waiting)
            first_at = self._waiting[0].started_at + self._waiting[0].run_s
            if len(self._waiting) >= _MOST or parcel.now() - first_at > _WAIT_S:
                self._commit()

    def _commit(self) -> None:
        """Store what waits, and tell of it; for those who hold `telling`."""
        waiting = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if not waiting:
            return
        entries = commit([each.made for each in waiting])
        for each, entry in zip(waiting, entries, strict=True):
            if isinstance(entry, DaskflowError):
                if each.made.store.required:
                    self._tell_error(each, entry)
                else:
                    why = f"{type(entry).__name__}: {entry}"
                    self._tell_made(each._replace(made=each.made._replace(why=why)), None)
            else:
                self._tell_stored(each, entry)

    def _tell_stored(self, each: _Waiting, entry: Any) -> None:
        context, made, parcel = each.context, each.made, self._parcel
        commit = Commit(context.number, False, made.key, entry.content_digest, None, made.why)
        parcel.commits.append(commit)
        ref = StoredRef(made.store.store, entry)
        # the winner of a race may have stored another result: then that one counts
        tag, value, size = each.ridden
        if tag == BOUND_STORED or entry.content_digest != made.digest:
            tag, value, size = BOUND_STORED, ref, entry.size_bytes
        elif size is not None:
            parcel.untold_bytes += size
        times = each.started_at, each.run_s, each.cpu_s
        parcel.told.append((context.number, ENDED_WELL, *times, None, tag, value, size))

    def _tell_made(self, each: _Waiting, kept: Kept | None) -> None:
        context, made = each.context, each.made
        number = context.number
        # without a digest: who takes it hashes what it gets
        self._parcel.commits.append(Commit(number, False, made.key, None, None, made.why))
        tell_result(
            self._parcel, context, each.started_at, each.run_s, each.cpu_s, made.value, kept
        )

    def _tell_error(self, each: _Waiting, error: DaskflowError) -> None:
        tell_error(self._parcel, each.context, each.started_at, each.run_s, each.cpu_s, error)


def _copied(value: Any) -> tuple[int, Any, int | None]:
    """A small result as bytes that ride with its outcome; another one is taken from its store."""
    try:
        ridden = encode_result(value, live=False)
    except Exception:  # the store's codecs hold what pickle does not
        return _STORED
    return _STORED if ridden[0] == BOUND_INPUT else ridden


def _unchangeable(payload: Any) -> bool:
    """Whether arguments are such that nobody can change them."""
    if type(payload) is bytes:
        return True
    args, kwargs = payload
    return all(type(value) in _FIXED for value in (*args, *kwargs.values()))
