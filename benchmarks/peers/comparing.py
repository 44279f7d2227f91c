"""Cases in which peers take their turns with plain Dask and daskflow.

A peer runs as a process of its own; its start, warm-up and end are not timed, as nobody's are.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.cpu import CpuSeconds, Meter
from benchmarks.engines import DaskflowEngine, Engine, RawDask, local_cluster
from benchmarks.harness import Case, WrongValue, engine_timing
from benchmarks.measurement import Timing
from benchmarks.workloads import WORKLOADS, Workload

__all__ = ["COMPARED", "compared_cases", "peer_version"]

# Case and size: what peers do in minutes, not hours.
COMPARED: Mapping[str, int] = {
    "W1.submit": 1_000,
    "W1.map": 1_000,
    "W2.chain": 300,
    "W3.tree": 1_024,
    "W5.20ms": 200,
}
_ROOT = Path(__file__).parent.parent.parent
_TIMEOUT_S = 900.0
_UNABLE = 3


def compared_cases(
    names: Sequence[str],
    pythons: Mapping[str, Path],
    scratch: Path,
    *,
    progress: Callable[[str], object],
) -> Iterator[Case]:
    """Yield the chosen cases, with those peers that can do their work."""
    by_name = {workload.name: workload for workload in WORKLOADS}
    with local_cluster(scratch / "cluster") as client:
        meter = Meter(set(client.run(os.getpid).values()))
        own: list[Engine] = [RawDask(client), DaskflowEngine(client.cluster, scratch / "home")]
        for name in names:
            workload, size = by_name[name], COMPARED[name]
            contenders = {engine.name: _own(workload, size, engine, meter) for engine in own}
            for peer, python in pythons.items():
                # a small run, not counted, tells whether it can
                reason = _reason_against(_peer(python, peer, name, workload.warm_size))
                if reason is None:
                    contenders[peer] = _peer(python, peer, name, size)
                else:
                    progress(f"{name}: without {peer}: {reason}")
            title = f"{workload.title}, size {size:,}"
            yield Case(f"peers.{name}", title, size, workload.runs(size), contenders)


def peer_version(python: Path, package: str) -> str:
    """Return the version of a package in an environment."""
    code = f"from importlib.metadata import version; print(version({package!r}))"
    command = [str(python), "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


class _CannotDo(Exception):
    """The peer has no way of doing this."""


def _own(workload: Workload, size: int, engine: Engine, meter: Meter) -> Callable[[], Timing]:
    return lambda: engine_timing(workload, size, engine, meter)


def _reason_against(run: Callable[[], Timing]) -> str | None:
    try:
        run()
    except (_CannotDo, WrongValue) as error:
        return str(error)
    return None


def _peer(python: Path, peer: str, case: str, size: int) -> Callable[[], Timing]:
    command = [str(python), "-m", "benchmarks.peers", peer, case, str(size)]
    # the environment's own programs are found: some peers start helpers by name
    path = f"{python.parent}{os.pathsep}{os.environ.get('PATH', '')}"
    environment = {**os.environ, "PYTHONPATH": str(_ROOT), "PATH": path}
    environment.pop("VIRTUAL_ENV", None)

    def run() -> Timing:
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, check=False,
                timeout=_TIMEOUT_S,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise _CannotDo(f"it took longer than {_TIMEOUT_S:g} s") from None
        if done.returncode == _UNABLE:
            raise _CannotDo(done.stderr.strip().splitlines()[-1])
        if done.returncode:
            raise WrongValue(f"{peer} ended with {done.returncode}:\n{done.stderr[-1500:]}")
        line = json.loads(done.stdout.strip().splitlines()[-1])
        return Timing(line["wall_s"], CpuSeconds(**line["cpu"]))

    return run
