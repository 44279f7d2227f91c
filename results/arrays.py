"""numpy arrays as binary rows with dtype, shape and order; numpy scalars as tagged JSON.

Raw bytes, cut into chunks: nothing is converted, so every bit of every dtype without Python
objects comes back, byte order included.  An array that is not contiguous is copied to C order.
"""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from daskflow.results.encoded import EncodedValue, Unencodable
from daskflow.results.parts import parts_from_table, parts_table
from daskflow.results.tagged import to_json

__all__ = ["NumpyCodec", "numpy_scalar", "numpy_scalar_from"]


class NumpyCodec:
    """`numpy.ndarray` of any dtype without Python objects."""

    exact = "bits, dtype with byte order, shape, C or Fortran order; not strides of views"

    def encode(self, value: np.ndarray[Any, Any]) -> EncodedValue:
        """Wrap the array's memory as binary rows."""
        descr = dtype_to_json(value.dtype)
        order = "F" if value.flags.f_contiguous and not value.flags.c_contiguous else "C"
        flat = value.ravel("F" if order == "F" else "C")  # a view when contiguous so
        meta = {"dtype": descr, "shape": list(value.shape), "order": order}
        buffer = flat.view(np.uint8).data if flat.nbytes else b""
        text = f"{value.dtype} {list(value.shape)}"
        return EncodedValue("numpy", meta, table=parts_table([buffer]), schema=text)

    def decode(self, stored: EncodedValue) -> np.ndarray[Any, Any]:
        """Return a fresh writable array."""
        dtype = dtype_from_json(stored.meta["dtype"])
        (buffer,) = parts_from_table(stored.table)
        shape, order = tuple(stored.meta["shape"]), stored.meta["order"]
        if not buffer:
            return np.empty(shape, dtype, order)
        return np.frombuffer(buffer, np.uint8).view(dtype).reshape(shape, order=order)


def dtype_to_json(dtype: np.dtype[Any]) -> Any:
    """Return a dtype as JSON, or raise `Unencodable` for one that would not come back equal."""
    if dtype.hasobject or dtype.metadata:
        raise Unencodable(f"numpy dtype {dtype} holds Python objects or metadata")
    descr = np.lib.format.dtype_to_descr(dtype)
    try:
        same = np.lib.format.descr_to_dtype(descr) == dtype
    except (TypeError, ValueError):
        same = False
    if not same:
        raise Unencodable(f"numpy dtype {dtype} has no portable description")
    return to_json(descr)


def dtype_from_json(found: Any) -> np.dtype[Any]:
    """Return the dtype that `dtype_to_json` described."""
    return np.lib.format.descr_to_dtype(_lists_to_tuples(found))


def _lists_to_tuples(found: Any) -> Any:
    if isinstance(found, dict):
        tag, items = found["$"]
        assert tag == "tuple"
        return tuple(map(_lists_to_tuples, items))
    return list(map(_lists_to_tuples, found)) if isinstance(found, list) else found


def numpy_scalar(value: Any) -> Any:
    """Return a numpy scalar as tagged JSON, its dtype and its bytes; None for other values."""
    if not isinstance(value, np.generic):
        return None
    if value.dtype.kind in "SUV":
        raise Unencodable("numpy drops trailing zeros of its own strings")
    data = base64.b64encode(value.tobytes()).decode()
    return {"$": ["numpy", dtype_to_json(value.dtype), data]}


def numpy_scalar_from(descr: Any, data: str) -> np.generic:
    """Return the scalar that `numpy_scalar` wrote."""
    dtype = np.lib.format.descr_to_dtype(descr)
    scalar: np.generic = np.frombuffer(base64.b64decode(data), dtype)[0]
    return scalar
