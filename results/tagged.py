"""Tagged JSON: Python values as JSON text that gives back exactly what went in.

Plain JSON stands for itself; everything else is ``{"$": [tag, ...]}``.  A dict whose keys are not
all plain strings is written as pairs, so no user's dict can be taken for a tag.  Only exact types
are known (a subclass is not its base).  What is not known goes to `leaf`, which other codecs
supply; equal values that are one object come back as two.
"""

from __future__ import annotations

import base64
import json
import math
import struct
import uuid
from collections import OrderedDict, deque
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from pathlib import PosixPath, PurePosixPath, PureWindowsPath
from typing import Any
from zoneinfo import ZoneInfo

__all__ = ["Untagged", "dump_json", "load_json", "to_json", "zone_from_json", "zone_to_json"]

Json = Any
Leaf = Callable[[Any], Json]
_PLAIN = frozenset({str, bool, type(None)})
_INT64 = 2**63
_loads = json.JSONDecoder().decode  # `json.loads` would look for the encoding first


class Untagged(Exception):
    """A value that tagged JSON does not know; encoders catch it and choose another codec."""


def dump_json(value: Any, leaf: Leaf | None = None) -> bytes:
    """Return a value as tagged JSON in UTF-8.

    Raises
    ------
    Untagged
        For a value inside that is not known, when `leaf` is None or does not know it either.
    """
    if type(value) in _PLAIN:
        return json.dumps(value).encode()
    try:
        return _text(to_json(value, leaf)).encode()
    except RecursionError:
        raise Untagged("the value contains itself or is nested too deeply") from None


def load_json(data: bytes, part: Callable[[str, list[Any]], Any] | None = None) -> Any:
    """Return the value of tagged JSON; `part` resolves the tags that `leaf` has written."""

    if b'"$"' not in data:
        return _loads(str(data, "utf-8"))  # no tag at all; a hook would cost a decoder of its own

    def hook(found: dict[str, Any]) -> Any:
        if len(found) != 1 or "$" not in found:
            return found
        tag, *rest = found["$"]
        if tag in _FROM:
            return _FROM[tag](*rest)
        if part is None:
            raise Untagged(f"unknown tag {tag!r}")
        return part(tag, rest)

    return json.loads(data, object_hook=hook)


def to_json(value: Any, leaf: Leaf | None = None) -> Json:
    """Return what ``json.dumps`` may write for a value."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if make := _TO.get(kind):
        return make(value)
    if walk := _WALK.get(kind):
        return walk(value, lambda inner: to_json(inner, leaf))
    if leaf is None:
        raise Untagged(f"no tag for {kind.__module__}.{kind.__qualname__}")
    return leaf(value)


def _text(tree: Json) -> str:
    return json.dumps(tree, separators=(",", ":"), allow_nan=False)


def _tag(name: str, *rest: Json) -> Json:
    return {"$": [name, *rest]}


# ---- scalars


def _int(value: int) -> Json:
    # JSON text of a huge int would meet Python's limit on digits; hex has none
    return value if -_INT64 <= value < _INT64 else _tag("int", hex(value))


def _float(value: float) -> Json:
    # by bits, because there are many NaNs
    return value if math.isfinite(value) else _tag("float", struct.pack(">d", value).hex())


def _bits(text: str) -> float:
    number: float = struct.unpack(">d", bytes.fromhex(text))[0]
    return number


def _bytes(value: bytes | bytearray) -> str:
    return base64.b64encode(value).decode()


def zone_to_json(zone: tzinfo | None) -> Json:
    """Return a time zone as JSON: none, an IANA name, or an offset; others are `Untagged`."""
    if zone is None:
        return None
    if type(zone) is ZoneInfo and zone.key is not None:
        return zone.key
    if type(zone) is timezone:
        # repr tells a named offset from a bare one; the name is the second argument
        offset = zone.utcoffset(None)
        bare = timezone(offset)
        name = None if zone.tzname(None) == bare.tzname(None) else zone.tzname(None)
        return [offset.days, offset.seconds, offset.microseconds, name]
    raise Untagged(f"no tag for time zone {type(zone).__qualname__}")


def zone_from_json(found: Json) -> tzinfo | None:
    """Return the time zone that `zone_to_json` wrote."""
    if found is None:
        return None
    if isinstance(found, str):
        return ZoneInfo(found)
    *offset, name = found
    delta = timedelta(*offset)
    if name is not None:
        return timezone(delta, name)
    return timezone(delta) if delta else UTC


def _datetime(value: datetime) -> Json:
    naive = value.replace(tzinfo=None, fold=0).isoformat()
    return _tag("datetime", naive, zone_to_json(value.tzinfo), value.fold)


def _time(value: time) -> Json:
    naive = value.replace(tzinfo=None, fold=0).isoformat()
    return _tag("time", naive, zone_to_json(value.tzinfo), value.fold)


_TO: dict[type, Callable[[Any], Json]] = {
    int: _int,
    float: _float,
    bytes: lambda v: _tag("bytes", _bytes(v)),
    bytearray: lambda v: _tag("bytearray", _bytes(v)),
    complex: lambda v: _tag("complex", _float(v.real), _float(v.imag)),
    datetime: _datetime,
    date: lambda v: _tag("date", v.isoformat()),
    time: _time,
    timedelta: lambda v: _tag("timedelta", v.days, v.seconds, v.microseconds),
    timezone: lambda v: _tag("zone", zone_to_json(v)),
    ZoneInfo: lambda v: _tag("zone", zone_to_json(v)),
    Decimal: lambda v: _tag("Decimal", str(v)),
    Fraction: lambda v: _tag("Fraction", hex(v.numerator), hex(v.denominator)),
    uuid.UUID: lambda v: _tag("UUID", v.hex, v.is_safe.name),
    PosixPath: lambda v: _tag("Path", str(v)),
    PurePosixPath: lambda v: _tag("PurePosixPath", str(v)),
    PureWindowsPath: lambda v: _tag("PureWindowsPath", str(v)),
    range: lambda v: _tag("range", *map(_int, (v.start, v.stop, v.step))),
    type(Ellipsis): lambda v: _tag("Ellipsis"),
    type(NotImplemented): lambda v: _tag("NotImplemented"),
}


# ---- containers


def _dict(value: dict[Any, Any], inner: Leaf) -> Json:
    if all(type(key) is str and not key.startswith("$") for key in value):
        return {key: inner(item) for key, item in value.items()}
    return _tag("dict", [[inner(key), inner(item)] for key, item in value.items()])


def _set(name: str) -> Callable[[Any, Leaf], Json]:
    # sorted by their text: the order of a set differs from process to process
    return lambda value, inner: _tag(name, sorted((inner(v) for v in value), key=_text))


_WALK: dict[type, Callable[[Any, Leaf], Json]] = {
    list: lambda v, inner: [inner(item) for item in v],
    dict: _dict,
    tuple: lambda v, inner: _tag("tuple", [inner(item) for item in v]),
    set: _set("set"),
    frozenset: _set("frozenset"),
    OrderedDict: lambda v, inner: _tag("OrderedDict", [[inner(k), inner(x)] for k, x in v.items()]),
    deque: lambda v, inner: _tag("deque", [inner(item) for item in v], v.maxlen),
    slice: lambda v, inner: _tag("slice", inner(v.start), inner(v.stop), inner(v.step)),
}

_FROM: dict[str, Callable[..., Any]] = {
    "int": lambda text: int(text, 16),
    "float": _bits,
    "bytes": base64.b64decode,
    "bytearray": lambda text: bytearray(base64.b64decode(text)),
    "complex": complex,
    "datetime": lambda text, zone, fold: datetime.fromisoformat(text).replace(
        tzinfo=zone_from_json(zone), fold=fold
    ),
    "date": date.fromisoformat,
    "time": lambda text, zone, fold: time.fromisoformat(text).replace(
        tzinfo=zone_from_json(zone), fold=fold
    ),
    "timedelta": timedelta,
    "zone": zone_from_json,
    "Decimal": Decimal,
    "Fraction": lambda top, bottom: Fraction(int(top, 16), int(bottom, 16)),
    "UUID": lambda text, safe: uuid.UUID(text, is_safe=uuid.SafeUUID[safe]),
    "Path": PosixPath,
    "PurePosixPath": PurePosixPath,
    "PureWindowsPath": PureWindowsPath,
    "range": range,
    "Ellipsis": lambda: ...,
    "NotImplemented": lambda: NotImplemented,
    "dict": dict,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "OrderedDict": OrderedDict,
    "deque": deque,
    "slice": slice,
}
