"""What the flow process knows of the cache key of one task run.

Arguments are hashed when the run is submitted; those that are futures, or hold some, when the runs
behind them have ended and the digests of their results are known.  Where one is not known, the
worker that has the value makes the key.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from daskflow.caching.binding import bind_inputs
from daskflow.caching.hash_writer import ATOMS
from daskflow.caching.hashing import content_digest
from daskflow.caching.keys import CacheKey, input_parts, run_identity, run_key
from daskflow.caching.plans import (
    NOT_ASKED,
    CachePlan,
    DigestRef,
    cannot_cache,
    key_from,
    key_of,
)
from daskflow.errors import DaskflowError
from daskflow.runner.arguments import Literal, encode_live, literal_of
from daskflow.runner.cache_status import REFRESHED, hit_status, miss_status
from daskflow.runner.cluster.executor.cached import KeyAsk
from daskflow.runner.cluster.executor.structure import MAX_DEPTH, replace_inside
from daskflow.runner.cluster.executor.values import Slot
from daskflow.runner.cluster.protocol import Commit
from daskflow.runner.core.graph import CacheNote, Run
from daskflow.runner.core.states import SUCCESSFUL
from daskflow.runner.outcomes import load_value

if TYPE_CHECKING:
    from daskflow.runner.resuming import Resumption

__all__ = ["Places", "RunCache", "note_of", "unknown_note"]


# how many runs of equal inputs there were so far, by what they are known by
Places = dict[str, Iterator[int]]


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
    resumption : Resumption or None
        Of a flow run that is resumed: what it did before.
    turn : int
        Then: its place among the runs of the same inputs.
    """

    __slots__ = (
        "_inputs",
        "_key",
        "_places",
        "_renewed",
        "absent",
        "digest",
        "made_as",
        "plan",
        "resumption",
        "turn",
        "why",
    )

    def __init__(
        self,
        plan: CachePlan,
        inputs: Mapping[str, str | Run | _Inside] | None,
        key: CacheKey | None = None,
        why: str | None = None,
        places: Places | None = None,
    ) -> None:
        super().__init__()
        self.plan = plan
        self._inputs = inputs  # None: only a worker can tell
        self._key = key
        self._places = places  # of runs whose results only persist, among equals
        self.digest: str | None = None
        self.made_as: str | None = None
        self.resumption: Resumption | None = None
        self._renewed = False
        self.turn = 0
        self.absent = False
        self.why = why
        self.status = why
        known = key is not None or inputs is not None
        self.wanted = why is None and not plan.refresh and not plan.only_persists and known

    @property
    def looks_up(self) -> bool:
        """Whether a result that is in the store already may be taken."""
        return not (self.plan.refresh or self._renewed)

    def resumes(self, resumption: Resumption, run: Run) -> None:
        """What the flow run did before is looked through, too."""
        self.resumption = resumption
        if self._key is None:
            self.turn = resumption.turn(self.plan.task_name, run)
        self.wanted = self._key is not None or self._inputs is not None
        self._renewed = self.plan.only_persists and self.plan.task_name in resumption.renewed

    def key(self) -> CacheKey | None:
        """The key, if all digests are known by now."""
        if self._key is None and self._inputs is not None:
            how = self.plan.store.hash_algorithm, self.resumption is not None
            inputs = {n: _digest(n, given, *how) for n, given in self._inputs.items()}
            known = {name: digest for name, digest in inputs.items() if digest is not None}
            if len(known) == len(inputs):
                self._key, self._inputs = self._key_from(known), None
        return self._key

    def _key_from(self, inputs: dict[str, str]) -> CacheKey | None:
        plan = self.plan
        if not plan.only_persists:
            return key_from(plan, inputs)
        if self._places is None:  # of no flow run
            return None
        parts = input_parts(plan.task_name, inputs)
        self.why = self.status = NOT_ASKED
        equals = self._places.setdefault(run_identity(plan.task_name, parts), itertools.count())
        return run_key(plan.flow_run_id, str(next(equals)), parts)

    def ask(self, redo: bool) -> KeyAsk:
        """What goes to the worker with the run."""
        # once: what is sent again may have been stored by who was lost before it told
        absent, self.absent = self.absent, False
        again, self.lost = self.lost and not redo, False
        plan, before = self.plan, self.resumption
        if not plan.only_persists:
            key = self.key() if self.why is None else None
            fresh = redo or (absent and not again)
            ask = KeyAsk(key, fresh=fresh, replace=redo, why=self.why, again=again)
        else:
            try:
                key = self.key()
            except DaskflowError:  # futures stand inside of what has no content: it persists anyway
                key, self._inputs, self.why = None, None, NOT_ASKED
            redo = redo or self._renewed
            again = again and not redo
            fresh = redo or (before is None and not again)
            ask = KeyAsk(key, fresh=fresh, replace=redo, why=self.why, again=again)
        if before is None or key is not None or redo:
            return ask
        return ask._replace(earlier=before.offer(plan.task_name), turn=self.turn)

    def told(self, commit: Commit) -> None:
        """A worker has told what the cache made of the run."""
        self.hit, self.digest, self.made_as = commit.hit, commit.digest, commit.key
        self._inputs = None  # a run that has ended keeps no others
        if commit.hit and commit.key is not None:
            if self.resumption is not None:
                self.resumption.found(self.plan.task_name, commit.key)
            self.status = hit_status(commit.key, commit.saved_s)
        else:
            refreshed = REFRESHED if self.plan.refresh and commit.key is not None else None
            self.status = miss_status(commit.key, commit.why or refreshed)


def _digest(name: str, given: str | Run | _Inside, algorithm: str, by_value: bool) -> str | None:
    if isinstance(given, str):
        return given
    if isinstance(given, Run):
        return _digest_of(given, algorithm, by_value)
    digests = [_digest_of(run, algorithm, by_value) for run in given.runs]
    if None in digests:
        return None

    def fill(item: Any) -> Any:
        return DigestRef(digests[item.number] or "") if type(item) is Slot else item

    filled = replace_inside(given.value, fill, MAX_DEPTH + 2)
    return content_digest(filled, algorithm=algorithm, name=name)


def _digest_of(run: Run, algorithm: str, by_value: bool) -> str | None:
    known = digest_of_run(run, algorithm)
    here = run.state in SUCCESSFUL and run.kept and type(run.value) is tuple
    if known is None and by_value and here:
        try:
            value = load_value(run.value, None)
            return content_digest(value, algorithm=algorithm, name=run.label)
        except Exception:  # Uncacheable, or it does not load here: whoever executes it can tell
            return None
    return known


def digest_of_run(run: Run, algorithm: str) -> str | None:
    """The digest of what a run returned, as far as it is known in this process."""
    if isinstance(run.value, Literal):
        return run.value.digest(algorithm)
    if run.state in SUCCESSFUL and run.error is None and isinstance(run.cache, RunCache):
        # that of a result in a store with another hash says nothing here
        return run.cache.digest if run.cache.plan.store.hash_algorithm == algorithm else None
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
    places: Places | None = None,
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
    places : dict, optional
        Of the flow run: counts those of equal inputs, for runs whose
        results only persist.
    """
    if plan.only_persists:
        return _persisting(plan, signature, args, kwargs, places)
    try:
        if plan.key_fn is not None and any(map(literal_of, (*args, *kwargs.values()))):
            return RunCache(plan, None)  # the worker has the values
        if not has_inputs:
            if not (all(type(a) in ATOMS for a in args) and not kwargs):
                algorithm = plan.algorithm
                args = tuple([_by_digest(value, algorithm) for value in args])
                kwargs = {name: _by_digest(value, algorithm) for name, value in kwargs.items()}
            key = key_of(plan, signature, args, kwargs)
            return RunCache(plan, None, key, None if key is not None else NOT_ASKED)
        if plan.key_fn is not None:
            return RunCache(plan, None)
        return RunCache(plan, _inputs(plan, signature, args, kwargs))
    except Exception as error:  # Uncacheable, or whatever a cache_key_fn of the user raises
        if plan.strict:
            raise cannot_cache(plan.task_name, error) from error
        why = f"{type(error).__name__}: {error}"
        if not isinstance(error, DaskflowError):
            why = f"its cache key cannot be made: {why}"
        warn(why)
        return RunCache(plan, None, None, why)


def _persisting(
    plan: CachePlan,
    signature: inspect.Signature,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    places: Places | None,
) -> RunCache:
    """Of a run whose result is looked up by nobody, but when its flow run is resumed."""
    if places is None:
        return RunCache(plan, None, None, NOT_ASKED)
    try:
        cache = RunCache(plan, _inputs(plan, signature, args, kwargs), places=places)
        cache.key()
        return cache
    except Exception:  # what has no content to hash persists all the same
        return RunCache(plan, None, None, NOT_ASKED)


def _by_digest(value: Any, algorithm: str) -> Any:
    """A large argument that is sent once is hashed once, too."""
    literal = literal_of(value)
    return value if literal is None else DigestRef(literal.digest(algorithm))


def _inputs(
    plan: CachePlan, signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, str | Run | _Inside]:
    if not plan.counts_inputs:
        return {}
    inputs: dict[str, str | Run | _Inside] = {}
    algorithm = plan.algorithm
    for name, value in bind_inputs(signature, args, kwargs).items():
        if name in plan.policy.excluded:
            continue
        literal = literal_of(value)
        if literal is not None:
            inputs[name] = literal.digest(algorithm)
            continue
        live = encode_live((value,), {}, ())
        (inside,) = live.payload[0]
        if type(inside) is Slot:
            inputs[name] = live.deps[0]
        elif live.deps:
            inputs[name] = _Inside(inside, live.deps)
        else:
            inputs[name] = content_digest(inside, algorithm=algorithm, name=name)
    return inputs
