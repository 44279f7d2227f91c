"""Numbers, times and other people's text, as a person reads them.  Pure."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

__all__ = [
    "as_items",
    "clip_text",
    "clock",
    "count_of",
    "day_and_time",
    "duration",
    "printable",
    "rate",
    "short_address",
    "size",
]

_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


def duration(seconds: float | None) -> str:
    """``0.4 ms``, ``12 ms``, ``3.2 s``, ``4 min 05 s``, ``2 h 07 min``; a dash for unknown."""
    if seconds is None or seconds != seconds:
        return "–"
    if seconds < 0.9995:
        return f"{seconds * 1000:.1f} ms" if seconds < 0.00995 else f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def size(size_bytes: float | None) -> str:
    """``812 B``, ``3.4 kB``, ``1.2 GB``; a dash for unknown."""
    if size_bytes is None or size_bytes != size_bytes:
        return "–"
    value = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 999.5:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 99.5 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} PB"


def rate(number: int, seconds: float) -> str:
    """``461 per second``, ``8.7 per minute``, ``3 per hour``; empty where there is none."""
    if not number or seconds <= 0:
        return ""
    per_second = number / seconds
    unit, length_s = ("hour", 3600)
    if per_second >= 1 / 60:
        unit, length_s = ("second", 1) if per_second >= 1 else ("minute", 60)
    value = per_second * length_s
    return f"{value:,.0f} per {unit}" if value >= 10 else f"{value:.1f} per {unit}"


def count_of(number: int, one: str, many: str | None = None) -> str:
    """``1 worker``, ``2,000 workers``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def clock(at_unix: float) -> str:
    """Time of day in UTC with milliseconds."""
    return datetime.fromtimestamp(at_unix, UTC).strftime("%H:%M:%S.%f")[:-3]


def day_and_time(at_unix: float | None) -> str:
    """Day and time in UTC; a dash for unknown."""
    if at_unix is None:
        return "–"
    return datetime.fromtimestamp(at_unix, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def short_address(address: str) -> str:
    """A worker's address without what every address has: ``127.0.0.1:40213``."""
    if address == "local":
        return "flow process"
    return address.partition("://")[2] or address


def printable(text: str) -> str:
    """`text` without terminal colours; other control characters become U+FFFD."""
    text = _ANSI.sub("", text.replace("\r\n", "\n"))
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def clip_text(text: str, limit: int) -> str:
    """`text`, printable, with what is beyond `limit` characters counted instead of shown."""
    text = printable(text)
    if len(text) <= limit:
        return text
    return f"{text[:limit]} … {len(text) - limit:,} characters more"


def as_items(document: str, limit: int = 600) -> list[tuple[str, str]]:
    """Names and readable values of a JSON object; text that is no JSON object stays one value."""
    try:
        loaded = json.loads(document)
    except ValueError:
        return [("", clip_text(document, limit))] if document else []
    if not isinstance(loaded, dict):
        return [("", clip_text(_readable(loaded), limit))]
    return [(printable(str(k)), clip_text(_readable(v), limit)) for k, v in loaded.items()]


def _readable(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return " ".join(value)
    return json.dumps(value, ensure_ascii=False)
