"""How a type that is met for the first time gets its handler; dataclasses, models, plain objects.

A plain object is its type's name and its state.  What has state that Python cannot see (a lock, a
client, a generator) has no content; what cannot be told apart safely is refused, never guessed.
"""

from __future__ import annotations

import copyreg
import dataclasses
import enum
import functools
import marshal
import operator
import types
from collections.abc import Callable
from importlib import import_module
from typing import Any, NoReturn, TypeAlias

from daskflow.caching.hash_containers import BUILTIN, put_mapping, put_pairs, put_sequence, put_set
from daskflow.caching.hash_state import (
    attributes,
    cached_properties,
    put_parts,
    put_state,
    slots_of,
)
from daskflow.caching.hash_values import STANDARD, put_enum
from daskflow.caching.hash_writer import (
    ATOMS,
    ContentWriter,
    Handler,
    NoContent,
    tag,
    type_name,
)

__all__ = ["hooks", "new_writer", "resolve"]

# What `register_hash` was given: type -> function that returns the content instead of the value.
hooks: dict[type, Callable[[Any], object]] = {}

# Root package of a type -> module with its handlers, imported when the first such value turns up.
_LIBRARIES = {
    "numpy": "daskflow.caching.hash_numpy",
    "pandas": "daskflow.caching.hash_pandas",
    "pyarrow": "daskflow.caching.hash_arrow",
    "polars": "daskflow.caching.hash_polars",
}
_CODE = "daskflow.caching.code"
_FUNCTIONS = (types.FunctionType, types.MethodType, types.BuiltinFunctionType)
_FLAT = ATOMS - {bytes}
# Reaching into these would hash what is not their content (or what is not the same twice).
_REFUSED = (types.ModuleType, types.FrameType, types.TracebackType, types.CodeType)
_ALIVE = frozenset(
    {
        *("_asyncio", "_socket", "_thread", "_weakref", "asyncio", "concurrent", "dask"),
        *("distributed", "mmap", "multiprocessing", "selectors", "socket", "sqlite3", "ssl"),
        *("subprocess", "threading", "weakref"),
    }
)
_Extra: TypeAlias = Callable[[Any], bool]


def resolve(kind: type) -> Handler:
    """Return the handler of a type: its hook, else its library's, else by what it is."""
    known = BUILTIN.get(kind) or STANDARD.get(kind)
    if known is not None and kind not in hooks:
        return known
    hook = next((hooks[base] for base in kind.__mro__ if base in hooks), None)
    if hook is not None:
        return _hooked(kind, hook)
    if callable(getattr(kind, "__daskflow_hash__", None)) and not issubclass(kind, type):
        return _hooked(kind, operator.methodcaller("__daskflow_hash__"))
    for base in kind.__mro__:
        library = _LIBRARIES.get(base.__module__.partition(".")[0])
        if library:
            find: Callable[[type], Handler | None] = import_module(library).handler_of
            found = find(kind)
            if found is not None:
                return found
    if issubclass(kind, type) or issubclass(kind, _FUNCTIONS):
        code: Handler = import_module(_CODE).put_code
        return code
    return _by_structure(kind)


def _by_structure(kind: type) -> Handler:
    if issubclass(kind, _REFUSED) or _is_iterator(kind):
        return _refuse
    if issubclass(kind, enum.Enum):
        return put_enum
    if _is_alive(kind):
        return _refuse
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind)
    if isinstance(getattr(kind, "__pydantic_fields__", None), dict):
        return _model(kind)
    if issubclass(kind, functools.partial):
        return _partial
    for base in kind.__mro__[1:]:
        write = _BASES.get(base) or STANDARD.get(base)
        if write is not None:
            return _subclass(kind, write)
    return _plain(kind)


def _is_alive(kind: type) -> bool:
    """Say whether instances stand for something outside them, whatever they give to pickle."""
    roots = {base.__module__.partition(".")[0] for base in kind.__mro__}
    return not _ALIVE.isdisjoint(roots) and not issubclass(kind, BaseException)


def _is_iterator(kind: type) -> bool:
    return any(hasattr(kind, name) for name in ("__next__", "__anext__")) or issubclass(
        kind, types.CoroutineType
    )


def _refuse(w: ContentWriter, value: Any) -> None:
    _refuse_type(type(value))


def _refuse_type(kind: type) -> NoReturn:
    raise NoContent(f"is a {kind.__module__}.{kind.__qualname__}") from None


def _hooked(kind: type, content: Callable[[Any], object]) -> Handler:
    opening = tag("hook") + tag(type_name(kind))

    def write(w: ContentWriter, value: Any) -> None:
        w.out.append(opening)
        w.put(content(value))

    return lambda w, value: w.nest(value, write)


# ---- classes with declared fields


def _fields(opening: bytes, names: tuple[str, ...], more: Handler, extra: _Extra) -> Handler:
    """Return the handler of a class whose instances are these attributes, plus `extra` ones."""
    fetch = _getter(names)

    def write(w: ContentWriter, value: Any) -> None:
        w.out.append(opening)
        put_parts(w, names, fetch(value))
        more(w, value)

    def handle(w: ContentWriter, value: Any) -> None:
        if extra(value):
            w.nest(value, write)
            return
        values = fetch(value)
        if _FLAT.issuperset(map(type, values)):
            w.out.append(opening)
            w.out.append(marshal.dumps(values, 2))
        else:
            w.nest(value, write)

    return handle


def _getter(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    if len(names) > 1:
        return operator.attrgetter(*names)
    if names:
        one = operator.attrgetter(names[0])
        return lambda value: (one(value),)
    return lambda value: ()


def _dataclass(kind: type) -> Handler:
    names = tuple(field.name for field in dataclasses.fields(kind))
    opening = tag("dataclass") + tag(type_name(kind)) + marshal.dumps(names, 2)
    return _fields(opening, names, _others(kind, names), _has_others(kind, names))


def _has_others(kind: type, names: tuple[str, ...]) -> _Extra:
    """Return what says whether an instance has attributes beside its fields."""
    if not kind.__dictoffset__:
        return lambda value: False
    size = len(names)
    if any(name in slots for slots in map(slots_of, kind.__mro__) for name in names):
        return lambda value: True
    return lambda value: len(value.__dict__) != size


def _others(kind: type, names: tuple[str, ...]) -> Handler:
    known = {*names, *cached_properties(kind)}

    def write(w: ContentWriter, value: Any) -> None:
        state = getattr(value, "__dict__", {})
        put_state(w, {name: part for name, part in state.items() if name not in known})

    return write


def _model(kind: Any) -> Handler:
    """Pydantic: fields, extra fields and private attributes, as its own equality has it."""
    names = tuple(kind.__pydantic_fields__)
    opening = tag("model") + tag(type_name(kind)) + marshal.dumps(names, 2)

    def extra(value: Any) -> bool:
        return bool(value.__pydantic_extra__ or value.__pydantic_private__)

    def more(w: ContentWriter, value: Any) -> None:
        put_state(w, value.__pydantic_extra__ or {})
        put_state(w, value.__pydantic_private__ or {})

    return _fields(opening, names, more, extra)


def _partial(w: ContentWriter, value: functools.partial[Any]) -> None:
    def write(w: ContentWriter, value: functools.partial[Any]) -> None:
        w.out.append(tag("partial") + tag(type_name(type(value))))
        put_parts(w, ("func", "args", "keywords"), (value.func, value.args, value.keywords))

    w.nest(value, write)


# ---- subclasses of built-in types


def _atom(base: type) -> Handler:
    def write(w: ContentWriter, value: Any) -> None:
        # The plain value inside, without calling what the subclass overrides.
        w.put(_PLAIN[base](value))

    return write


_PLAIN: dict[type, Callable[[Any], object]] = {
    int: lambda value: int.__int__(value),
    float: lambda value: float.__float__(value),
    complex: lambda value: complex.__complex__(value),
    str: lambda value: str.__str__(value),
    bytes: lambda value: bytes.__bytes__(value),
}


def _as_list(w: ContentWriter, value: Any) -> None:
    w.out.append(tag("list"))
    put_sequence(w, list(list.__iter__(value)))


def _as_tuple(w: ContentWriter, value: Any) -> None:
    w.out.append(tag("tuple"))
    put_sequence(w, tuple(tuple.__iter__(value)))


def _as_dict(w: ContentWriter, value: Any) -> None:
    w.out.append(tag("dict"))
    put_pairs(w, dict(dict.items(value)))


def _as_set(w: ContentWriter, value: Any) -> None:
    w.out.append(tag("set"))
    put_set(w, frozenset(value))


_BASES: dict[type, Handler] = {
    **{base: _atom(base) for base in _PLAIN},
    list: _as_list,
    tuple: _as_tuple,
    dict: _as_dict,
    set: _as_set,
    frozenset: _as_set,
}


def _subclass(kind: type, base: Handler) -> Handler:
    opening = tag("subclass") + tag(type_name(kind))

    def write(w: ContentWriter, value: Any) -> None:
        w.out.append(opening)
        base(w, value)
        put_state(w, attributes(value))

    return lambda w, value: w.nest(value, write)


# ---- plain objects


def _plain(kind: type) -> Handler:
    if kind is object:
        return _refuse
    reduced = kind in copyreg.dispatch_table or any(
        getattr(kind, name) is not getattr(object, name)
        for name in ("__reduce_ex__", "__reduce__", "__getstate__")
    )
    return _by_reduction(kind) if reduced else _by_attributes(kind)


def _by_attributes(kind: type) -> Handler:
    opening = tag("object") + tag(type_name(kind))

    checked = False

    def write(w: ContentWriter, value: Any) -> None:
        nonlocal checked
        if not checked:
            _check_visible(value)
            checked = True
        w.out.append(opening)
        put_state(w, attributes(value))

    return lambda w, value: w.nest(value, write)


def _check_visible(value: Any) -> None:
    """Refuse a type written in C: its instances have more than the attributes that Python sees."""
    try:
        object.__reduce_ex__(value, 4)
    except TypeError:
        _refuse_type(type(value))


def _by_reduction(kind: type) -> Handler:
    """State as the class itself gives it to `pickle`, part by part, never as pickled bytes."""
    opening = tag("reduced") + tag(type_name(kind))

    def write(w: ContentWriter, value: Any) -> None:
        try:
            custom = copyreg.dispatch_table.get(kind)
            found = custom(value) if custom else value.__reduce_ex__(4)
        except NoContent:
            raise
        except Exception:
            # Whatever a class raises there means the same: it does not give its state away.
            _refuse_type(kind)
        w.out.append(opening)
        if isinstance(found, str):
            w.put(found)
            return
        make, arguments, *rest = found
        state, items, pairs = [*rest, None, None, None][:3]
        _put_name(w, make)
        w.out.append(len(arguments).to_bytes(4, "little"))
        for argument in arguments:
            _put_name(w, argument) if isinstance(argument, type) else w.put(argument)
        put_state(w, state)
        w.put(None if items is None else list(items))
        _put_pairs(w, pairs)

    return lambda w, value: w.nest(value, write)


def _put_pairs(w: ContentWriter, pairs: Any) -> None:
    w.out.append(b"\0" if pairs is None else b"\1")
    if pairs is not None:
        put_mapping(w, dict(pairs))


def _put_name(w: ContentWriter, make: Any) -> None:
    if isinstance(make, types.BuiltinFunctionType | types.FunctionType | type):
        w.put(f"{make.__module__}:{make.__qualname__}")
    else:
        w.put(make)


def new_writer(algorithm: str = "sha256", threads: int | None = None) -> ContentWriter:
    """Return a writer that knows every handler."""
    return ContentWriter(resolve, algorithm, threads)
