"""The state of an object: its attributes, in ``__dict__`` and in slots, by name."""

from __future__ import annotations

import functools
from typing import Any

from daskflow.caching.hash_writer import ContentWriter, NoContent, tag

__all__ = ["attributes", "cached_properties", "put_parts", "put_state", "slots_of"]

_MISSING = object()


def put_parts(w: ContentWriter, names: tuple[str, ...], values: tuple[Any, ...]) -> None:
    """Write values that are attributes; an error names the attribute."""
    try:
        for value in values:
            w.put(value)
    except NoContent as lack:
        at = next(at for at, each in enumerate(values) if each is value)
        raise lack.within(f".{names[at]}") from None


def slots_of(kind: type) -> tuple[str, ...]:
    """Return the names in a class's own ``__slots__``."""
    slots = kind.__dict__.get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


def attributes(value: Any) -> dict[str, Any]:
    """Return the attributes of an instance, those in slots included, without cached properties."""
    kind = type(value)
    cached = cached_properties(kind)
    found = {k: v for k, v in getattr(value, "__dict__", {}).items() if k not in cached}
    for base in kind.__mro__:
        for name in slots_of(base):
            if name in ("__dict__", "__weakref__"):
                continue
            hidden = name.startswith("__") and not name.endswith("__")
            name = f"_{base.__name__.lstrip('_')}{name}" if hidden else name
            part = getattr(value, name, _MISSING)
            if part is not _MISSING:
                found[name] = part
    return found


def cached_properties(kind: Any) -> frozenset[str]:
    """Return the names of cached properties: what they hold follows from the rest."""
    return frozenset(
        name
        for base in kind.__mro__
        for name, member in vars(base).items()
        if isinstance(member, functools.cached_property)
    )


def put_state(w: ContentWriter, state: Any) -> None:
    """Write an object's state, attribute by attribute when it is a dict of them."""
    if type(state) is not dict or not all(type(name) is str for name in state):
        w.put(state)
        return
    w.out.append(tag("state"))
    names = sorted(state)
    w.put(names)
    put_parts(w, tuple(names), tuple(state[name] for name in names))
