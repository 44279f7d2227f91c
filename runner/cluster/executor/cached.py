"""Runs of tasks that cache: look the key up, execute on a miss, commit before the outcome is told.

A hit is told by reference: its value is loaded by whoever takes it.  What was made is encoded at
once, so later changes of the object do not reach the store; many small results are published
together, when the parcel reports.  The cache never fails a run: where it cannot answer, the run is
executed and says why it was not cached; only `persist_result=True` insists.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, NamedTuple

from daskflow.caching.hashing import content_digest
from daskflow.caching.keys import CacheKey, input_parts, run_identity, run_key
from daskflow.caching.plans import (
    NOT_ASKED,
    CachePlan,
    DigestRef,
    StoredRef,
    cannot_cache,
    inputs_of,
    key_of,
    open_store,
)
from daskflow.errors import DaskflowError, PickleRefused, StoreError, Uncacheable
from daskflow.runner.cluster.executor.values import MissingInput, bind, decode_arguments
from daskflow.runner.cluster.protocol import BOUND_LOCAL, BOUND_NOTHING, BOUND_STORED
from daskflow.runner.context import TASK_LOGGER

if TYPE_CHECKING:
    from daskflow.caching.index import Entry

__all__ = [
    "Bound",
    "Cached",
    "KeyAsk",
    "Looked",
    "Made",
    "commit",
    "finish",
    "found_by",
    "look",
    "run_cached",
]

_logger = logging.getLogger(TASK_LOGGER)
_warned: set[tuple[str, str, str]] = set()


class KeyAsk(NamedTuple):
    """What the driver knows of one run's key.

    Attributes
    ----------
    key : CacheKey or None
        None: its inputs have to be hashed where they are.
    fresh : bool
        Look nothing up: what was found before is gone, or the driver has looked already.
    replace : bool
        Put the result in the place of the one that is there.
    why : str or None
        Why the run cannot be cached.
    earlier : mapping of str to sequence of str
        Of a flow run that was resumed: keys of what it has committed, by `run_identity`.
    turn : int
        Place of the run among those that may be its equals.
    again : bool
        It was sent before and lost: its result may have been stored and not told.
    """

    key: CacheKey | None = None
    fresh: bool = False
    replace: bool = False
    why: str | None = None
    earlier: Mapping[str, Sequence[str]] | None = None
    turn: int = 0
    again: bool = False


class Looked(NamedTuple):
    """What looking a run up came to: an entry, or what to know for storing its result."""

    plan: CachePlan
    ask: KeyAsk
    key: CacheKey | None
    entry: Entry | None
    why: str | None
    parts: Mapping[str, str] | None = None  # of a result without a cache key that persists


class Cached(NamedTuple):
    """A result that was found."""

    key: str
    ref: StoredRef


class Made(NamedTuple):
    """A result that was made, and what came of storing it."""

    value: Any
    key: str | None
    digest: str | None
    prepared: tuple[Entry, bool] | None  # to be published
    store: CachePlan
    why: str | None


class Bound(NamedTuple):
    """The arguments of a run as its parcel has them."""

    payload: Any
    bindings: Sequence[tuple[int, Any]]
    inputs: Sequence[Any]
    local: dict[int, tuple[int, Any]]
    digests: dict[int, tuple[str, str]]  # of results of this parcel, with the algorithm

    def call(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments themselves."""
        values = bind(self.bindings, self.inputs, self.local) if self.bindings else ()
        return decode_arguments(self.payload, values)

    def call_by_digests(self, algorithm: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments with digests for what came from futures; loads no stored result.

        But one from a store with another hash, whose digest says nothing here.
        """
        refs = [self._digest(slot, algorithm) for slot in range(len(self.bindings))]
        return decode_arguments(self.payload, refs)

    def _digest(self, slot: int, algorithm: str) -> Any:
        tag, value = self.bindings[slot]
        if tag == BOUND_NOTHING:
            return None
        if tag == BOUND_LOCAL:
            if value not in self.local:
                raise MissingInput
            known = self.digests.get(value)
            if known is not None and known[1] == algorithm:
                return DigestRef(known[0])
            tag, value = self.local[value]
        if tag == BOUND_STORED and value.store.hash_algorithm == algorithm:
            return DigestRef(value.entry.content_digest)
        before = ((BOUND_NOTHING, None),) * slot  # one that is gone is told by its slot
        found = bind((*before, (tag, value)), self.inputs, self.local)[slot]
        name = f"the result of input {slot}"
        return DigestRef(content_digest(found, algorithm=algorithm, name=name))


def run_cached(
    plan: CachePlan,
    ask: KeyAsk,
    run_id: str,
    function: Callable[..., Any],
    call: Callable[..., Any],
    bound: Bound,
    clock: Callable[[], float],
) -> Cached | Made:
    """Look a run up, and execute it on a miss.

    Parameters
    ----------
    plan : CachePlan
    ask : KeyAsk
    run_id : str
    function : callable
        The task's function, for its signature.
    call : callable
        What to call, under a clock maybe.
    bound : Bound
    clock : callable
        Seconds, for how long the body took.
    """
    looked = look(plan, ask, run_id, function, bound)
    if (found := found_by(looked)) is not None:
        return found
    args, kwargs = bound.call()
    began = clock()
    result = copy_context().run(call, *args, **kwargs)
    return finish(looked, run_id, result, clock() - began, began)


def look(
    plan: CachePlan, ask: KeyAsk, run_id: str, function: Callable[..., Any], bound: Bound
) -> Looked:
    """Find out the key of a run, and whether there is a result under it."""
    looked = _look(plan, ask, function, bound)
    if ask.again and looked.key is None and looked.entry is None and plan.required:
        return looked._replace(entry=_entry(plan, _own_key(looked, run_id).key))
    return looked


def _look(plan: CachePlan, ask: KeyAsk, function: Callable[..., Any], bound: Bound) -> Looked:
    key, why = ask.key, ask.why
    if plan.strict and why not in (None, NOT_ASKED):
        raise cannot_cache(plan.task_name, Uncacheable(why))
    if key is None and why is None:
        try:
            if plan.key_fn is not None:
                given = bound.call()
            else:
                given = bound.call_by_digests(plan.algorithm)
            key = key_of(plan, signature_of(function), *given)
        except MissingInput:
            raise
        except Exception as error:  # Uncacheable, or whatever a cache_key_fn of the user raises
            if plan.strict:
                raise cannot_cache(plan.task_name, error) from error
            why = _reason(error)
            _warn(plan, "key", "runs uncached", why)
        if key is None and why is None and plan.only_persists:
            parts = _parts(plan, function, bound)
            return Looked(plan, ask, None, _committed(plan, ask, parts), None, parts)
        if key is not None and (entry := _committed(plan, ask, key.parts)) is not None:
            return Looked(plan, ask, key, entry, why)
    if key is None or ask.fresh or plan.refresh:
        return Looked(plan, ask, key, None, why)
    try:
        store = open_store(plan.store, plan.flow_run_id)
        return Looked(plan, ask, key, store.lookup([key.key]).get(key.key), why)
    except DaskflowError as error:
        why = _reason(error)
        _warn(plan, "store", "looked nothing up", why)
        return Looked(plan, ask, key, None, why)


def _parts(plan: CachePlan, function: Callable[..., Any], bound: Bound) -> Mapping[str, str]:
    """What a result that persists is found by when its flow run is resumed."""
    try:
        given = bound.call_by_digests(plan.algorithm)
        inputs = inputs_of(plan, signature_of(function), *given)
    except MissingInput:
        raise
    except Exception:  # what has no content is never found again
        return {}
    return input_parts(plan.task_name, inputs)


def _committed(plan: CachePlan, ask: KeyAsk, parts: Mapping[str, str]) -> Entry | None:
    """The result of this run from before its flow run was resumed."""
    if not ask.earlier or not parts:
        return None
    keys = ask.earlier.get(run_identity(plan.task_name, parts))
    if not keys:
        return None
    return _entry(plan, keys[ask.turn % len(keys)])


def _entry(plan: CachePlan, key: str) -> Entry | None:
    try:
        return open_store(plan.store, plan.flow_run_id).lookup([key]).get(key)
    except DaskflowError as error:
        _warn(plan, "store", "looked nothing up", _reason(error))
        return None


def _own_key(looked: Looked, run_id: str) -> CacheKey:
    """Of a result that persists and has no cache key."""
    flow_run_id = looked.plan.flow_run_id
    return run_key(flow_run_id, f"task run {run_id}", looked.parts or {})


def found_by(looked: Looked) -> Cached | None:
    """The result that looking up has found."""
    entry = looked.entry
    if entry is None:
        return None
    return Cached(entry.key, StoredRef(looked.plan.store, entry.carried()))


def finish(looked: Looked, run_id: str, result: Any, duration_s: float, at: float) -> Made:
    """Encode what a run returned, for its store; it is published by `commit`.

    Raises
    ------
    StoreError
        When a result that must persist cannot be stored.
    Uncacheable
        When it has no content to hash, or no codec may hold it, and the plan is strict.
    """
    plan, key = looked.plan, looked.key
    if key is None and plan.required:
        key = _own_key(looked, run_id)
    if key is None:
        return Made(result, None, None, None, plan, looked.why or NOT_ASKED)
    digest = None
    try:
        digest = _digest_of_result(result, plan)
        prepared = _prepare(plan, key, result, digest, duration_s, at)
    except (DaskflowError, OSError) as error:
        about = "result" if isinstance(error, (Uncacheable, PickleRefused)) else "store"
        if plan.strict and about == "result":
            raise cannot_cache(plan.task_name, error) from error
        if plan.required:
            raise _unstored(plan, error) from error
        why = _reason(error)
        _warn(plan, about, "does not cache its result", why)
        return Made(result, key.key, digest, None, plan, why)
    replace = plan.refresh or looked.ask.replace
    return Made(result, key.key, digest, (prepared, replace), plan, looked.why)


def _prepare(
    plan: CachePlan, key: CacheKey, result: Any, digest: str, duration_s: float, at: float
) -> Entry:
    from daskflow.caching.store import NewResult  # loads pyarrow: only where results are stored

    expires = None if plan.expires_s is None else at + duration_s + plan.expires_s
    new = NewResult(
        key.key, result, digest, plan.task_name, key.parts, at + duration_s, expires, duration_s
    )
    return open_store(plan.store, plan.flow_run_id).prepare(new)


def _digest_of_result(result: Any, plan: CachePlan) -> str:
    try:
        return content_digest(result, algorithm=plan.algorithm, name="the result")
    except Uncacheable:
        if plan.strict or not plan.required:
            raise
        # it persists all the same, and nothing downstream takes it for another result
        return hashlib.sha256(uuid.uuid4().bytes).hexdigest()


def commit(made: Sequence[Made]) -> list[Entry | DaskflowError | None]:
    """Publish results; for each its entry, or why not, or None where nothing is to publish."""
    entries: list[Entry | DaskflowError | None] = [None] * len(made)
    stores: dict[tuple[Any, str], list[int]] = {}
    for at, each in enumerate(made):
        if each.prepared is not None:
            plan = each.store
            stores.setdefault((plan.store, plan.flow_run_id), []).append(at)
    for (address, flow_run_id), places in stores.items():
        prepared = [found for at in places if (found := made[at].prepared) is not None]
        try:
            published = open_store(address, flow_run_id).publish_prepared(prepared)
        except (DaskflowError, OSError) as error:
            for at in places:
                plan = made[at].store
                entries[at] = _unstored(plan, error)
                if not plan.required:
                    _warn(plan, "store", "does not cache its result", _reason(error))
            continue
        for at, entry in zip(places, published, strict=True):
            entries[at] = entry.carried()
    return entries


def _unstored(plan: CachePlan, error: BaseException) -> StoreError:
    failed = StoreError(f"the result of task {plan.task_name!r} cannot be stored: {error}")
    failed.__cause__ = error
    return failed


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _warn(plan: CachePlan, what: str, does: str, why: str) -> None:
    """Once per task, flow run and process."""
    # what a storage says, it says to all tasks
    key = plan.flow_run_id, plan.store.url if what == "store" else plan.task_name, what
    if key not in _warned:
        if len(_warned) > 10_000:
            _warned.clear()
        _warned.add(key)
        _logger.warning("task %s %s: %s", plan.task_name, does, why)


@functools.lru_cache(maxsize=1024)
def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """Of the task's function, read once."""
    return inspect.signature(function)
