"""Replace objects inside plain containers without touching the caller's ones.

Used where arguments are handed over live, without pickling: tasks in the flow process.  Looks into
list, tuple, namedtuple, set, frozenset, dict, dataclass instances and pydantic models, to a bounded
depth; a container in which nothing was replaced is handed on as the same object.  An object that is
met again, in a cycle too, is looked into once.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

__all__ = ["MAX_DEPTH", "replace_inside"]

MAX_DEPTH = 50
_PLAIN = frozenset({int, float, bool, str, bytes, complex, type(None)})
_Replace = Callable[[Any], Any]
_Seen = dict[int, tuple[Any, Any]]  # by id: the object, to keep its id its own, and its stand-in


def replace_inside(value: Any, replace: _Replace, depth: int = MAX_DEPTH) -> Any:
    """Return `value` with every object inside it passed through `replace`.

    Parameters
    ----------
    value : object
    replace : callable
        Gets an object and returns another one in its place, or the same one to look inside it.
        Not asked about numbers, texts, bytes and None.
    depth : int
        How many containers deep to look.
    """
    return value if type(value) in _PLAIN else _replaced(value, replace, depth, {})


def _replaced(value: Any, replace: _Replace, depth: int, seen: _Seen) -> Any:
    kind = type(value)
    if kind in _PLAIN:
        return value
    new = replace(value)
    if new is not value or depth <= 0:
        return new
    rebuild = _rebuilder(value, kind)
    if rebuild is None:
        return value
    met = seen.get(id(value))
    if met is not None:
        return met[1]
    seen[id(value)] = (value, value)  # a cycle comes back to the object as it was
    new = rebuild(value, lambda item: _replaced(item, replace, depth - 1, seen))
    seen[id(value)] = (value, new)
    return new


def _rebuilder(value: Any, kind: type) -> Callable[[Any, _Replace], Any] | None:
    if isinstance(value, list):
        return _list
    if isinstance(value, tuple):
        return _tuple
    if isinstance(value, dict):
        return _dict
    if kind in (set, frozenset):
        return _set
    if isinstance(value, type):
        return None
    if dataclasses.is_dataclass(kind):
        return _dataclass
    return _model if hasattr(kind, "model_fields") and hasattr(kind, "model_copy") else None


def _changed(items: list[Any], old: Any) -> bool:
    return any(a is not b for a, b in zip(items, old, strict=True))


def _list(value: list[Any], each: _Replace) -> Any:
    items = [each(item) for item in value]
    return items if _changed(items, value) else value  # a FutureList becomes a plain list


def _tuple(value: tuple[Any, ...], each: _Replace) -> Any:
    items = [each(item) for item in value]
    if not _changed(items, value):
        return value
    kind: Any = type(value)
    return kind(*items) if hasattr(kind, "_fields") else kind(items)


def _set(value: set[Any] | frozenset[Any], each: _Replace) -> Any:
    old = list(value)
    items = [each(item) for item in old]
    return type(value)(items) if _changed(items, old) else value


def _dict(value: dict[Any, Any], each: _Replace) -> Any:
    keys, items = [each(key) for key in value], [each(item) for item in value.values()]
    if not (_changed(keys, value) or _changed(items, value.values())):
        return value
    new = {} if type(value) is dict else copy.copy(value)  # a defaultdict keeps its factory
    new.clear()
    new.update(zip(keys, items, strict=True))
    return new


def _dataclass(value: Any, each: _Replace) -> Any:
    changed = _changed_fields(value, [field.name for field in dataclasses.fields(value)], each)
    if not changed:
        return value
    new = copy.copy(value)  # not `dataclasses.replace`: __init__ may want what is no field
    for name, item in changed.items():
        object.__setattr__(new, name, item)  # a frozen one too
    return new


def _model(value: Any, each: _Replace) -> Any:
    changed = _changed_fields(value, list(type(value).model_fields), each)
    return value.model_copy(update=changed) if changed else value


def _changed_fields(value: Any, names: list[str], each: _Replace) -> dict[str, Any]:
    changed = {}
    for name in names:
        old = getattr(value, name, None)
        new = each(old)
        if new is not old:
            changed[name] = new
    return changed
