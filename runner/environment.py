"""What a run's record keeps of the environment, so that two runs can be compared."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import os
import platform
import sys

__all__ = ["environment_json"]

_PACKAGES = ("daskflow", "dask", "distributed", "cloudpickle", "pyarrow", "pandas", "numpy")


@functools.cache
def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def environment_json() -> str:
    """JSON object with versions, platform, working directory and command of this process."""
    return json.dumps(
        {
            "python": platform.python_version(),
            **_versions(),
            "platform": f"{platform.system()} {platform.machine()}",
            "cwd": os.getcwd(),
            "argv": sys.argv[:1],  # not all: arguments may hold credentials
        }
    )
