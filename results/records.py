"""Dataclasses, pydantic models, named tuples and enums as a type path and tagged fields.

Encoding takes a value only when nothing of it lies outside its fields and its class pickles in the
ordinary way; the rest is left to pickle.  Decoding imports the module that the path names, checks
that the class found is of the same kind with the same fields, and fills the fields without calling
``__init__`` or validators, so no code of the class runs.  A class that has changed is `ResultGone`:
the result is computed again.
"""

from __future__ import annotations

import dataclasses
import enum
import importlib
import sys
from collections.abc import Callable
from typing import Any

from daskflow.errors import ResultGone
from daskflow.results.encoded import Unencodable

__all__ = ["RECORD_TAGS", "record_from_json", "record_to_json"]

Walk = Callable[[Any], Any]
Json = Any


def record_to_json(value: Any, walk: Walk, keep: Callable[[type], Json]) -> Json | None:
    """Return a record as tagged JSON, or None for a value that is no record.

    `walk` encodes what is inside.  `keep` pickles a class of a script, which another process (a
    worker, the command line) cannot import; its own script finds it by its path.  Raises
    `Unencodable` for a record that fields cannot hold.
    """
    found = _to_json(value, walk)
    if found is not None and type(value).__module__ == "__main__":
        found["$"].append(keep(type(value)))
    return found


def _to_json(value: Any, walk: Walk) -> Json | None:
    kind = type(value)
    if isinstance(value, enum.Enum):
        # a combination of flags has a name that no lookup finds; its value finds it
        name = value.name if value.name in kind.__members__ else None
        return {"$": ["enum", type_path(kind), name, walk(value.value)]}
    if isinstance(value, tuple):
        return _namedtuple(value, walk) if hasattr(kind, "_fields") else None
    if dataclasses.is_dataclass(kind):
        names = tuple(field.name for field in dataclasses.fields(value))
        _plain(value, names)
        return {"$": ["dataclass", type_path(kind), {n: walk(getattr(value, n)) for n in names}]}
    if _is_pydantic(kind):
        _ordinary(kind, _pydantic_model())
        return {"$": ["pydantic", type_path(kind), walk(_pydantic_state(value))]}
    return None


def record_from_json(tag: str, rest: list[Any]) -> Any:
    """Return the record that `record_to_json` wrote; what is inside is decoded already."""
    path, *inside = rest
    if path.startswith("__main__:"):
        *inside, kept = inside
        try:
            return _FROM[tag](resolve_type(path), *inside)
        except ResultGone:
            return _FROM[tag](kept(), *inside)
    return _FROM[tag](resolve_type(path), *inside)


# ---- type paths


def type_path(kind: type) -> str:
    """Return ``module:qualified.name``, when importing that gives this very class back."""
    path = f"{kind.__module__}:{kind.__qualname__}"
    if kind.__module__ == "__main__" and "<locals>" not in path:
        # the next run of the script has this class again; `record_to_json` keeps it for others
        return path
    try:
        found = _walk_path(sys.modules.get(kind.__module__), kind.__qualname__)
    except AttributeError:
        found = None
    if found is not kind:
        raise Unencodable(f"{path} cannot be imported")
    return path


def resolve_type(path: str) -> type:
    """Return the class of a type path; raise `ResultGone` when it is not there any more."""
    module, _, name = path.partition(":")
    try:
        found = _walk_path(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ResultGone(f"the class {path!r} of a stored result is gone: {error}") from error
    if not isinstance(found, type):
        raise ResultGone(f"{path!r}, the class of a stored result, is no class any more")
    return found


def _walk_path(found: Any, name: str) -> Any:
    for part in name.split("."):
        found = getattr(found, part)
    return found


def _changed(kind: type, what: str) -> ResultGone:
    path = f"{kind.__module__}:{kind.__qualname__}"
    return ResultGone(f"the class {path!r} of a stored result has changed: {what}")


# ---- what fields hold


def _ordinary(kind: type, root: type = object) -> None:
    """Refuse classes that say themselves how they are pickled."""
    for name in ("__reduce__", "__reduce_ex__", "__getnewargs__", "__getnewargs_ex__"):
        if getattr(kind, name, None) is not getattr(root, name, None):
            raise Unencodable(f"{kind.__qualname__} defines {name}")
    state = getattr(kind, "__getstate__", None)
    # dataclasses with frozen slots get one that returns their fields
    generated = getattr(state, "__name__", "") == "_dataclass_getstate"
    if state is not getattr(root, "__getstate__", None) and not generated:
        raise Unencodable(f"{kind.__qualname__} defines __getstate__")


def _plain(value: Any, names: tuple[str, ...]) -> None:
    kind = type(value)
    _ordinary(kind)
    if getattr(kind, "__new__", None) is not object.__new__ or isinstance(value, type):
        raise Unencodable(f"{kind.__qualname__} is more than its fields")
    if vars_of(value).keys() - set(names) or not all(hasattr(value, name) for name in names):
        raise Unencodable(f"{kind.__qualname__} has other attributes than its fields")


def vars_of(value: Any) -> dict[str, Any]:
    """Return the instance's own attributes; none for a class with slots only."""
    return getattr(value, "__dict__", {})


def _namedtuple(value: Any, walk: Walk) -> Json:
    kind = type(value)
    fields = kind._fields
    own = {"__reduce__", "__reduce_ex__"} & vars(kind).keys()
    if len(fields) != len(value) or vars_of(value) or own:
        raise Unencodable(f"{kind.__qualname__} is more than its fields")
    return {"$": ["namedtuple", type_path(kind), [walk(list(fields)), walk(list(value))]]}


def _is_pydantic(kind: type) -> bool:
    return "pydantic" in sys.modules and issubclass(kind, _pydantic_model())


def _pydantic_model() -> type:
    from pydantic import BaseModel  # heavy; whoever has a model has loaded it already

    return BaseModel


def _pydantic_state(value: Any) -> dict[str, Any]:
    private = value.__pydantic_private__
    if private is not None:
        # pydantic's own marker for "not set" has no tag; unset ones are left out, as it does
        private = {k: v for k, v in private.items() if type(v).__name__ != "PydanticUndefinedType"}
    return {
        "fields": dict(vars(value)),
        "set": set(value.__pydantic_fields_set__),
        "extra": value.__pydantic_extra__,
        "private": private,
    }


# ---- back


def _dataclass_from(kind: type, fields: dict[str, Any]) -> Any:
    if not dataclasses.is_dataclass(kind):
        raise _changed(kind, "it is no dataclass")
    now = [field.name for field in dataclasses.fields(kind)]
    if now != list(fields):
        raise _changed(kind, f"its fields were {list(fields)}, now {now}")
    made = object.__new__(kind)
    for name, value in fields.items():
        object.__setattr__(made, name, value)
    return made


def _namedtuple_from(kind: type, inside: list[Any]) -> Any:
    fields, values = inside
    now = getattr(kind, "_fields", None)
    if not issubclass(kind, tuple) or now != tuple(fields):
        raise _changed(kind, f"its fields were {fields}, now {now}")
    return tuple.__new__(kind, values)


def _enum_from(kind: type, name: str | None, value: Any) -> Any:
    if not issubclass(kind, enum.Enum):
        raise _changed(kind, "it is no enum")
    try:
        member = kind(value) if name is None else kind[name]
    except (KeyError, ValueError):
        member = None
    if member is None or member.value != value:
        raise _changed(kind, f"{name or value!r} was {value!r}")
    return member


def _pydantic_from(kind: type, state: dict[str, Any]) -> Any:
    if not _is_pydantic(kind):
        raise _changed(kind, "it is no pydantic model")
    known: set[str] = set(kind.__pydantic_fields__)  # type: ignore[attr-defined]
    if known != set(state["fields"]) & known or state["fields"].keys() - known:
        raise _changed(kind, f"its fields were {sorted(state['fields'])}, now {sorted(known)}")
    made: Any = object.__new__(kind)
    object.__setattr__(made, "__dict__", state["fields"])
    object.__setattr__(made, "__pydantic_fields_set__", state["set"])
    object.__setattr__(made, "__pydantic_extra__", state["extra"])
    object.__setattr__(made, "__pydantic_private__", state["private"])
    return made


_FROM: dict[str, Callable[..., Any]] = {
    "dataclass": _dataclass_from,
    "namedtuple": _namedtuple_from,
    "enum": _enum_from,
    "pydantic": _pydantic_from,
}
RECORD_TAGS = frozenset(_FROM)
