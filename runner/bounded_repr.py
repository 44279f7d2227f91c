"""What a value looks like in the record, in time and space that do not grow with the value.

A frame of a gigabyte, a list of ten million numbers and a model that holds one are parameters like
others.  So nothing large is asked for its repr: containers are cut, and what has a shape or a
length is named by it.  The repr of any other object is its class's own affair, and is cut.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

__all__ = ["bounded", "bounded_repr"]

MOST_ITEMS = 1000  # of a container
MOST_TEXT = 20_000  # of a text among plain values
MOST_REPR = 500
_DEPTH = 20
_FEW = 20  # a thing of that many elements may show them
_ATOMS = (int, float, bool, type(None))
_BRACKETS: dict[type, tuple[str, str]] = {
    dict: ("{", "}"),
    list: ("[", "]"),
    tuple: ("(", ")"),
    set: ("{", "}"),
    frozenset: ("frozenset({", "})"),
}


def bounded(value: Any, depth: int = _DEPTH) -> Any:
    """Return plain values with what is too much cut off and counted; others as they are.

    Parameters
    ----------
    value : object
        Only dicts, lists, tuples and texts are looked into; they are not changed.
    depth : int
        Levels of containers that are looked into.
    """
    if isinstance(value, str):
        over = len(value) - MOST_TEXT
        return value if over <= 0 else f"{value[:MOST_TEXT]}… {over} more characters"
    if depth and type(value) is dict:
        first = islice(value.items(), MOST_ITEMS)
        items = {_name(key): bounded(item, depth - 1) for key, item in first}
        return items if len(items) == len(value) else items | {"…": _more(value)}
    if depth and type(value) in (list, tuple):
        if len(value) <= MOST_ITEMS and all(isinstance(item, _ATOMS) for item in value):
            return value
        shown = [bounded(item, depth - 1) for item in value[:MOST_ITEMS]]
        return shown if len(shown) == len(value) else [*shown, f"… {_more(value)}"]
    return value


def _name(key: Any) -> Any:
    return key if isinstance(key, (str, *_ATOMS)) else bounded_repr(key)


def _more(value: Any) -> str:
    return f"{len(value) - MOST_ITEMS} more"


def bounded_repr(value: Any, depth: int = 4) -> str:
    """Return a repr of at most 500 characters, without looking at all of a large value.

    A user's ``__repr__`` that raises is told in its place.
    """
    try:
        text = _repr(value, depth)
    except Exception as error:  # user code
        text = f"<{type(value).__name__} whose repr raises {type(error).__name__}>"
    return text if len(text) <= MOST_REPR else text[: MOST_REPR - 1] + "…"


def _repr(value: Any, depth: int) -> str:
    kind = type(value).__name__
    if isinstance(value, str | bytes | bytearray):
        return repr(value[:MOST_REPR])
    if isinstance(value, int):  # a huge one has no text at all
        return repr(value) if value.bit_length() < 4096 else f"<int of {value.bit_length()} bits>"
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple):
        return repr(value) if _elements(shape) <= _FEW else f"<{kind} of shape {shape}>"
    if not depth:
        return f"<{kind}>"
    fields = _fields(value)
    if fields is not None:
        return f"{kind}({_joined(f'{n}={_repr(v, depth - 1)}' for n, v in fields.items())})"
    return _container(value, kind, depth)


def _container(value: Any, kind: str, depth: int) -> str:
    try:
        length = len(value)
    except TypeError:
        return repr(value)
    shown: Iterable[str]
    if type(value) is dict:
        pairs = islice(value.items(), _FEW)
        shown = (f"{_repr(k, depth - 1)}: {_repr(v, depth - 1)}" for k, v in pairs)
    elif type(value) in (list, tuple, set, frozenset):
        shown = (_repr(item, depth - 1) for item in islice(value, _FEW))
    else:
        return repr(value) if length <= _FEW else f"<{kind} of {length} items>"
    if not length:
        return repr(value)
    opened, closed = _BRACKETS[type(value)]
    text = _joined(shown) + (f", … {length - _FEW} more" if length > _FEW else "")
    return opened + text + ("," if type(value) is tuple and length == 1 else "") + closed


def _joined(texts: Iterable[str]) -> str:
    return ", ".join(texts)


def _elements(shape: tuple[Any, ...]) -> int:
    count = 1
    for size in shape:
        count *= size if isinstance(size, int) else _FEW + 1  # a lazy frame does not know
    return count


def _fields(value: Any) -> Mapping[str, Any] | None:
    """The fields of a record whose repr is the generated one; None for any other value."""
    kind = type(value)
    # the generated one is wrapped against recursion
    if dataclasses.is_dataclass(value) and hasattr(kind.__repr__, "__wrapped__"):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.repr}
    model = getattr(kind, "model_fields", None)
    if isinstance(model, Mapping) and kind.__repr__.__module__.startswith("pydantic."):
        return {name: getattr(value, name) for name, field in model.items() if field.repr}
    return None
