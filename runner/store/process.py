"""Which process this is, told so that another one can see whether it still lives.

A pid alone is reused; host, boot id and start time make it unique.  On Linux the start time is
counted from boot, so that a wall clock that jumps cannot make a living process look gone; it is
compared, not shown.
"""

from __future__ import annotations

import os
import socket
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

__all__ = ["ProcessIdentity", "process_is_gone", "this_process"]

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_SAME_START_S = 0.02  # two clock ticks: the value is rounded once on its way through a float


class ProcessIdentity(NamedTuple):
    """What tells one process from every other."""

    host: str
    pid: int
    process_started_at: float  # seconds since boot on Linux, else unix seconds; only to compare
    boot_id: str | None


def this_process() -> ProcessIdentity:
    """Return the identity of the calling process; also right after a fork."""
    return _identity(os.getpid())


@lru_cache(maxsize=1)
def _identity(pid: int) -> ProcessIdentity:
    return ProcessIdentity(socket.gethostname(), pid, _started_at(pid) or 0.0, _boot_id())


def process_is_gone(identity: ProcessIdentity) -> bool | None:
    """Return True when that process has ended, False when it lives, None when nobody can tell.

    A process of another host cannot be judged from here.
    """
    if identity.host != socket.gethostname():
        return None
    if identity.boot_id != _boot_id():
        return True
    started_at = _started_at(identity.pid)
    return started_at is None or abs(started_at - identity.process_started_at) > _SAME_START_S


def _boot_id() -> str | None:
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return None


def _started_at(pid: int) -> float | None:
    """Return when `pid` started, or None when there is no such process or it is a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None if Path("/proc/self/stat").exists() else _started_at_by_psutil(pid)
    fields = stat.rpartition(")")[2].split()  # the name before it may hold spaces and brackets
    if fields[0] in "ZX":
        return None
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")


def _started_at_by_psutil(pid: int) -> float | None:
    import psutil  # only where there is no /proc: 10 ms of import

    try:
        return float(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return None
