"""The faults of a soak, each done to a flow that is executing."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
from distributed import Client

from tests.chaos.soak.plan import Fault
from tests.chaos.soak.processes import Bench, journal_pids
from tests.chaos.soak.storm import JOURNAL
from tests.foreign import ForeignCluster

__all__ = ["Injector", "damage_entries"]


class Injector:
    """Does faults to one flow; `done` lists what was done, with times.

    Parameters
    ----------
    bench : Bench
    cluster : ForeignCluster or None
        That the flow runs on, unless it has its own.
    """

    def __init__(self, bench: Bench, cluster: ForeignCluster | None) -> None:
        self.bench, self.cluster = bench, cluster
        self.done: list[tuple[float, str]] = []
        self.flow: subprocess.Popen[bytes] | None = None
        self._later: list[threading.Timer] = []
        self._lines: list[str] = []

    def inject(self, fault: Fault) -> None:
        """Do one fault; what it hits depends on what executes now."""
        self._lines = self._journal()
        if (said := getattr(self, f"_{fault.kind}")(fault)) is not None:
            self.done.append((time.time(), f"{fault.kind} {said}".strip()))

    def count(self, *kinds: str) -> int:
        """How often faults of these kinds were done."""
        return sum(said.split()[0] in kinds for _, said in self.done)

    def calm(self) -> None:
        """Wait for the end of all faults that last."""
        for timer in self._later:
            timer.join()

    # ---- workers

    def _kill_worker(self, fault: Fault) -> str | None:
        return self._signal(fault, signal.SIGKILL)

    def _kill_all_workers(self, fault: Fault) -> str | None:
        pids = self._workers()
        for pid in pids:
            _send(pid, signal.SIGKILL)
        return str(pids) if pids else None

    def _freeze(self, fault: Fault) -> str | None:
        pid = self._signal(fault, signal.SIGSTOP)
        if pid is None:
            return None
        self._after(fault.for_s, lambda: _send(int(pid), signal.SIGCONT))
        return f"{pid} for {fault.for_s} s"

    _freeze_long = _freeze

    def _retire(self, fault: Fault) -> str | None:
        place = self.bench.folder / "address"
        address = self.cluster.address if self.cluster else place.exists() and place.read_text()
        if not address:
            return None
        with suppress(OSError), Client(address, timeout=5, set_as_default=False) as client:
            workers = sorted(client.scheduler_info(n_workers=-1)["workers"])
            if len(workers) < 2 and self.cluster is None:
                return None  # nothing would start another one
            if workers:
                chosen = workers[fault.draw % len(workers)]
                client.retire_workers([chosen], close_workers=True, remove=True)
                if self.cluster is not None:
                    self.cluster.add_worker(nanny=True)
                return chosen
        return None

    def _kill_scheduler(self, fault: Fault) -> str | None:
        if self.cluster is None:
            return None
        self.cluster.kill_scheduler()
        time.sleep(min(fault.for_s, 1.0))
        self.cluster.restart_scheduler()
        for _ in range(2):
            self.cluster.add_worker(nanny=True)
        return self.cluster.address

    # ---- the flow process, and the store

    def _kill_flow(self, fault: Fault) -> str | None:
        return self._to_flow(signal.SIGKILL)

    def _interrupt(self, fault: Fault) -> str | None:
        return self._to_flow(signal.SIGINT)

    def _terminate(self, fault: Fault) -> str | None:
        return self._to_flow(signal.SIGTERM)

    def _lock_store(self, fault: Fault) -> str | None:
        file = self.bench.home / "runs.db"
        if not file.exists():
            return None
        held = sqlite3.connect(file, timeout=0.5, check_same_thread=False)
        try:
            held.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:  # the flow is writing just now
            held.close()
            return None
        self._after(fault.for_s, held.close)
        return f"for {fault.for_s} s"

    # ----

    def _to_flow(self, number: signal.Signals) -> str | None:
        if self.flow is None or self.flow.poll() is not None:
            return None
        self.flow.send_signal(number)
        return str(self.flow.pid)

    def _signal(self, fault: Fault, number: signal.Signals) -> str | None:
        pids = self._workers()
        if not pids:
            return None
        pid = pids[fault.draw % len(pids)]
        return str(pid) if _send(pid, number) else None

    def _workers(self) -> list[int]:
        """Live worker processes that have executed something lately."""
        flow = self.flow.pid if self.flow is not None else None
        return [pid for pid in journal_pids(self._lines) if pid != flow and _is_worker(pid)]

    def _after(self, seconds: float, call: Callable[[], object]) -> None:
        timer = threading.Timer(seconds, call)
        self._later.append(timer)
        timer.start()

    def _journal(self) -> list[str]:
        file = self.bench.folder / JOURNAL
        return file.read_text().splitlines() if file.exists() else []


def _send(pid: int, number: signal.Signals) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def _is_worker(pid: int) -> bool:
    """Whether the number still belongs to a worker: it might be another process by now."""
    try:
        process = psutil.Process(pid)
        alive = process.status() != psutil.STATUS_ZOMBIE
        return alive and "multiprocessing" in " ".join(process.cmdline())
    except psutil.Error:
        return False


def damage_entries(home: Path, draw: int, many: int) -> list[str]:
    """Delete and flip some files of the result store, while nobody uses it."""
    files = sorted((home / "results").glob("index/*/*")) + sorted(
        (home / "results").glob("packs/*")
    )
    hurt = []
    for turn in range(min(many, len(files))):
        file = files.pop((draw * (turn + 7)) % len(files))
        if turn % 2:
            file.unlink()
        else:
            data = bytearray(file.read_bytes())
            data[draw % len(data)] ^= 0x40
            file.chmod(0o600)
            file.write_bytes(data)
        hurt.append(file.name)
    return hurt
