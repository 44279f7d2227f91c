"""How numbers, times and states read in plain text.  Pure; no terminal, no colour.

Everything a user's code could have written (names, messages, log lines) goes through `one_line`
or `printable` before it reaches a terminal, so it cannot move the cursor or hide a line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

__all__ = ["aligned", "clock", "count_line", "duration", "one_line", "printable", "short_time"]

# state -> word, in the order in which a summary names them
_WORDS = {
    "Completed": "completed",
    "Failed": "failed",
    "Crashed": "crashed",
    "TimedOut": "timed out",
    "NotReady": "not run",
    "Cancelled": "cancelled",
    "Running": "running",
    "Retrying": "retrying",
    "AwaitingRetry": "awaiting retry",
    "Pending": "pending",
    "Cached": "cached",
}


def duration(seconds: float | None) -> str:
    """Return a duration with about three figures: ``85ms``, ``4.2s``, ``6m43s``, ``2h05m``."""
    if seconds is None:
        return "-"
    if seconds < 0.9995:
        return f"{max(seconds, 0) * 1000:.0f}ms"
    if seconds < 59.95:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02d}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m"


def short_time(seconds: float) -> str:
    """Return a time from microseconds up with about two figures: ``23 µs``, ``0.35 ms``."""
    for unit, scale in (("µs", 1e6), ("ms", 1e3)):
        value = seconds * scale
        if value < 99.5 or (unit == "ms" and value < 999.5):
            return f"{value:.2g} {unit}" if value < 99.5 else f"{value:.0f} {unit}"
    return f"{seconds:.2g} s" if seconds < 99.5 else duration(seconds)


def clock(at_unix: float | None, *, with_date: bool = True) -> str:
    """Return a moment in local time, to the second with its date, else to the millisecond."""
    if at_unix is None:
        return "-"
    at = datetime.fromtimestamp(at_unix)
    return at.strftime("%Y-%m-%d %H:%M:%S") if with_date else at.strftime("%H:%M:%S.%f")[:-3]


def count_line(
    counts: Mapping[str, int], *, lost_workers: int = 0, seconds: float | None = None
) -> str:
    """Return one line such as ``19,999 completed · 1 failed · 2 workers lost · 6m43s``."""
    named = [*_WORDS, *sorted(set(counts) - set(_WORDS))]
    parts = [f"{counts[s]:,} {_WORDS.get(s, s.lower())}" for s in named if counts.get(s)]
    parts = parts or ["no task runs"]
    if lost_workers:
        parts.append(f"{lost_workers:,} worker{'s' * (lost_workers != 1)} lost")
    if seconds is not None:
        parts.append(duration(seconds))
    return " · ".join(parts)


def printable(text: str) -> str:
    """Return `text` with control characters spelled out; line breaks and tabs stay."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}" for c in text)


def one_line(text: str, width: int = 100) -> str:
    """Return the first line of `text`, printable and at most `width` characters long."""
    first = printable(text.strip().split("\n", 1)[0])
    return first if len(first) <= width else f"{first[: width - 1]}…"


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a table as lines: columns two blanks apart, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    right = [bool(rows) and all(_is_figure(row[i]) for row in rows) for i in range(len(header))]
    return [
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in (header, *rows)
    ]


def _is_figure(cell: str) -> bool:
    return cell == "-" or (cell[:1].isdigit() and cell.strip("0123456789.,hms") == "")
