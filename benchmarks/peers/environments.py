"""The virtual environment of each peer, made when it is first asked for and kept.

Nothing of it is a dependency of the project: an environment holds the peer and psutil, and finds
the workloads by PYTHONPATH.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

__all__ = ["PEERS", "Peer", "PeerMissing", "default_cache", "environment_of"]

STAMP = "requirements.txt"


class Peer(NamedTuple):
    """What is installed, which module says how to submit, and the package whose version counts."""

    requirements: tuple[str, ...]
    module: str
    package: str


PEERS: Mapping[str, Peer] = {
    "joblib": Peer(("joblib>=1.4",), "joblib_engine", "joblib"),
    "parsl": Peer(("parsl>=2025.1",), "parsl_engine", "parsl"),
    "prefect": Peer(("prefect>=3.4",), "prefect_engine", "prefect"),
    "prefect-dask": Peer(("prefect-dask>=0.3.4",), "prefect_dask_engine", "prefect-dask"),
    "ray": Peer(("ray>=2.40",), "ray_engine", "ray"),
}
_ALWAYS = ("psutil>=6",)


class PeerMissing(Exception):
    """A peer's environment could not be made."""


def default_cache() -> Path:
    """Return where environments are kept: in the user's folder for caches."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "daskflow-benchmarks" / "peers"


def environment_of(name: str, cache: Path, *, progress: Callable[[str], object]) -> Path:
    """Return the Python of a peer's environment; make it first when it is not there.

    An environment whose requirements have changed is made anew.  `PeerMissing` carries what the
    installer said.
    """
    requirements = "\n".join((*PEERS[name].requirements, *_ALWAYS, f"# {sys.version}"))
    folder = cache / name
    python, stamp = folder / "bin" / "python", folder / STAMP
    if stamp.exists() and stamp.read_text(encoding="utf-8") == requirements:
        return python
    progress(f"making the environment of {name} in {folder}")
    shutil.rmtree(folder, ignore_errors=True)
    _run([sys.executable, "-m", "venv", "--without-pip", str(folder)], name)
    install = ["-m", "pip", "--python", str(python), "install", "--quiet"]
    _run([sys.executable, *install, *PEERS[name].requirements, *_ALWAYS], name)
    stamp.write_text(requirements, encoding="utf-8")
    return python


def _run(command: list[str], name: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PeerMissing(f"{name} cannot be installed:\n{done.stderr[-2000:]}")
