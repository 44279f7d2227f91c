"""The processes of a soak: a flow that is started or resumed, and what is left of it afterwards.

All of them inherit one variable of the environment, by which they are found again.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from tests.chaos.soak.plan import FlowPlan
from tests.foreign import ROOT

__all__ = ["MARK", "Bench", "journal_pids", "marked", "start_flow"]

MARK = "DASKFLOW_SOAK"
CLI = [sys.executable, "-m", "daskflow.runner.cli.main"]


class Bench:
    """Where one flow of a soak works: its own folders, the store that it shares with others.

    Attributes
    ----------
    folder, temporary : Path
        Of the flow, for journal and answer, and for temporary files.
    home : Path
        ``DASKFLOW_HOME``.
    address : str or None
        Of the foreign cluster, if it runs on one.
    """

    def __init__(self, folder: Path, home: Path, epoch: int, address: str | None) -> None:
        self.folder, self.home, self.epoch, self.address = folder, home, epoch, address
        self.temporary = folder / "tmp"
        self.temporary.mkdir(parents=True)

    @property
    def url(self) -> str:
        return f"sqlite:///{self.home}/runs.db"

    def log(self) -> str:
        return (self.folder / "log.txt").read_text(errors="replace")


def start_flow(plan: FlowPlan, bench: Bench, resume: str | None) -> subprocess.Popen[bytes]:
    """Start the flow's process, or let its flow run go on."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("DASKFLOW_") or k == MARK}
    environment = clean | {
        "DASKFLOW_HOME": str(bench.home),
        "DASKFLOW_RUNNER__WORKERS": str(plan.workers),
        "TMPDIR": str(bench.temporary),
        "PYTHONPATH": str(ROOT),
    }
    place = {"own": "processes", "threads": "threads"}.get(plan.place) or bench.address
    if resume is not None:
        command = ["runs", "resume", resume, "--task-runner", str(place)]
    else:
        given = {
            "folder": bench.folder,
            "seed": plan.seed,
            "size": plan.size,
            "epoch": bench.epoch,
            "poison": str(plan.poison).lower(),
            "cluster": str(plan.place != "threads").lower(),
        }
        parameters = [word for key, value in given.items() for word in ("-p", f"{key}={value}")]
        target = "tests.chaos.soak.storm:storm"
        command = ["run", target, "--task-runner", str(place), *parameters]
    with (bench.folder / "log.txt").open("ab") as log:
        log.write(f"\n==== {time.time():.3f} daskflow {' '.join(command)}\n".encode())
        log.flush()
        return subprocess.Popen(
            [*CLI, *command],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def marked() -> Iterator[psutil.Process]:
    """Every process but this one that belongs to this soak."""
    mine = os.environ[MARK].encode()
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            held = Path(f"/proc/{process.pid}/environ").read_bytes()
            if f"{MARK}=".encode() + mine in held.split(b"\0"):
                yield process


def journal_pids(lines: list[str]) -> list[int]:
    """Processes that executed something lately, by the end of a journal."""
    return sorted({int(line.split()[4]) for line in lines[-300:]})
