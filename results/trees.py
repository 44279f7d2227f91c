"""Containers and records: tagged JSON, with what JSON cannot hold beside it as further parts.

Without such parts the result is codec ``json`` and its text fits an index row.  With them it is
``tree``: part 0 is the JSON text, then one part for each native value (an Arrow IPC stream), then
the pickle stream and buffers of everything else, pickled together so that shared objects stay
shared; the codec then says ``tree+pickle``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

from daskflow.results.encoded import EncodedValue, Unencodable
from daskflow.results.records import RECORD_TAGS, record_from_json, record_to_json
from daskflow.results.tagged import dump_json, load_json, to_json

__all__ = ["decode_tree", "encode_tree"]

# package -> (module here, writer, reader); looked up by the package of a scalar's class
_SCALARS = {
    "numpy": ("daskflow.results.arrays", "numpy_scalar", "numpy_scalar_from"),
    "pandas": ("daskflow.results.pandas_scalars", "pandas_scalar", "pandas_scalar_from"),
}


class _Leaves:
    """Collects what tagged JSON hands over while it walks a value."""

    def __init__(self, native: Callable[[Any], EncodedValue | None]) -> None:
        self._native = native
        self.natives: list[EncodedValue] = []
        self.pickled: list[Any] = []
        self._kinds: dict[type, int] = {}

    def leaf(self, value: Any) -> Any:
        try:
            found = record_to_json(value, lambda inner: to_json(inner, self.leaf), self._kept)
            if found is None:
                found = self._scalar(value)
        except Unencodable:
            found = None
        if found is not None:
            return found
        if (encoded := self._native(value)) is not None:
            self.natives.append(encoded)
            return {"$": ["native", len(self.natives) - 1]}
        self.pickled.append(value)
        return {"$": ["pickled", len(self.pickled) - 1]}

    def _kept(self, kind: type) -> Any:
        if kind not in self._kinds:
            self._kinds[kind] = len(self.pickled)
            self.pickled.append(kind)
        return {"$": ["class", self._kinds[kind]]}

    def _scalar(self, value: Any) -> Any:
        names = _SCALARS.get(type(value).__module__.partition(".")[0])
        if names is None:
            return None
        return getattr(import_module(names[0]), names[1])(value)


def encode_tree(value: Any, native: Callable[[Any], EncodedValue | None]) -> EncodedValue | None:
    """Return a value as JSON or as a tree; None when pickle holds the whole of it better.

    `native` encodes values that have a codec of their own and returns None for the others.
    """
    leaves = _Leaves(native)
    text = dump_json(value, leaves.leaf)
    if not leaves.natives and not leaves.pickled:
        return EncodedValue("json", {}, text)
    if text == b'{"$":["pickled",0]}':
        return None
    # these load pyarrow and cloudpickle, which small results do not need
    from daskflow.results.parts import parts_table
    from daskflow.results.pickles import to_buffers

    parts = [text, *(_ipc(each.table) for each in leaves.natives)]
    if leaves.pickled:
        parts += to_buffers(leaves.pickled)
    meta = {"natives": [[each.codec, each.meta] for each in leaves.natives]}
    codec = "tree+pickle" if leaves.pickled else "tree"
    return EncodedValue(codec, meta, table=parts_table(parts))


def _ipc(table: Any) -> Any:
    import pyarrow as pa  # heavy; small results do not need it

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def decode_tree(stored: EncodedValue, decode: Callable[[EncodedValue], Any]) -> Any:
    """Return the value that `encode_tree` encoded; `decode` decodes native parts."""
    if stored.table is None:
        return load_json(stored.payload or b"", _tagged)
    # these load pyarrow and cloudpickle, which small results do not need
    from daskflow.results.parts import parts_from_table
    from daskflow.results.pickles import from_buffers

    text, *rest = parts_from_table(stored.table)
    natives = stored.meta.get("natives", [])
    made = [
        decode(EncodedValue(codec, meta, table=_table(part)))
        for (codec, meta), part in zip(natives, rest, strict=False)
    ]

    @cache
    def pickled() -> list[Any]:
        loaded: list[Any] = from_buffers(rest[len(natives) :])
        return loaded

    def resolve(tag: str, inside: list[Any]) -> Any:
        if tag == "native":
            return made[inside[0]]
        if tag == "pickled":
            return pickled()[inside[0]]
        if tag == "class":
            return lambda: pickled()[inside[0]]  # unpickled only where it cannot be imported
        return _tagged(tag, inside)

    return load_json(bytes(text), resolve)


def _table(part: bytearray) -> Any:
    import pyarrow as pa  # heavy; small results do not need it

    return pa.ipc.open_stream(pa.py_buffer(part)).read_all()


def _tagged(tag: str, inside: list[Any]) -> Any:
    if tag in RECORD_TAGS:
        return record_from_json(tag, inside)
    if tag in _SCALARS:
        module, _, reader = _SCALARS[tag]
        return getattr(import_module(module), reader)(*inside)
    raise Unencodable(f"unknown tag {tag!r}")
