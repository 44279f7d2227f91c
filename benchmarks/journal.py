"""Results as JSON lines: one line for a run and what it ran on, then one per measurement.

A file may hold many runs, one after the other; a line says by its "kind" what it is, and kinds of
later versions are skipped.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.measurement import Measurement

__all__ = ["Recorded", "Setting", "append", "describe_setting", "extend", "read"]

_PACKAGES = ("daskflow", "dask", "distributed", "cloudpickle", "tornado", "msgpack", "psutil")
_ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Setting:
    """Where, when and with what a run was measured."""

    date: str
    commit: str
    quick: bool
    rounds: int
    python: str
    versions: dict[str, str]
    system: str
    cpus: int
    load: tuple[float, float, float]


@dataclass(frozen=True)
class Recorded:
    """One run as a file holds it."""

    setting: Setting
    measurements: tuple[Measurement, ...]


def describe_setting(*, quick: bool, rounds: int) -> Setting:
    """Look at this machine, environment and commit."""
    return Setting(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=_commit(),
        quick=quick,
        rounds=rounds,
        python=platform.python_version(),
        versions={name: _version(name) for name in _PACKAGES},
        system=f"{platform.system()} {platform.machine()}",
        cpus=_cpus(),
        load=os.getloadavg(),
    )


def append(path: Path, setting: Setting, measurements: Iterable[Measurement]) -> None:
    """Add a run to a file; the file is made when it is not there."""
    _write(path, [{"kind": "run", **asdict(setting)}])
    extend(path, measurements)


def extend(path: Path, measurements: Iterable[Measurement]) -> None:
    """Add measurements to the last run of a file."""
    _write(path, [{"kind": "measurement", **one.to_json()} for one in measurements])


def _write(path: Path, lines: Iterable[dict[str, Any]]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.writelines(f"{json.dumps(line)}\n" for line in lines)


def read(path: Path) -> list[Recorded]:
    """Return the runs of a file, oldest first; `ValueError` names a line that cannot be read."""
    runs: list[tuple[Setting, list[Measurement]]] = []
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            line = json.loads(text)
            kind = line.pop("kind")
            if kind == "run":
                runs.append((Setting(**{**line, "load": tuple(line["load"])}), []))
            elif kind == "measurement":
                runs[-1][1].append(Measurement.from_json(line))
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise ValueError(f"{path}, line {number} is no result: {error!r}") from error
    return [Recorded(setting, tuple(measurements)) for setting, measurements in runs]


def _commit() -> str:
    try:
        name = _git("rev-parse", "--short=12", "HEAD")
        return f"{name}+changes" if _git("status", "--porcelain", "-uno") else name
    except (OSError, subprocess.CalledProcessError):
        return "unknown"  # no git, or a copy without history


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=_ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _cpus() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this platform
        return os.cpu_count() or 1
