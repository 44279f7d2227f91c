"""Replace objects inside plain containers without touching the caller's ones.

Used where arguments are handed over live, without pickling: tasks in the flow process.  Looks into
list, tuple, namedtuple, set, frozenset, dict, dataclass instances and pydantic models, to a bounded
depth; a container in which nothing was replaced is handed on as the same object.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

__all__ = ["MAX_DEPTH", "replace_inside"]

MAX_DEPTH = 50


def replace_inside(value: Any, replace: Callable[[Any], Any], depth: int = MAX_DEPTH) -> Any:
    """Return `value` with every object inside it passed through `replace`.

    Parameters
    ----------
    value : object
    replace : callable
        Gets an object and returns another one in its place, or the same one to look inside it.
    depth : int
        How many containers deep to look.
    """
    new = replace(value)
    if new is not value or depth <= 0:
        return new
    kind = type(value)
    if kind in (set, frozenset) or isinstance(value, (list, tuple)):
        items = [replace_inside(item, replace, depth - 1) for item in value]
        if all(a is b for a, b in zip(items, value, strict=True)):
            return value
        if isinstance(value, list):
            return items  # a FutureList becomes a plain list of results
        return kind(*items) if hasattr(kind, "_fields") else kind(items)
    if kind is dict:
        pairs = [
            (replace_inside(key, replace, depth - 1), replace_inside(item, replace, depth - 1))
            for key, item in value.items()
        ]
        same = all(k is a and v is b for (k, v), (a, b) in zip(pairs, value.items(), strict=True))
        return value if same else dict(pairs)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value) if field.init]
        return _replace_fields(value, names, replace, depth, dataclasses.replace)
    if hasattr(kind, "model_fields") and hasattr(value, "model_copy"):
        return _replace_fields(
            value,
            list(kind.model_fields),
            replace,
            depth,
            lambda v, **new: v.model_copy(update=new),
        )
    return value


def _replace_fields(
    value: Any,
    names: list[str],
    replace: Callable[[Any], Any],
    depth: int,
    rebuild: Callable[..., Any],
) -> Any:
    changed = {}
    for name in names:
        old = getattr(value, name)
        new = replace_inside(old, replace, depth - 1)
        if new is not old:
            changed[name] = new
    return rebuild(value, **changed) if changed else value
