"""What the flow process knows of the cache key of one task run.

Arguments are hashed when the run is submitted; those that are futures, or hold some, when the runs
behind them have ended and the digests of their results are known.  Where one is not known, the
worker that has the value makes the key.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from daskflow.caching.hash_writer import ATOMS
from daskflow.caching.hashing import content_digest
from daskflow.caching.keys import CacheKey, bind_inputs
from daskflow.caching.plans import CachePlan, DigestRef, key_from, key_of
from daskflow.errors import DaskflowError
from daskflow.runner.arguments import Literal, encode_live, literal_of
from daskflow.runner.cache_status import hit_status, miss_status
from daskflow.runner.cluster.executor.cached import KeyAsk
from daskflow.runner.cluster.executor.structure import MAX_DEPTH, replace_inside
from daskflow.runner.cluster.executor.values import Slot
from daskflow.runner.cluster.protocol import Commit
from daskflow.runner.core.graph import CacheNote, Run
from daskflow.runner.core.states import SUCCESSFUL

__all__ = ["RunCache", "note_of", "unknown_note"]


class _Inside(NamedTuple):
    """An argument that holds futures, with slots in their places."""

    value: Any
    runs: tuple[Run, ...]


class RunCache(CacheNote):
    """The cache's side of a run.

    Attributes
    ----------
    digest : str or None
        Of the content of its result, once it is known.
    made_as : str or None
        The key that its worker has made, or had from here.
    absent : bool
        This process has looked its key up, and there was no entry.
    """

    __slots__ = ("_inputs", "_key", "absent", "digest", "made_as", "plan", "why")

    def __init__(
        self,
        plan: CachePlan,
        inputs: Mapping[str, str | Run | _Inside] | None,
        key: CacheKey | None = None,
        why: str | None = None,
    ) -> None:
        super().__init__()
        self.plan = plan
        self._inputs = inputs  # None: only a worker can tell
        self._key = key
        self.digest: str | None = None
        self.made_as: str | None = None
        self.absent = False
        self.why = why
        self.status = why
        self.wanted = why is None and not plan.refresh and (key is not None or inputs is not None)

    def key(self) -> CacheKey | None:
        """The key, if all digests are known by now."""
        if self._key is None and self._inputs is not None:
            inputs = {name: _digest(name, given) for name, given in self._inputs.items()}
            known = {name: digest for name, digest in inputs.items() if digest is not None}
            if len(known) == len(inputs):
                self._key, self._inputs = key_from(self.plan, known), None
        return self._key

    def ask(self, redo: bool) -> KeyAsk:
        """What goes to the worker with the run."""
        key = self.key() if self.why is None else None
        # once: what is sent again may have been stored by who was lost before it told
        absent, self.absent = self.absent, False
        return KeyAsk(key, fresh=redo or absent, replace=redo, why=self.why)

    def told(self, commit: Commit) -> None:
        """A worker has told what the cache made of the run."""
        self.hit, self.digest, self.made_as = commit.hit, commit.digest, commit.key
        self._inputs = None  # a run that has ended keeps no others
        if commit.hit and commit.key is not None:
            self.status = hit_status(commit.key, commit.saved_s)
        else:
            self.status = miss_status(commit.key, commit.why)


def _digest(name: str, given: str | Run | _Inside) -> str | None:
    if isinstance(given, str):
        return given
    if isinstance(given, Run):
        return digest_of_run(given)
    digests = [digest_of_run(run) for run in given.runs]
    if None in digests:
        return None

    def fill(item: Any) -> Any:
        return DigestRef(digests[item.number] or "") if type(item) is Slot else item

    return content_digest(replace_inside(given.value, fill, MAX_DEPTH + 2), name=name)


def digest_of_run(run: Run) -> str | None:
    """The digest of what a run returned, as far as it is known in this process."""
    if isinstance(run.value, Literal):
        return run.value.digest()
    if run.state in SUCCESSFUL and run.error is None and isinstance(run.cache, RunCache):
        return run.cache.digest
    return None


def unknown_note(plan: CachePlan) -> RunCache:
    """Of a run whose arguments are not here, as of one that a worker submits."""
    return RunCache(plan, None)


def note_of(
    plan: CachePlan,
    signature: inspect.Signature,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    has_inputs: bool,
    warn: Callable[[str], object],
) -> RunCache:
    """Hash what can be hashed of a call.

    Parameters
    ----------
    plan : CachePlan
    signature : inspect.Signature
        Of the task.
    args, kwargs
        Of the call, futures among them.
    has_inputs : bool
        Whether there are futures.
    warn : callable
        Told why the run is not cached.
    """
    try:
        if plan.key_fn is not None and any(map(literal_of, (*args, *kwargs.values()))):
            return RunCache(plan, None)  # the worker has the values
        if not has_inputs:
            if not (all(type(a) in ATOMS for a in args) and not kwargs):
                args = tuple([_by_digest(value) for value in args])
                kwargs = {name: _by_digest(value) for name, value in kwargs.items()}
            key = key_of(plan, signature, args, kwargs)
            return RunCache(plan, None, key, None if key is not None else "not asked for")
        if plan.key_fn is not None:
            return RunCache(plan, None)
        return RunCache(plan, _inputs(plan, signature, args, kwargs))
    except Exception as error:  # Uncacheable, or whatever a cache_key_fn of the user raises
        why = f"{type(error).__name__}: {error}"
        if not isinstance(error, DaskflowError):
            why = f"its cache key cannot be made: {why}"
        warn(why)
        return RunCache(plan, None, None, why)


def _by_digest(value: Any) -> Any:
    """A large argument that is sent once is hashed once, too."""
    literal = literal_of(value)
    return value if literal is None else DigestRef(literal.digest())


def _inputs(
    plan: CachePlan, signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, str | Run | _Inside]:
    if "INPUTS" not in plan.policy.components:
        return {}
    inputs: dict[str, str | Run | _Inside] = {}
    for name, value in bind_inputs(signature, args, kwargs).items():
        if name in plan.policy.excluded:
            continue
        literal = literal_of(value)
        if literal is not None:
            inputs[name] = literal.digest()
            continue
        live = encode_live((value,), {}, ())
        (inside,) = live.payload[0]
        if type(inside) is Slot:
            inputs[name] = live.deps[0]
        elif live.deps:
            inputs[name] = _Inside(inside, live.deps)
        else:
            inputs[name] = content_digest(inside, name=name)
    return inputs
