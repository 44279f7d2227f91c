"""What a test module may not leave behind: child processes, threads and listening ports.

`Footprint.now()` is what exists at this moment; the module fixture `no_leaks` of conftest.py
compares before and after.  What lives longer on purpose (the session's shared cluster, helper
processes of the standard library) is named here, so everything else is a leak.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple

import psutil

__all__ = ["Footprint", "shared_pids", "shared_ports"]

# Threads that belong to the process, not to what started them.
LASTING_THREADS = ("Dask-Offload", "asyncio_", "pytest_timeout")

# Each entry returns the process ids that a session-wide fixture owns right now: a nanny may have
# replaced a killed worker since the fixture started.
shared_pids: list[Callable[[], set[int]]] = []
# The same for ports of this process: Dask puts another nanny in the place of one that was retired.
shared_ports: list[Callable[[], set[int]]] = []


class Footprint(NamedTuple):
    """Processes, threads and ports that this process is responsible for."""

    processes: frozenset[tuple[int, str]]
    threads: frozenset[tuple[int | None, str]]
    ports: frozenset[int]

    @classmethod
    def now(cls) -> Footprint:
        """Look at this process and at its children, without what is shared on purpose."""
        me = psutil.Process()
        spared = {pid for pids in shared_pids for pid in pids()}
        children = {
            child.pid: command
            for child in me.children(recursive=True)
            if child.pid not in spared and (command := _command(child)) is not None
        }
        ports = _listening(me).union(*(_listening(pid) for pid in children))
        return cls(
            frozenset(children.items()),
            frozenset((t.ident, t.name) for t in threading.enumerate() if _counts(t)),
            frozenset(ports.difference(*(own() for own in shared_ports))),
        )

    def beyond(self, earlier: Footprint, allowed: Footprint) -> str:
        """Name what is here and was not in `earlier` nor is in `allowed`; empty when nothing is."""
        found = (
            ("process", self.processes - earlier.processes - allowed.processes),
            ("thread", self.threads - earlier.threads - allowed.threads),
            ("port", self.ports - earlier.ports - allowed.ports),
        )
        return "; ".join(
            f"{kind} {item!r}" for kind, items in found for item in sorted(items, key=str)
        )


def _command(process: psutil.Process) -> str | None:
    """Return the command line, or None for one that is gone or belongs to multiprocessing."""
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return "<zombie>"
        command = " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return None
    lasting = "multiprocessing.resource_tracker" in command or "forkserver" in command
    return None if lasting else command[:200]


def _counts(thread: threading.Thread) -> bool:
    """Say whether a thread keeps the process alive, or is the event loop of a Dask client."""
    if thread is threading.main_thread() or thread.name.startswith(LASTING_THREADS):
        return False
    return not thread.daemon or thread.name == "IO loop"


def _listening(process: psutil.Process | int) -> set[int]:
    try:
        process = psutil.Process(process) if isinstance(process, int) else process
        sockets = process.net_connections(kind="tcp")
    except psutil.Error:
        return set()
    return {s.laddr.port for s in sockets if s.status == psutil.CONN_LISTEN}
