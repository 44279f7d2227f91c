"""Pickle as the last resort: cloudpickle, protocol 5, large buffers out of band.

The stream and each buffer are parts of one table of binary rows, so arrays and frames inside an
object are written without another copy and come back writable.  Loading a pickle runs code that
the stored file names: only stores that are trusted or sealed with a secret may do it.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any

import cloudpickle

from daskflow.results.encoded import EncodedValue, Unencodable
from daskflow.results.parts import parts_from_table, parts_table

__all__ = ["PickleCodec", "from_buffers", "to_buffers"]


class PickleCodec:
    """Any object that cloudpickle can write."""

    exact = "what the object's own pickling keeps"

    def encode(self, value: Any) -> EncodedValue:
        """Pickle a value; what cannot be pickled raises `Unencodable` with the reason."""
        return EncodedValue("pickle", {}, table=parts_table(to_buffers(value)))

    def decode(self, stored: EncodedValue) -> Any:
        """Unpickle; the caller has made sure that it may."""
        return from_buffers(parts_from_table(stored.table))


def to_buffers(value: Any) -> list[bytes | memoryview]:
    """Return the pickle stream and the buffers beside it."""
    buffers: list[pickle.PickleBuffer] = []
    try:
        stream = cloudpickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    except Exception as error:  # whatever an object's own code raises, it means the same
        kind = type(value)
        raise Unencodable(
            f"a result of type {kind.__module__}.{kind.__qualname__} cannot be stored: {error}"
        ) from error
    return [stream, *(buffer.raw() for buffer in buffers)]


def from_buffers(parts: Sequence[bytearray]) -> Any:
    """Return the object; its buffers become its own memory."""
    stream, *buffers = parts
    return pickle.loads(stream, buffers=buffers)
