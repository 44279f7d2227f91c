"""The calls that `task.map` makes of its arguments: one per item, constants in every one.

As in Prefect: what can be iterated is mapped, but for texts, bytes and open files; `unmapped` says
that a value is a constant although it can be iterated; `allow_failure` and `quote` around an
iterable go to each of its items.  An iterator may never end: its items are taken when somebody
waits for them.
"""

from __future__ import annotations

import functools
import io
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from typing import TYPE_CHECKING, Any, NamedTuple

from daskflow.errors import TooManyFailed, UsageError
from daskflow.runner.core.graph import Run
from daskflow.runner.future_lists import FutureList
from daskflow.runner.future_streams import WINDOW, FutureStream
from daskflow.runner.futures import TaskFuture, allow_failure, quote, unmapped
from daskflow.runner.options import check_count
from daskflow.runner.pace import Pace
from daskflow.runner.tolerance import Tolerance, check_tolerate

if TYPE_CHECKING:
    from daskflow.runner.tasks import Task

__all__ = ["MapLeftovers", "MappedCalls", "map_calls", "run_map"]

_Call = tuple[tuple[Any, ...], dict[str, Any]]


class MapLeftovers:
    """What the maps of a flow run leave to do at its end."""

    def __init__(self) -> None:
        self.streams: set[FutureStream[Any]] = set()
        self.tolerances: list[Tolerance] = []
        self._paces: list[Pace] = []

    def pace(self, limit: int, submit: Callable[[Run], object]) -> Pace:
        """What submits the runs of a map with `max_in_flight`."""
        self._paces = [pace for pace in self._paces if pace.last_held is not None]
        self._paces.append(made := Pace(limit, submit))
        return made

    def held(self) -> Run | None:
        """A run that waits until others have ended, if there is one."""
        return next((run for pace in self._paces if (run := pace.last_held) is not None), None)

    def drop(self) -> None:
        """The flow run was cancelled: what waits to be submitted ends with it."""
        for pace in self._paces:
            pace.drop()

    def finish(self, returned: Any) -> Any:
        """Submit the items of iterators whose futures nobody has asked for.

        Parameters
        ----------
        returned : object
            What the flow function returned.

        Returns
        -------
        object
            The same; a list instead of a stream, results instead of futures where some may fail.
        """
        if isinstance(returned, FutureStream):
            returned = returned.all()
        if isinstance(returned, FutureList):
            returned = returned.tolerated()
        while self.streams:
            self.streams.pop().submit_rest()
        return returned

    def too_many_failed(self) -> TooManyFailed | None:
        """Judge the maps; every run has ended."""
        judged = [(tolerance, tolerance.judge()) for tolerance in self.tolerances]
        return next((over for tolerance, over in judged if over and not tolerance.told), None)


def run_map(
    task: Task[Any, Any],
    host: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    wait_for: Sequence[Any],
    tolerate: int | float | None,
    max_in_flight: int | None,
) -> Any:
    """Submit a map; see `Task.map`.

    Parameters
    ----------
    host : FlowRun or NestedHost
        Where to submit.
    """
    if max_in_flight is not None:
        check_count("max_in_flight", max_in_flight)
        if max_in_flight < 1:
            raise UsageError("max_in_flight=0 would let no run start; it must be 1 or more")
    tolerance = None if tolerate is None else Tolerance(check_tolerate(tolerate), task.name)
    mapped = map_calls(task.name, args, kwargs, functools.partial(host.constant, task))
    first = (*wait_for, *mapped.resolved)
    leftovers: MapLeftovers | None = getattr(host, "map_leftovers", None)  # a flow run's
    if tolerance is not None and leftovers is not None:
        leftovers.tolerances.append(tolerance)
    if mapped.lazy:
        stream: FutureStream[Any] = FutureStream(
            mapped.calls,
            functools.partial(host.submit, task),
            first,
            host.announcer,
            max_in_flight or WINDOW,
            tolerance,
            leftovers.streams.discard if leftovers is not None else None,
        )
        if leftovers is not None:
            leftovers.streams.add(stream)
        return stream
    if max_in_flight is None:
        made = (host.submit(task, args, kwargs, first) for args, kwargs in mapped.calls)
    else:
        pace = host.pace(max_in_flight)
        made = (host.submit(task, args, kwargs, first, pace) for args, kwargs in mapped.calls)
    futures: FutureList[Any] = FutureList(made, tolerance)
    if tolerance is not None:
        for future in futures:
            tolerance.add(future)
    return futures


class MappedCalls(NamedTuple):
    """What a `map` submits."""

    calls: Iterator[_Call]
    resolved: list[TaskFuture[Any]]  # futures whose results were iterated: every call needs them
    lazy: bool  # nobody knows how many there are


def map_calls(
    task_name: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    constant: Callable[[Any], Any],
) -> MappedCalls:
    """Lay out the calls of a map.

    Parameters
    ----------
    task_name : str
        For messages.
    args, kwargs
        As given to `map`.
    constant : callable
        What a value that every call gets is replaced by: large ones are sent once.

    Raises
    ------
    UsageError
        For iterables of unequal lengths, or when nothing can be iterated.
    """
    named = [(f"argument {place}", value) for place, value in enumerate(args)]
    named += [(f"argument {key!r}", value) for key, value in kwargs.items()]
    resolved: list[TaskFuture[Any]] = []
    alone = len(args) == len(named) == 1  # by far the most frequent
    if _is_lazy([value for _, value in named]):
        if alone:
            return MappedCalls(_each(args[0]), [], True)
        lazy = _lazy_calls(task_name, named, len(args), list(kwargs), constant)
        return MappedCalls(lazy, [], True)
    limit = _shortest([value for _, value in named])
    columns = [_column(value, resolved, limit) for _, value in named]
    lengths = {
        what: len(column)
        for (what, _), column in zip(named, columns, strict=True)
        if column is not None
    }
    if not lengths:
        raise UsageError(
            f"{task_name}.map() got nothing to iterate over; pass at least one list, or use "
            "submit()"
        )
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{what} has {length}" for what, length in lengths.items())
        raise UsageError(
            f"{task_name}.map() got iterables of unequal lengths: {told}; make them equal, or "
            "wrap what every run should get in unmapped()"
        )
    count = next(iter(lengths.values()))
    if alone:
        return MappedCalls(_each(columns[0] or ()), resolved, False)
    constants = [
        constant(value.value if isinstance(value, unmapped) else value)
        if column is None and count
        else None
        for (_, value), column in zip(named, columns, strict=True)
    ]
    return MappedCalls(_calls(columns, constants, count, len(args), list(kwargs)), resolved, False)


def _is_lazy(values: list[Any]) -> bool:
    """Whether all that is iterated is iterators."""
    mapped = [value for value in values if _is_mapped(value)]
    return bool(mapped) and all(isinstance(value, Iterator) for value in mapped)


def _shortest(values: list[Any]) -> int | None:
    """How many calls there are at most; an iterator beside a list need not end."""
    return min(
        (len(value) for value in values if _is_iterable(value) and isinstance(value, Sized)),
        default=None,
    )


def _is_mapped(value: Any) -> bool:
    if isinstance(value, allow_failure):
        return _is_mapped(value.future)
    if isinstance(value, quote):
        return _is_iterable(value.value)
    return isinstance(value, TaskFuture) or _is_iterable(value)


def _each(items: Iterable[Any]) -> Iterator[_Call]:
    """The calls of a map over one argument."""
    for item in items:
        yield (item,), {}


def _lazy_calls(
    task_name: str,
    named: list[tuple[str, Any]],
    positional: int,
    keys: list[str],
    constant: Callable[[Any], Any],
) -> Iterator[_Call]:
    """The calls of a map over iterators, each made when it is asked for."""
    lazy = [isinstance(value, Iterator) and _is_iterable(value) for _, value in named]
    values = [
        value if is_lazy else constant(value.value if isinstance(value, unmapped) else value)
        for (_, value), is_lazy in zip(named, lazy, strict=True)
    ]
    end = object()
    for count in itertools.count():
        items = [
            next(value, end) if is_lazy else value
            for value, is_lazy in zip(values, lazy, strict=True)
        ]
        ended = [what for (what, _), item in zip(named, items, strict=True) if item is end]
        if ended:
            if len(ended) < sum(lazy):
                raise UsageError(
                    f"{task_name}.map() got iterators of unequal lengths: {', '.join(ended)} ended "
                    f"after {count}, another goes on; make them equal"
                )
            return
        yield tuple(items[:positional]), dict(zip(keys, items[positional:], strict=True))


def _calls(
    columns: list[list[Any] | None],
    constants: list[Any],
    count: int,
    positional: int,
    keys: list[str],
) -> Iterator[_Call]:
    for index in range(count):
        values = [
            each if column is None else column[index]
            for column, each in zip(columns, constants, strict=True)
        ]
        yield tuple(values[:positional]), dict(zip(keys, values[positional:], strict=True))


def _column(
    value: Any, resolved: list[TaskFuture[Any]], limit: int | None = None
) -> list[Any] | None:
    """The items of an argument that is mapped; None for one that is not."""
    if isinstance(value, allow_failure):
        inner = _column(value.future, resolved) if _is_iterable(value.future) else None
        return None if inner is None else [allow_failure(item) for item in inner]
    if isinstance(value, quote):
        return [quote(item) for item in value.value] if _is_iterable(value.value) else None
    if isinstance(value, TaskFuture):
        result = value.result()
        if not _is_iterable(result):
            return None
        resolved.append(value)
        return list(result)
    if isinstance(value, Iterator) and limit is not None and _is_iterable(value):
        return list(itertools.islice(value, limit + 1))  # one more shows that it is longer
    return list(value) if _is_iterable(value) else None


def _is_iterable(value: Any) -> bool:
    if isinstance(value, (unmapped, str, bytes, bytearray, io.IOBase)):
        return False
    return isinstance(value, Iterable)
