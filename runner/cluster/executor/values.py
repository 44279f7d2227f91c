"""Arguments on their way in and results on their way out of a task run, as bytes or live.

An argument that was a future pickles as a call of `bound_value` with its slot; unpickling inside
`binding` puts the input's value in its place, at any depth of any object.  Results of plain types
ride as they are, other small ones as bytes of their own, large ones stay on the worker as a key:
those are tried for whether they can leave it, because nobody could fetch one that cannot.
"""

from __future__ import annotations

import functools
import pickle
import threading
from collections.abc import Callable, Sequence
from typing import Any

import cloudpickle

from daskflow.errors import StoreError
from daskflow.runner.cluster.executor.structure import MAX_DEPTH, replace_inside
from daskflow.runner.cluster.protocol import (
    BOUND_ERROR,
    BOUND_INPUT,
    BOUND_INPUT_BYTES,
    BOUND_LIVE,
    BOUND_LOCAL,
    BOUND_NOTHING,
    BOUND_PICKLED,
    BOUND_PLAIN,
    BOUND_STORED,
    INLINE_LIMIT,
    PLAIN_TYPES,
)

__all__ = [
    "MissingInput",
    "Slot",
    "bind",
    "bound_value",
    "decode_arguments",
    "dumps",
    "encode_result",
    "is_small",
]

_bound = threading.local()
_TABLES = frozenset({"numpy", "pandas", "polars", "pyarrow"})


class MissingInput(Exception):
    """An input cannot be had here.

    Attributes
    ----------
    slot : int or None
        Which one, when it is gone from its result store; None when it was to come from the same
        parcel and has not ended well.
    """

    def __init__(self, slot: int | None = None) -> None:
        super().__init__(slot)
        self.slot = slot


class Slot:
    """Stands for the value of an input inside live arguments."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number


def bound_value(slot: int) -> Any:
    """The value of input `slot` of the task run whose arguments are being unpickled."""
    return _bound.values[slot]


def dumps(value: Any) -> bytes:
    """Pickle `value`, by value where it is defined in ``__main__`` or cannot be imported."""
    try:
        blob = pickle.dumps(value, 5)
    except Exception:  # lambdas, local classes, anything that only cloudpickle takes
        return cloudpickle.dumps(value, 5)  # type: ignore[no-any-return]
    if b"__main__" in blob:  # the worker's __main__ is another one
        return cloudpickle.dumps(value, 5)  # type: ignore[no-any-return]
    return blob


def bind(
    bindings: Sequence[tuple[int, Any]], inputs: Sequence[Any], local: dict[int, tuple[int, Any]]
) -> list[Any]:
    """Values of all inputs of a task run, by slot.

    Raises
    ------
    MissingInput
        When an input was to come from this parcel and did not, or is gone from its store.
    """
    values: list[Any] = []
    for slot, (tag, value) in enumerate(bindings):
        if tag == BOUND_LOCAL:
            found = local.get(value)
            if found is None:
                raise MissingInput
            tag, value = found
        if tag in (BOUND_PLAIN, BOUND_LIVE):
            values.append(value)
        elif tag in (BOUND_PICKLED, BOUND_ERROR):
            values.append(pickle.loads(value))
        elif tag == BOUND_INPUT:
            values.append(inputs[value])
        elif tag == BOUND_INPUT_BYTES:
            values.append(pickle.loads(inputs[value]))
        elif tag == BOUND_STORED:
            values.append(_stored(value, slot))
        else:
            assert tag == BOUND_NOTHING
            values.append(None)
    return values


def _stored(ref: Any, slot: int) -> Any:
    try:
        return ref.load()
    except StoreError as error:  # gone, damaged, or its storage is away: it is made again
        raise MissingInput(slot) from error


def decode_arguments(payload: Any, values: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Turn a payload into ``(args, kwargs)`` with all inputs in their places."""
    if type(payload) is bytes:
        if not values:
            return pickle.loads(payload)  # type: ignore[no-any-return]
        outer = getattr(_bound, "values", ())
        _bound.values = values
        try:
            return pickle.loads(payload)  # type: ignore[no-any-return]
        finally:
            _bound.values = outer
    if not values:
        return payload  # type: ignore[no-any-return]

    def fill(item: Any) -> Any:
        return values[item.number] if type(item) is Slot else item

    # the payload's two own containers come on top of the depth at which futures were found
    return replace_inside(payload, fill, MAX_DEPTH + 2)  # type: ignore[no-any-return]


def encode_result(value: Any, *, live: bool) -> tuple[int, Any, int | None]:
    """How a result travels: ``(binding tag, value, bytes)``.

    Parameters
    ----------
    value : object
        What the task returned.
    live : bool
        Worker and flow share a process: nothing is pickled at all.

    Returns
    -------
    tuple
        With tag `BOUND_INPUT` the value itself and its size: it is large, and the caller keeps it
        on the worker under a key.

    Raises
    ------
    BaseException
        Whatever pickling `value` raises.
    """
    kind = type(value)
    if kind in PLAIN_TYPES:
        size = _plain_size(value)
        if size <= INLINE_LIMIT:
            return BOUND_PLAIN, value, size or None
        return (BOUND_LIVE, value, None) if live else (BOUND_INPUT, value, size)
    if live:
        return BOUND_LIVE, value, None
    size = _size(value)
    if size <= INLINE_LIMIT:
        blob = dumps(value)
        if len(blob) <= INLINE_LIMIT:
            return BOUND_PICKLED, blob, len(blob)
        return BOUND_INPUT, value, len(blob)
    if not _surely_pickles(value):
        _try_pickling(value)
    return BOUND_INPUT, value, size


def is_small(value: Any) -> bool:
    """Whether encoding `value` takes microseconds, as far as can be told beforehand."""
    size = _plain_size(value) if type(value) in PLAIN_TYPES else _size(value)
    return size <= INLINE_LIMIT


def _plain_size(value: Any) -> int:
    """Bytes of a plain value, as far as they matter; 0 for small numbers."""
    kind = type(value)
    if kind is str or kind is bytes:
        return len(value)
    return value.bit_length() // 8 if kind is int else 0


def _size(value: Any) -> int:
    """About how many bytes `value` takes; 0 when it cannot be told without pickling it."""
    try:
        return int(_sizeof()(value))
    except Exception:  # cyclic containers, broken __sizeof__ and nbytes of user classes
        return 0


@functools.cache
def _sizeof() -> Callable[[Any], int]:
    from dask.sizeof import sizeof  # only workers get here, and there Dask is loaded already

    return sizeof


def _surely_pickles(value: Any) -> bool:
    """Tables and arrays: not tried, since a trial would take as long as sending them."""
    room = type(value).__module__.partition(".")[0]
    return room in _TABLES and not getattr(getattr(value, "dtype", None), "hasobject", False)


class _Nowhere:
    """A file that forgets what is written to it."""

    def write(self, data: Any) -> int:
        return len(data)


def _try_pickling(value: Any) -> None:
    try:
        pickle.Pickler(_Nowhere(), 5, buffer_callback=_leave_out).dump(value)
    except Exception:  # lambdas, local classes, anything that only cloudpickle takes
        cloudpickle.Pickler(_Nowhere(), 5, buffer_callback=_leave_out).dump(value)


def _leave_out(buffer: pickle.PickleBuffer) -> bool:
    """Keep a buffer out of the stream: it is not copied."""
    return False
