"""How one task caches in one flow run, and the key of one call: the same in every process.

A `CachePlan` travels with the task's code.  The flow process makes keys from content digests alone;
a worker that has the values makes the very same keys.  An argument that is a future counts as the
content of its result; a future inside an argument stands there as a `DigestRef`.
"""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from daskflow.caching.addresses import StoreAddress, StoredRef, open_store
from daskflow.caching.binding import bind_inputs
from daskflow.caching.code import CodeDigest
from daskflow.caching.hashing import content_digest
from daskflow.caching.keys import CacheKey, make_key
from daskflow.caching.policy import CachePolicy
from daskflow.errors import Uncacheable

__all__ = [
    "NOT_ASKED",
    "CachePlan",
    "DigestRef",
    "KeyContext",
    "StoreAddress",
    "StoredRef",
    "cannot_cache",
    "digest_of",
    "inputs_of",
    "key_from",
    "key_of",
    "open_store",
]

NOT_ASKED = "not asked for"  # why a result that only persists has no cache key


class CachePlan(NamedTuple):
    """What the runs of one task need to know about caching.

    Attributes
    ----------
    task_name : str
    policy : CachePolicy
    code : CodeDigest or None
    key_fn : bytes or None
        Pickled `cache_key_fn`.
    flow_run_id : str
    flow_parameters : mapping of str to str, or None
        Content digests.
    expires_s : float or None
        Seconds that a result is good for.
    refresh : bool
        Look nothing up, and replace what is there.
    required : bool
        ``persist_result=True``: a result that cannot be stored fails its run.
    store : StoreAddress
    strict : bool
        A run fails that has no key for an input without content, or a result without content.
    """

    task_name: str
    policy: CachePolicy
    code: CodeDigest | None
    key_fn: bytes | None
    flow_run_id: str
    flow_parameters: Mapping[str, str] | None
    expires_s: float | None
    refresh: bool
    required: bool
    store: StoreAddress
    strict: bool = False

    @property
    def algorithm(self) -> str:
        """Of the digests that keys are made of: that of the store where results are kept."""
        return self.store.hash_algorithm

    @property
    def only_persists(self) -> bool:
        """Whether results are kept, but found by no other run."""
        return self.required and self.key_fn is None and not self.policy.components

    @property
    def counts_inputs(self) -> bool:
        """Whether what a run is known by depends on its inputs."""
        return "INPUTS" in self.policy.components or self.only_persists


class _KeyTask(NamedTuple):
    name: str


class KeyContext(NamedTuple):
    """What `cache_key_fn` gets as its first argument.

    Attributes
    ----------
    task : object
        With a `name`.
    flow_run_id : str
    """

    task: _KeyTask
    flow_run_id: str


class DigestRef:
    """Stands for a value of which only the content digest is known."""

    __slots__ = ("digest",)

    def __init__(self, digest: str) -> None:
        self.digest = digest

    def __daskflow_hash__(self) -> tuple[str, str]:
        return ("a value by its content digest", self.digest)


def cannot_cache(task_name: str, error: BaseException) -> Uncacheable:
    """The error of a task run that is not cached although its policy is strict."""
    return Uncacheable(
        f"task {task_name!r} cannot be cached, and its caching is strict: {error}; change what is "
        'named, leave an argument out (INPUTS - "name"), or let it run uncached: without STRICT '
        "and results.strict"
    )


def key_of(
    plan: CachePlan, signature: inspect.Signature, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> CacheKey | None:
    """Return the key of a call; None when it asks for no caching.

    Parameters
    ----------
    plan : CachePlan
    signature : inspect.Signature
        Of the function.
    args, kwargs
        Of the call, with `DigestRef` for what came from futures; for a plan with a `key_fn`, as
        the function gets them.

    Raises
    ------
    Uncacheable
        When an argument that counts has no content to hash.
    UsageError
        When `cache_key_fn` returns anything but a string or None.
    """
    if plan.key_fn is not None:
        key_fn: Callable[[KeyContext, dict[str, Any]], Any] = pickle.loads(plan.key_fn)
        context = KeyContext(_KeyTask(plan.task_name), plan.flow_run_id)
        custom = key_fn(context, bind_inputs(signature, args, kwargs))
        if custom is None:
            return None
        return make_key(plan.task_name, plan.policy, custom=custom, algorithm=plan.algorithm)
    digests = None
    if "INPUTS" in plan.policy.components:
        digests = inputs_of(plan, signature, args, kwargs)
    return key_from(plan, digests)


def inputs_of(
    plan: CachePlan, signature: inspect.Signature, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, str]:
    """Return the content digest of every argument of a call that counts.

    Raises
    ------
    Uncacheable
        When one has no content to hash.
    """
    algorithm = plan.store.hash_algorithm
    return {
        name: digest_of(value, name, algorithm)
        for name, value in bind_inputs(signature, args, kwargs).items()
        if name not in plan.policy.excluded
    }


def digest_of(value: Any, name: str, algorithm: str) -> str:
    """Return the content digest of an argument, or of what a `DigestRef` stands for."""
    if type(value) is DigestRef:
        return value.digest
    return content_digest(value, algorithm=algorithm, name=name)


def key_from(plan: CachePlan, inputs: Mapping[str, str] | None) -> CacheKey | None:
    """Return the key of a call with these content digests of its arguments."""
    return make_key(
        plan.task_name,
        plan.policy,
        code=plan.code,
        inputs=inputs,
        flow_run_id=plan.flow_run_id,
        flow_parameters=plan.flow_parameters,
        algorithm=plan.store.hash_algorithm,
    )
