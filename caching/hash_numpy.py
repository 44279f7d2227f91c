"""Handlers of numpy values: dtype, shape and content; strides, order and padding do not count."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from daskflow.caching.hash_containers import put_mapping, put_sequence
from daskflow.caching.hash_writer import ContentWriter, Handler, NoContent, tag, type_name

__all__ = ["handler_of", "put_array", "put_dtype"]

_ARRAY, _DTYPE, _SCALAR = tag("ndarray"), tag("dtype"), tag("numpy scalar")
# Arrays that are not contiguous are copied in pieces of about this size.
_PIECE_BYTES = 4 << 20
_LONG = np.dtype(np.longdouble)
# An 80-bit number fills 16 bytes on x86; what is in the other six is chance.
_LONG_BYTES = 10 if _LONG.itemsize == 16 and np.finfo(np.longdouble).nmant == 63 else 0


def handler_of(kind: type) -> Handler | None:
    """Return the handler of a numpy type or of a subclass of one, else None."""
    if kind in (np.ndarray, np.memmap):
        return put_array
    if issubclass(kind, np.ma.MaskedArray):
        return _masked
    if issubclass(kind, np.ndarray):
        return _subclass
    if issubclass(kind, np.generic):
        return _scalar
    if issubclass(kind, np.dtype):
        return lambda w, value: put_dtype(w, value)
    if issubclass(kind, np.ufunc):
        return _ufunc
    if issubclass(kind, np.random.Generator):
        return _generator
    if issubclass(kind, np.random.RandomState):
        return _random_state
    return None


def put_dtype(w: ContentWriter, dtype: np.dtype[Any]) -> None:
    """Write a dtype: its fields by name, wherever they lie."""
    w.out.append(_DTYPE)
    if dtype.names is not None and dtype.fields is not None:
        w.put(dtype.names)
        for name in dtype.names:
            put_dtype(w, dtype.fields[name][0])
    elif dtype.subdtype is not None:
        w.put(dtype.subdtype[1])
        put_dtype(w, dtype.subdtype[0])
    elif dtype.kind == "T":
        w.put(str(dtype))
        w.put(getattr(dtype, "na_object", None))
    else:
        w.put(dtype.str)


def put_array(w: ContentWriter, array: np.ndarray[Any, Any]) -> None:
    """Write an array; object arrays element by element."""
    if array.dtype.hasobject:
        w.nest(array, _write_objects)
        return
    w.out.append(_ARRAY)
    put_dtype(w, array.dtype)
    w.put(array.shape)
    put_elements(w, array)


def _write_objects(w: ContentWriter, array: np.ndarray[Any, Any]) -> None:
    w.out.append(_ARRAY)
    put_dtype(w, array.dtype)
    w.put(array.shape)
    put_elements(w, array)


def put_elements(w: ContentWriter, array: np.ndarray[Any, Any]) -> None:
    """Write the elements in C order, whatever their order in memory."""
    dtype = array.dtype
    if dtype.names is not None:
        # Field by field: the gaps between them hold whatever was there before.
        for name in dtype.names:
            put_elements(w, array[name])
    elif dtype.hasobject or dtype.kind == "T":
        put_sequence(w, array.reshape(-1).tolist())
    elif array.size == 0 or dtype.itemsize == 0:
        return
    elif _LONG_BYTES and dtype.type in (np.longdouble, np.clongdouble):
        halves = np.ascontiguousarray(array).reshape(-1).view(np.uint8).reshape(-1, 16)
        w.buffer(np.ascontiguousarray(halves[:, :_LONG_BYTES]).reshape(-1).data)
    elif array.flags.c_contiguous:
        w.buffer(_bytes(array))
    elif array.nbytes <= _PIECE_BYTES:
        w.buffer(_bytes(np.ascontiguousarray(array)))
    else:
        w.out.append(array.nbytes.to_bytes(8, "little"))
        w.out.append(w.tree(_pieces(array)))


def _bytes(array: np.ndarray[Any, Any]) -> memoryview:
    return array.reshape(-1).view(np.uint8).data.toreadonly()


def _pieces(array: np.ndarray[Any, Any]) -> Iterator[memoryview]:
    """Yield the bytes in C order, copied a few megabytes at a time."""
    rows = max(1, _PIECE_BYTES * len(array) // array.nbytes)
    for at in range(0, len(array), rows):
        part = array[at : at + rows]
        if part.nbytes > 2 * _PIECE_BYTES and part.ndim > 1:
            for row in part:
                yield from _pieces(row)
        else:
            yield _bytes(np.ascontiguousarray(part))


def _masked(w: ContentWriter, array: np.ma.MaskedArray[Any, Any]) -> None:
    def write(w: ContentWriter, array: np.ma.MaskedArray[Any, Any]) -> None:
        w.out.append(tag("masked array") + tag(type_name(type(array))))
        mask: Any = np.ma.getmaskarray(array)
        data: Any = np.array(array.data, copy=True)
        if data.dtype.names is None:
            data[mask] = np.zeros((), data.dtype)
        else:
            for name in data.dtype.names:
                data[name][mask[name]] = np.zeros((), data.dtype[name])
        put_array(w, data)
        put_array(w, mask)
        put_array(w, np.asarray(array.fill_value))

    w.nest(array, write)


def _subclass(w: ContentWriter, array: np.ndarray[Any, Any]) -> None:
    def write(w: ContentWriter, array: np.ndarray[Any, Any]) -> None:
        w.out.append(tag("subclass") + tag(type_name(type(array))))
        put_array(w, array.view(np.ndarray))
        w.out.append(tag("state"))
        put_mapping(w, dict(getattr(array, "__dict__", {})))

    w.nest(array, write)


def _scalar(w: ContentWriter, value: np.generic) -> None:
    w.out.append(_SCALAR)
    if type(value).__module__.partition(".")[0] != "numpy":
        w.out.append(tag(type_name(type(value))))
    array = np.asarray(value)
    put_dtype(w, array.dtype)
    put_elements(w, array)


def _ufunc(w: ContentWriter, value: np.ufunc) -> None:
    if getattr(np, value.__name__, None) is not value:
        raise NoContent(f"is the ufunc {value.__name__!r}, which is not numpy's own")
    w.out.append(tag("ufunc"))
    w.put(value.__name__)


def _generator(w: ContentWriter, value: np.random.Generator) -> None:
    w.out.append(tag("random generator"))
    w.put(dict(value.bit_generator.state))


def _random_state(w: ContentWriter, value: np.random.RandomState) -> None:
    w.out.append(tag("random state"))
    w.put(value.get_state(legacy=False))
