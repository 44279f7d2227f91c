"""The calls that `task.map` makes of its arguments: one per item, constants in every one.

As in Prefect: what can be iterated is mapped, but for texts, bytes and open files; `unmapped` says
that a value is a constant although it can be iterated; `allow_failure` and `quote` around an
iterable go to each of its items.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from daskflow.errors import UsageError
from daskflow.runner.futures import TaskFuture, allow_failure, quote, unmapped

__all__ = ["MappedCalls", "map_calls"]

_Call = tuple[tuple[Any, ...], dict[str, Any]]


class MappedCalls(NamedTuple):
    """What a `map` submits."""

    calls: Iterator[_Call]
    resolved: list[TaskFuture[Any]]  # futures whose results were iterated: every call needs them


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
    columns = [_column(value, resolved) for _, value in named]
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
    constants = [
        constant(value.value if isinstance(value, unmapped) else value)
        if column is None and count
        else None
        for (_, value), column in zip(named, columns, strict=True)
    ]
    return MappedCalls(_calls(columns, constants, count, len(args), list(kwargs)), resolved)


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


def _column(value: Any, resolved: list[TaskFuture[Any]]) -> list[Any] | None:
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
    return list(value) if _is_iterable(value) else None


def _is_iterable(value: Any) -> bool:
    if isinstance(value, (unmapped, str, bytes, bytearray, io.IOBase)):
        return False
    return isinstance(value, Iterable)
