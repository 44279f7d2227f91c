"""Handlers of the standard library's values: dates, numbers, paths, patterns, enums, buffers.

Tags are fixed words, not ``__module__``: the standard library moves its classes between versions.
"""

from __future__ import annotations

import array
import datetime
import decimal
import enum
import fractions
import logging
import pathlib
import re
import types
import uuid
import zoneinfo
from typing import Any

from daskflow.caching.hash_writer import ContentWriter, Handler, NoContent, tag, type_name

__all__ = ["STANDARD", "put_enum"]

_DATETIME, _DATE, _TIME = tag("datetime"), tag("date"), tag("time")
_DELTA, _ZONE, _OFFSET = tag("timedelta"), tag("ZoneInfo"), tag("timezone")


def _datetime(w: ContentWriter, value: datetime.datetime) -> None:
    w.out.append(_DATETIME)
    w.out.append(value.replace(tzinfo=None).isoformat().encode())
    w.out.append(b"1" if value.fold else b"0")
    w.put(value.tzinfo)


def _date(w: ContentWriter, value: datetime.date) -> None:
    w.out.append(_DATE)
    w.put(value.isoformat())


def _time(w: ContentWriter, value: datetime.time) -> None:
    w.out.append(_TIME)
    w.put(value.replace(tzinfo=None).isoformat())
    w.put(value.fold)
    w.put(value.tzinfo)


def _timedelta(w: ContentWriter, value: datetime.timedelta) -> None:
    w.out.append(_DELTA)
    w.put((value.days, value.seconds, value.microseconds))


def _timezone(w: ContentWriter, value: datetime.timezone) -> None:
    w.out.append(_OFFSET)
    w.put(value.utcoffset(None))
    w.put(value.tzname(None))


def _zoneinfo(w: ContentWriter, value: zoneinfo.ZoneInfo) -> None:
    if value.key is None:
        raise NoContent("is a time zone without a key")
    w.out.append(_ZONE)
    w.put(value.key)


def _in_words(name: str) -> Handler:
    opening = tag(name)

    def write(w: ContentWriter, value: Any) -> None:
        w.out.append(opening)
        w.put(str(value))

    return write


def _fraction(w: ContentWriter, value: fractions.Fraction) -> None:
    w.out.append(tag("Fraction"))
    w.put((value.numerator, value.denominator))


def _range(w: ContentWriter, value: range) -> None:
    w.out.append(tag("range"))
    w.put((value.start, value.stop, value.step))


def _slice(w: ContentWriter, value: slice) -> None:
    w.out.append(tag("slice"))
    w.put((value.start, value.stop, value.step))


def _pattern(w: ContentWriter, value: re.Pattern[Any]) -> None:
    w.out.append(tag("Pattern"))
    w.put((value.pattern, value.flags))


def _bytearray(w: ContentWriter, value: bytearray) -> None:
    w.out.append(tag("bytearray"))
    w.buffer(value)


def _memoryview(w: ContentWriter, value: memoryview) -> None:
    try:
        w.out.append(tag("memoryview"))
        w.put((value.format, value.shape))
        w.buffer(value.cast("B") if value.c_contiguous and value.nbytes else value.tobytes())
    except ValueError:
        raise NoContent("is a memoryview that was released") from None


def _array(w: ContentWriter, value: array.array[Any]) -> None:
    w.out.append(tag("array"))
    if value.typecode in "uw":
        w.put((value.typecode, value.tounicode()))
        return
    w.put((value.typecode, value.itemsize))
    with memoryview(value) as view:
        w.buffer(view.cast("B") if view.nbytes else b"")


def _logger(w: ContentWriter, value: logging.Logger) -> None:
    w.out.append(tag("Logger"))
    w.put(value.name)


def put_enum(w: ContentWriter, value: enum.Enum) -> None:
    """Write a member by its class, name and value; a combination of flags by its value."""
    w.out.append(tag("enum") + tag(type_name(type(value))))
    w.put(None if isinstance(value, enum.Flag) else value.name)
    try:
        w.put(value.value)
    except NoContent as lack:
        raise lack.within(".value") from None


def _singleton(name: str) -> Handler:
    opening = tag(name)
    return lambda w, value: w.out.append(opening)


STANDARD: dict[type, Handler] = {
    datetime.datetime: _datetime,
    datetime.date: _date,
    datetime.time: _time,
    datetime.timedelta: _timedelta,
    datetime.timezone: _timezone,
    zoneinfo.ZoneInfo: _zoneinfo,
    decimal.Decimal: _in_words("Decimal"),
    uuid.UUID: _in_words("UUID"),
    fractions.Fraction: _fraction,
    range: _range,
    slice: _slice,
    re.Pattern: _pattern,
    bytearray: _bytearray,
    memoryview: _memoryview,
    array.array: _array,
    logging.Logger: _logger,
    types.EllipsisType: _singleton("Ellipsis"),
    types.NotImplementedType: _singleton("NotImplemented"),
    **{
        kind: _in_words(kind.__name__)
        for kind in (
            pathlib.PurePosixPath,
            pathlib.PureWindowsPath,
            pathlib.PosixPath,
            pathlib.WindowsPath,
        )
    },
}
