"""Arguments on their way in and results on their way out of a task run, as bytes or live.

An argument that was a future pickles as a call of `bound_value` with its slot; unpickling inside
`binding` puts the input's value in its place, at any depth of any object.  Results of plain types
ride as they are, other small ones as bytes of their own, large ones stay on the worker as a key.
"""

from __future__ import annotations

import contextlib
import pickle
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cloudpickle

from daskflow.runner.cluster.executor.structure import replace_inside
from daskflow.runner.cluster.protocol import (
    BOUND_ERROR,
    BOUND_INPUT,
    BOUND_INPUT_BYTES,
    BOUND_LIVE,
    BOUND_LOCAL,
    BOUND_NOTHING,
    BOUND_PICKLED,
    BOUND_PLAIN,
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
]

_bound = threading.local()


class MissingInput(Exception):
    """An input that was to come from the same parcel has not ended well."""


class Slot:
    """Stands for the value of an input inside live arguments."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number


def bound_value(slot: int) -> Any:
    """The value of input `slot` of the task run whose arguments are being unpickled."""
    return _bound.values[slot]


@contextlib.contextmanager
def _binding(values: Sequence[Any]) -> Iterator[None]:
    outer = getattr(_bound, "values", ())
    _bound.values = values
    try:
        yield
    finally:
        _bound.values = outer


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
        When an input was to come from this parcel and did not.
    """
    values: list[Any] = []
    for tag, value in bindings:
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
        else:
            assert tag == BOUND_NOTHING
            values.append(None)
    return values


def decode_arguments(payload: Any, values: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Turn a payload into ``(args, kwargs)`` with all inputs in their places."""
    if type(payload) is bytes:
        with _binding(values):
            return pickle.loads(payload)  # type: ignore[no-any-return]
    if not values:
        return payload  # type: ignore[no-any-return]

    def fill(item: Any) -> Any:
        return values[item.number] if type(item) is Slot else item

    return replace_inside(payload, fill)  # type: ignore[no-any-return]


def encode_result(
    value: Any, keep: Callable[[Any, int], str] | None
) -> tuple[int, Any, int | None]:
    """How a result travels: ``(binding tag, value, bytes)``.

    Parameters
    ----------
    value : object
        What the task returned.
    keep : callable or None
        Keeps a large value on this worker and returns its Dask key; gets the value and its size
        in bytes.  None when worker and flow share a process: then nothing is pickled at all.

    Raises
    ------
    Exception
        Whatever pickling `value` raises.
    """
    kind = type(value)
    if kind in PLAIN_TYPES and (kind not in (str, bytes) or len(value) <= INLINE_LIMIT):
        return BOUND_PLAIN, value, None
    if keep is None:
        return BOUND_LIVE, value, None
    from dask.sizeof import sizeof  # only workers get here, and there Dask is loaded already

    size = sizeof(value)
    if size <= INLINE_LIMIT:
        blob = dumps(value)
        if len(blob) <= INLINE_LIMIT:
            return BOUND_PICKLED, blob, len(blob)
        size = len(blob)
    return BOUND_INPUT, keep(value, size), size
