"""Handlers of the standard library's containers: order counts where equality says it does."""

from __future__ import annotations

import collections
import marshal
import types
from collections.abc import Iterable
from typing import Any

from daskflow.caching.hash_writer import ATOMS, ContentWriter, Handler, NoContent, handlers, tag

__all__ = ["BUILTIN", "put_mapping", "put_pairs", "put_sequence", "put_set"]

dumps = marshal.dumps
_ORDERED_KEYS: tuple[set[type], ...] = ({str}, {int}, {bytes})
_LIST, _TUPLE, _DEQUE = tag("list"), tag("tuple"), tag("deque")
_ATOMS, _DICT, _SET, _FROZENSET = tag("atoms"), tag("dict"), tag("set"), tag("frozenset")
# Nothing that marshal copies may be large: bytes go one by one, where large ones are hashed alone.
_FLAT = ATOMS - {bytes}
_NAMES = frozenset({str})
_SHORT = ATOMS - {bytes, str}
_INLINE_BYTES = 4096


def put_sequence(w: ContentWriter, items: list[Any] | tuple[Any, ...]) -> None:
    """Write the elements of a list or tuple in order; atoms alone in one go."""
    if _FLAT.issuperset(map(type, items)):
        written = dumps(items, 2)
        w.out.append(_ATOMS)
        if len(written) <= _INLINE_BYTES:
            w.out.append(written)
        else:
            w.buffer(written)
        return
    w.out.append(len(items).to_bytes(8, "little"))
    put, append = w.put, w.out.append
    try:
        for item in items:
            append(dumps(item, 2)) if type(item) in _SHORT else put(item)
    except NoContent as lack:
        raise lack.within(f"[{_position(items, item)}]") from None


def _position(items: Iterable[Any], wanted: Any) -> int:
    return next(at for at, item in enumerate(items) if item is wanted)


def _sequence(opening: bytes) -> Handler:
    def write(w: ContentWriter, items: Any) -> None:
        w.out.append(opening)
        put_sequence(w, items)

    flat = opening + _ATOMS

    def handle(w: ContentWriter, items: Any) -> None:
        # Atoms alone can neither be a cycle nor cost much: they skip the memo.
        if not _FLAT.issuperset(map(type, items)):
            w.nest(items, write)
            return
        written = dumps(items, 2)
        if len(written) <= _INLINE_BYTES:
            w.out.append(flat + written)
        else:
            w.out.append(flat)
            w.buffer(written)

    return handle


def _write_deque(w: ContentWriter, items: collections.deque[Any]) -> None:
    w.out.append(_DEQUE)
    w.put(items.maxlen)
    put_sequence(w, list(items))


def put_mapping(w: ContentWriter, mapping: dict[Any, Any]) -> None:
    """Write the items of a dict, whatever their order."""
    if not _NAMES.issuperset(map(type, mapping)):
        _put_unordered(w, mapping)
    elif _FLAT.issuperset(map(type, mapping.values())):
        names = sorted(mapping)
        w.out.append(dumps(names, 2))
        w.out.append(_ATOMS)
        w.out.append(dumps([mapping[name] for name in names], 2))
    else:
        _put_named(w, mapping)


def _put_named(w: ContentWriter, mapping: dict[str, Any]) -> None:
    """Write the items of a dict whose keys are all text, and whose values are not all atoms."""
    names = sorted(mapping)
    append, find = w.out.append, handlers.get
    append(dumps(names, 2))
    try:
        for name in names:
            value = mapping[name]
            kind = type(value)
            if kind in _SHORT:
                append(dumps(value, 2))
            elif w.kinds is None and (write := find(kind)) is not None:
                write(w, value)  # as `put` would, a call less
            else:
                w.put(value)
    except NoContent as lack:
        raise lack.within(f"[{name!r}]") from None


def _put_unordered(w: ContentWriter, mapping: dict[Any, Any]) -> None:
    w.out.append(len(mapping).to_bytes(8, "little"))
    pairs = []
    try:
        for key, value in mapping.items():
            pairs.append((w.item(key), w.item(value)))
    except NoContent as lack:
        raise lack.within(f"[{_short(key)}]") from None
    for written_key, written_value in sorted(pairs):
        w.out.append(written_key)
        w.out.append(written_value)


def _short(key: Any) -> str:
    return repr(key) if type(key) in ATOMS else f"<{type(key).__qualname__}>"


def put_pairs(w: ContentWriter, mapping: dict[Any, Any]) -> None:
    """Write the items of a mapping in its order."""
    w.out.append(len(mapping).to_bytes(8, "little"))
    try:
        for key, value in mapping.items():
            w.put(key)
            w.put(value)
    except NoContent as lack:
        raise lack.within(f"[{_short(key)}]") from None


def put_set(w: ContentWriter, members: set[Any] | frozenset[Any]) -> None:
    """Write the members of a set, whatever their order."""
    if set(map(type, members)) in _ORDERED_KEYS:
        put_sequence(w, sorted(members))
        return
    w.out.append(len(members).to_bytes(8, "little"))
    try:
        written = [w.item(member) for member in members]
    except NoContent as lack:
        raise lack.within("{…}") from None
    w.out.extend(sorted(written))


def _write_dict(w: ContentWriter, mapping: dict[Any, Any]) -> None:
    w.out.append(_DICT)
    put_mapping(w, mapping)


def _write_set(w: ContentWriter, members: set[Any]) -> None:
    w.out.append(_SET)
    put_set(w, members)


def _write_frozenset(w: ContentWriter, members: frozenset[Any]) -> None:
    w.out.append(_FROZENSET)
    put_set(w, members)


def _write_ordered(w: ContentWriter, mapping: collections.OrderedDict[Any, Any]) -> None:
    w.out.append(tag("OrderedDict"))
    put_pairs(w, mapping)


def _write_defaults(w: ContentWriter, mapping: collections.defaultdict[Any, Any]) -> None:
    w.out.append(tag("defaultdict"))
    try:
        w.put(mapping.default_factory)
    except NoContent as lack:
        raise lack.within(".default_factory") from None
    put_mapping(w, mapping)


def _write_counter(w: ContentWriter, mapping: collections.Counter[Any]) -> None:
    w.out.append(tag("Counter"))
    put_mapping(w, mapping)


def _write_proxy(w: ContentWriter, mapping: types.MappingProxyType[Any, Any]) -> None:
    w.out.append(tag("mappingproxy"))
    put_mapping(w, dict(mapping))


def _write_namespace(w: ContentWriter, value: types.SimpleNamespace) -> None:
    w.out.append(tag("SimpleNamespace"))
    put_mapping(w, vars(value))


def _handle_dict(w: ContentWriter, mapping: dict[Any, Any]) -> None:
    if not _NAMES.issuperset(map(type, mapping)):
        w.nest(mapping, _write_dict)
    elif _FLAT.issuperset(map(type, mapping.values())):
        names = sorted(mapping)
        values = [mapping[name] for name in names]
        w.out.append(_DICT + dumps(names, 2) + _ATOMS + dumps(values, 2))
    else:
        w.nest(mapping, _write_named)


def _write_named(w: ContentWriter, mapping: dict[str, Any]) -> None:
    w.out.append(_DICT)
    _put_named(w, mapping)


def _nested(write: Handler) -> Handler:
    return lambda w, value: w.nest(value, write)


BUILTIN: dict[type, Handler] = {
    list: _sequence(_LIST),
    tuple: _sequence(_TUPLE),
    dict: _handle_dict,
    set: _nested(_write_set),
    frozenset: _nested(_write_frozenset),
    collections.deque: _nested(_write_deque),
    collections.OrderedDict: _nested(_write_ordered),
    collections.defaultdict: _nested(_write_defaults),
    collections.Counter: _nested(_write_counter),
    types.MappingProxyType: _nested(_write_proxy),
    types.SimpleNamespace: _nested(_write_namespace),
}
