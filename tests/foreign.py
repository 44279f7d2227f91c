"""A Dask cluster that is not ours: `dask scheduler` and `dask worker` as processes of their own.

They know nothing of the test process but its address: no shared memory, no inherited modules.
Everything listens on 127.0.0.1 and each process leads a session, so teardown can end it with
all its children whatever a test did to it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

__all__ = ["CALM", "ForeignCluster", "eventually"]

# Dask's servers watch themselves; that takes a twentieth of a core each, all the time.
CALM = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "500ms",
    "distributed.admin.system-monitor.interval": "1s",
}
_CALM = {
    "DASK_" + name.upper().replace(".", "__").replace("-", "_"): str(value)
    for name, value in CALM.items()
}
LOOPBACK = ("--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0")
ROOT = Path(__file__).resolve().parent.parent


def eventually(condition: Callable[[], object], within_s: float = 10.0) -> None:
    """Return as soon as `condition()` is true; fail when it is not within `within_s` seconds."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not true within {within_s} s: {condition!r}")
        time.sleep(0.02)


class ForeignCluster:
    """Scheduler and workers as subprocesses, with handles to kill them one by one.

    Attributes
    ----------
    address : str
        Of the scheduler, ``tcp://127.0.0.1:<port>``.
    scheduler : subprocess.Popen
        The scheduler's process.
    workers : dict of str to subprocess.Popen
        The worker processes by the name that Dask knows them under.
    """

    def __init__(self, folder: Path, n_workers: int = 2) -> None:
        self.folder = folder
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        self.address = ""
        self.scheduler = self._start_scheduler()
        for _ in range(n_workers):
            self.add_worker()

    def add_worker(self, *options: str, nanny: bool = False, through: str = "") -> str:
        """Start one more worker of one thread and return its name.

        Without a nanny, the process in `workers` is the one that executes tasks.  `through` is
        another address under which it reaches the scheduler.
        """
        name = f"foreign-{len(self.workers)}"
        options = ("--nanny" if nanny else "--no-nanny", "--nthreads", "1", *options)
        folder = ("--local-directory", str(self.folder))
        self.workers[name] = self._popen(
            name,
            [
                *("worker", through or self.address, "--name", name, "--memory-limit", "0"),
                *(*folder, *options),
            ],
        )
        return name

    def kill_worker(self, name: str) -> None:
        """Kill a worker with SIGKILL, as the kernel does when memory runs out."""
        self.workers[name].kill()
        self.workers[name].wait(10)

    def log(self, name: str) -> str:
        """Return what a process has printed so far; the scheduler's name is ``scheduler``."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def close(self) -> None:
        """End every process and its children."""
        for process in [*self.workers.values(), self.scheduler]:
            children = []
            with suppress(psutil.NoSuchProcess):
                children = psutil.Process(process.pid).children(recursive=True)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
            psutil.wait_procs(children, timeout=10)

    def kill_scheduler(self) -> None:
        """Kill the scheduler with SIGKILL; its workers end by themselves."""
        self.scheduler.kill()
        self.scheduler.wait(10)

    def restart_scheduler(self) -> None:
        """Start another scheduler at the address of the one that was killed."""
        (self.folder / "scheduler.json").unlink()
        self.scheduler = self._start_scheduler(self.address.rpartition(":")[2])

    def _start_scheduler(self, port: str = "0") -> subprocess.Popen[bytes]:
        about = self.folder / "scheduler.json"
        process = self._popen(
            "scheduler",
            ["scheduler", "--port", port, "--no-show", "--scheduler-file", str(about)],
        )
        self.scheduler = process
        try:
            eventually(lambda: about.exists() or process.poll() is not None, within_s=60)
            eventually(lambda: about.read_text().rstrip().endswith("}"))
        except (AssertionError, OSError) as error:
            self.close()
            raise RuntimeError(f"no scheduler came up: {self.log('scheduler')}") from error
        self.address = json.loads(about.read_text())["address"]
        return process

    def _popen(self, name: str, arguments: list[str]) -> subprocess.Popen[bytes]:
        """Run ``dask …`` with the repository importable, so test modules are too."""
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        place = LOOPBACK[2:] if "--listen-address" in arguments else LOOPBACK
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "dask", arguments[0], *place, *arguments[1:]],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **_CALM, "PYTHONPATH": path, "PYTHONWARNINGS": "default"},
                cwd=self.folder,
                start_new_session=True,
            )
