"""`encode` and `decode`: which codec a value takes, and what stands inside containers.

A value whose type has a codec of its own becomes native columns.  Everything else is tagged JSON;
what JSON cannot hold inside it (a frame in a dict, a model in a dataclass) stands beside it as
further parts, native where a codec exists, else pickled together in one stream.  A codec that
cannot be exact for a value says so, and pickle takes it.
"""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType
from typing import Any

from daskflow.errors import PickleRefused, ResultGone, StoreError, UsageError
from daskflow.results.encoded import Codec, EncodedValue, Unencodable, is_pickled
from daskflow.results.tagged import Untagged
from daskflow.results.trees import decode_tree, encode_tree

__all__ = ["codecs", "decode", "encode", "get_codec"]

_codecs: dict[str, Codec | str] = {
    "arrow": "daskflow.results.arrow_tables:ArrowCodec",
    "numpy": "daskflow.results.arrays:NumpyCodec",
    "pandas": "daskflow.results.pandas_frames:PandasCodec",
    "pickle": "daskflow.results.pickles:PickleCodec",
    "polars": "daskflow.results.polars_frames:PolarsCodec",
}
codecs = MappingProxyType(_codecs)  # "json" and "tree", what is left, live in trees.py

# by package and class name, so that nothing is imported to find out
_BY_TYPE = {
    ("pyarrow", "Table"): "arrow",
    ("pyarrow", "RecordBatch"): "arrow",
    ("pyarrow", "FileSystemDataset"): "arrow",
    ("pyarrow", "InMemoryDataset"): "arrow",
    ("pyarrow", "UnionDataset"): "arrow",
    ("numpy", "ndarray"): "numpy",
    ("polars", "DataFrame"): "polars",
    ("polars", "Series"): "polars",
    **{
        ("pandas", name): "pandas"
        for name in (
            *("DataFrame", "Series", "Index", "RangeIndex", "MultiIndex", "CategoricalIndex"),
            *("DatetimeIndex", "TimedeltaIndex", "PeriodIndex", "IntervalIndex"),
        )
    },
}


def get_codec(name: str) -> Codec:
    """Return a codec by name; its module is imported at the first use.

    Raises
    ------
    UsageError
        When there is none of that name.
    """
    try:
        found = _codecs[name]
    except KeyError:
        raise UsageError(f"no codec named {name!r}; have {', '.join(sorted(_codecs))}") from None
    if isinstance(found, str):
        module, _, attribute = found.partition(":")
        made: Codec = getattr(import_module(module), attribute)()
        _codecs[name] = found = made
    return found


def encode(value: Any, *, allow_pickle: bool = True) -> EncodedValue:
    """Return a value in the form in which it is stored.

    Parameters
    ----------
    value : object
        The result; it is neither changed nor consumed.
    allow_pickle : bool
        Whether pickle may hold what no other codec can. Default True.

    Raises
    ------
    PickleRefused
        When only pickle could hold the value or something inside it.
    StoreError
        When not even pickle can, with the reason.
    """
    name = _codec_of(type(value))
    try:
        if name is not None:
            return get_codec(name).encode(value)
        made = encode_tree(value, _native)
    except (Unencodable, Untagged):
        return _pickled(value, allow_pickle)
    if made is None:
        return _pickled(value, allow_pickle)
    if is_pickled(made.codec):
        _refuse_pickle(f"something inside a {type(value).__qualname__}", allow_pickle)
    return made


def _codec_of(kind: type) -> str | None:
    return _BY_TYPE.get((kind.__module__.partition(".")[0], kind.__qualname__))


def _native(value: Any) -> EncodedValue | None:
    """Encode a value inside a container by a codec of its own, when one holds it."""
    name = _codec_of(type(value))
    try:
        return get_codec(name).encode(value) if name is not None else None
    except Unencodable:
        return None


def _pickled(value: Any, allow_pickle: bool) -> EncodedValue:
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    _refuse_pickle(kind, allow_pickle)
    try:
        return get_codec("pickle").encode(value)
    except Unencodable as error:
        raise StoreError(f"{error}; return plain data, or do not persist this task") from error


def decode(stored: EncodedValue, *, allow_pickle: bool = True) -> Any:
    """Return the value of a stored form, fresh and writable.

    Raises
    ------
    PickleRefused
        When decoding needs pickle and `allow_pickle` is false.
    ResultGone
        When a class or package that the value needs is gone or has changed.
    """
    if is_pickled(stored.codec) and not allow_pickle:
        raise PickleRefused(
            "this stored result needs pickle, and allow_pickle is false; allow it for stores "
            "that you trust, or compute the result again"
        )
    base = stored.codec.partition("+")[0]
    try:
        if base in ("json", "tree"):
            return decode_tree(stored, decode)
        return get_codec(base).decode(stored)
    except (UsageError, ImportError, Untagged) as error:
        raise ResultGone(f"a stored result of codec {base!r} cannot be read: {error}") from error


def _refuse_pickle(what: str, allow_pickle: bool) -> None:
    if not allow_pickle:
        raise PickleRefused(
            f"only pickle could store {what}, and allow_pickle is false; return tables, arrays, "
            "dataclasses or plain data, or allow pickle for this store"
        )
