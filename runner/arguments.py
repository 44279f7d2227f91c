"""Arguments of a task run on their way to the driver: snapshots with the futures taken out.

What goes to another process is pickled here, at the call, so a list that the caller changes
afterwards does not change the task's input, and an argument that cannot be pickled fails at the
call that brought it.  What stays in this process is handed over live.
"""

from __future__ import annotations

import hashlib
import inspect
import itertools
import logging
import pickle
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import cloudpickle

from daskflow.errors import UsageError
from daskflow.runner.cluster.executor.structure import replace_inside
from daskflow.runner.cluster.executor.values import Slot, bound_value, dumps
from daskflow.runner.cluster.protocol import PLAIN_TYPES
from daskflow.runner.code import by_value
from daskflow.runner.collecting import Collected, collecting, current_collection
from daskflow.runner.context import FLOW_LOGGER, current_flow_run
from daskflow.runner.core.graph import Run, Scope, Stage
from daskflow.runner.core.retries import RetryPolicy
from daskflow.runner.core.states import COMPLETED
from daskflow.runner.futures import Stream, TaskFuture, allow_failure, quote, unmapped

__all__ = [
    "Encoded",
    "Literal",
    "Literals",
    "check_call",
    "check_waits",
    "encode",
    "encode_live",
    "literal_of",
]

_LITERAL_BYTES = 65_536  # arguments larger than this are sent once and shared
_SHORT_TEXT = 4_096
_HEAVY_BYTES = 10_000_000

_logger = logging.getLogger(FLOW_LOGGER)


class Encoded(NamedTuple):
    """Arguments as the driver keeps them."""

    payload: Any  # ``(args, kwargs)`` of plain values, or bytes
    deps: tuple[Run, ...]
    allowed: frozenset[int] | None
    taken: int  # the values of the first so many deps go along; the rest is only waited for


_NO_KWARGS: dict[str, Any] = {}  # one for all: a parcel's pickle has it once
_new = tuple.__new__  # a NamedTuple's own constructor takes three times as long


class Literal:
    """A large argument: pickled once, sent once, shared by all task runs that take it."""

    __slots__ = ("_digests", "blob", "future")

    def __init__(self, blob: bytes) -> None:
        self.blob = blob
        self.future: Any = None  # of Dask, once it was sent
        self._digests: dict[str, str] = {}  # by algorithm

    def digest(self, algorithm: str) -> str:
        """Content digest of the argument; for runs that are cached."""
        known = self._digests.get(algorithm)
        if known is None:
            from daskflow.caching.hashing import content_digest  # only flows that cache pay for it

            value = pickle.loads(self.blob)
            known = content_digest(value, algorithm=algorithm, name="a large argument")
            self._digests[algorithm] = known
        return known


class _LiteralRef:
    """Stands for a literal while arguments are pickled."""

    __slots__ = ("run",)

    def __init__(self, run: Run) -> None:
        self.run = run

    def __reduce__(self) -> tuple[Callable[[int], Any], tuple[int]]:
        return bound_value, (current_collection().slot(self.run),)


def literal_of(value: Any) -> Literal | None:
    """The literal that `value` stands for, if it does."""
    return value.run.value if type(value) is _LiteralRef else None


class Literals:
    """The large arguments of one flow run, by content, for as long as a run needs them.

    Parameters
    ----------
    shares : bool, default True
        False lets large arguments travel with their run, as from a worker to the driver.
    """

    def __init__(self, *, shares: bool = True) -> None:
        self.shares = shares
        self._stage = Stage(Scope("literals"), "literal", RetryPolicy())
        self._known: weakref.WeakValueDictionary[bytes, Run] = weakref.WeakValueDictionary()
        self._numbers = itertools.count(-1, -1)  # never the number of a task run
        self._modules: dict[bytes, ModuleType] = {}
        self._warned: set[tuple[str, str]] = set()  # task and flow run

    def travel(self, modules: Iterable[ModuleType]) -> None:
        """These modules go along with functions, so what they define goes with arguments too.

        Otherwise an argument's class on a worker would not be the one that the function knows.
        """
        self._modules.update((module.__name__.encode(), module) for module in modules)

    def dumps(self, value: Any) -> bytes:
        """Pickle `value` for the workers."""
        modules = self._modules
        if not modules:
            return dumps(value)
        if type(value).__module__.encode() not in modules:  # else it need not be tried
            blob = dumps(value)
            if not any(name in blob for name in modules):
                return blob
        with by_value(modules.values()):
            return cloudpickle.dumps(value, 5)  # type: ignore[no-any-return]

    def share(self, value: Any, what: str, limit: int = _LITERAL_BYTES) -> Any:
        """Return `value`, or what stands for it when it is large and holds no future.

        `what` says whose it is, for the warning about a very large one.
        """
        kind = type(value)
        if kind in PLAIN_TYPES and not (kind in (str, bytes) and len(value) > limit):
            return value
        with collecting() as found:
            blob = self.dumps(value)
        if len(blob) <= limit or found.runs:
            return value
        if len(blob) > _HEAVY_BYTES:
            self._warn(what, len(blob))
        digest = hashlib.blake2b(blob, digest_size=16).digest()
        run = self._known.get(digest)
        if run is None:
            run = self._known[digest] = Run(self._stage, next(self._numbers), None, (), 0.0)
            run.state = COMPLETED
            run.value = Literal(blob)
        return _LiteralRef(run)

    def constant(self, value: Any, task_name: str) -> Any:
        """The same for what every run of a map gets.

        Raises
        ------
        UsageError
            When it cannot be pickled.
        """
        try:
            return self.share(value, task_name)
        except UsageError:
            raise
        except Exception as error:
            raise UsageError(
                f"what every run of {task_name}.map() should get, a {type(value).__qualname__}, "
                f"cannot be sent to a worker ({error}); open it inside the task, or use "
                'task_runner="threads"'
            ) from error

    def _warn(self, task_name: str, size: int) -> None:
        """Once per task and flow run: it works, but every further call pickles it again."""
        flow_run = current_flow_run.get()
        key = task_name, flow_run.info.id if flow_run else ""
        if key in self._warned:
            return
        self._warned.add(key)
        _logger.warning(
            "An argument of task %s is %.0f MB. It is sent to the cluster once, not with every "
            "task run, but each submit pickles it anew. Hand it on by reference: return it from "
            "a task and pass that task's future, use unmapped() in a map, or pass a path that the "
            "workers can read",
            task_name,
            size / 1e6,
        )


def encode(
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    wait_for: Sequence[TaskFuture[Any]],
    literals: Literals,
    task_name: str,
) -> Encoded:
    """Snapshot arguments for a worker in another process.

    Large arguments go to `literals`, to be sent once.

    Raises
    ------
    UsageError
        When an argument cannot be pickled; names it.
    """
    if not kwargs and not wait_for:
        for value in args:
            kind = type(value)
            if kind not in PLAIN_TYPES or (kind in (str, bytes) and len(value) > _SHORT_TEXT):
                break
        else:
            return _new(Encoded, ((args, _NO_KWARGS), (), None, 0))
    found, blob = _pickled(args, kwargs, literals, task_name)
    if literals.shares and len(blob) > _LITERAL_BYTES:
        args = tuple(literals.share(value, task_name) for value in args)
        kwargs = {name: literals.share(value, task_name) for name, value in kwargs.items()}
        found, blob = _pickled(args, kwargs, literals, task_name)
    return _with_waits(blob, found, wait_for)


def _pickled(
    args: tuple[Any, ...], kwargs: dict[str, Any], literals: Literals, task_name: str
) -> tuple[Collected, bytes]:
    try:
        with collecting() as found:
            blob = literals.dumps((args, kwargs))
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(_unpicklable(args, kwargs, task_name, error)) from error
    return found, blob


def _unpicklable(
    args: tuple[Any, ...], kwargs: dict[str, Any], task_name: str, error: Exception
) -> str:
    named = [(f"argument {place}", value) for place, value in enumerate(args)]
    named += [(f"argument {name!r}", value) for name, value in kwargs.items()]
    for name, value in named:
        try:
            with collecting():
                dumps(value)
        except Exception as cause:
            return (
                f"{name} of {task_name} cannot be sent to a worker: a "
                f"{type(value).__qualname__} does not pickle ({cause}); open it inside the task, "
                'or use task_runner="threads"'
            )
    return f"the arguments of {task_name} cannot be pickled together: {error}"


def encode_live(
    args: tuple[Any, ...], kwargs: dict[str, Any], wait_for: Sequence[TaskFuture[Any]]
) -> Encoded:
    """Take the futures out of arguments that stay in this process, and copy nothing else."""
    found = Collected()

    def slot(value: Any) -> Any:
        if isinstance(value, TaskFuture):
            return Slot(found.slot(value._run))
        if isinstance(value, allow_failure):
            inner = value.future
            if isinstance(inner, (list, tuple)):
                return [slot(allow_failure(item)) for item in inner]
            if isinstance(inner, TaskFuture):
                return Slot(found.slot(inner._run, allowed=True))
            return inner
        if isinstance(value, unmapped):
            return replace_inside(value.value, slot)
        if isinstance(value, Stream):
            return [slot(future) for future in value.all()]
        return value.value if isinstance(value, quote) else value

    payload = (
        tuple(replace_inside(value, slot) for value in args),
        {name: replace_inside(value, slot) for name, value in kwargs.items()},
    )
    return _with_waits(payload, found, wait_for)


def _with_waits(
    payload: Any, found: Collected, wait_for: Sequence[TaskFuture[Any] | allow_failure]
) -> Encoded:
    taken = len(found.runs)
    for future in _flat(check_waits(wait_for)):
        allowed = isinstance(future, allow_failure)
        inner = future.future if isinstance(future, allow_failure) else future
        if not isinstance(inner, TaskFuture):
            raise UsageError(
                f"wait_for takes futures, not {inner!r}; pass what task.submit() and task.map() "
                "return"
            )
        found.slot(inner._run, allowed=allowed)
    allowed_slots = frozenset(found.allowed) if found.allowed else None
    return Encoded(payload, tuple(found.runs), allowed_slots, taken)


def check_waits(wait_for: Any) -> Sequence[Any]:
    """The futures of a `wait_for`, which may be None.

    Raises
    ------
    UsageError
        For what is no list of futures, a lone future among it.
    """
    if type(wait_for) is tuple:
        return wait_for
    if wait_for is None:
        return ()
    if isinstance(wait_for, str) or not isinstance(wait_for, Iterable):
        raise UsageError(
            f"wait_for={wait_for!r} must be a list of futures, such as wait_for=[future]"
        )
    return tuple(wait_for)


def _flat(futures: Iterable[Any]) -> Iterable[Any]:
    for future in futures:
        if isinstance(future, (list, tuple, set)):
            yield from _flat(future)
        elif isinstance(future, Stream):
            yield from future.all()
        elif isinstance(future, allow_failure) and isinstance(future.future, (list, tuple)):
            yield from (allow_failure(item) for item in future.future)
        else:
            yield future


def check_call(
    signature: inspect.Signature, args: Sequence[Any], kwargs: Mapping[str, Any], what: str
) -> None:
    """Raise `UsageError` when a call does not fit `signature`.

    Parameters
    ----------
    signature : inspect.Signature
    args, kwargs
        As in the call.
    what : str
        For the message: ``"task clean"``.
    """
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        raise UsageError(f"{what}{signature} cannot be called like this: {error}") from None
