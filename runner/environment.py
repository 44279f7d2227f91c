"""What a run's record keeps of the environment, so that two runs can be compared."""

from __future__ import annotations

import functools
import json
import os
import platform
import sys

__all__ = ["environment_json"]

_PACKAGES = ("daskflow", "dask", "distributed", "cloudpickle", "pyarrow", "pandas", "numpy")


@functools.cache
def _versions() -> dict[str, str]:
    """Version of each package that is installed, as `importlib.metadata` would find it first.

    An installed package has a folder that its version is part of the name of.  importlib.metadata
    with its parsers is asked only where a package came another way: it costs a tenth of a flow.
    """
    found: dict[str, str] = {}
    for entry in sys.path:
        try:
            listed = os.listdir(entry or ".")
        except NotADirectoryError:  # an archive
            return _parsed_versions()
        except OSError:
            continue
        for name in listed:
            project, dash, version = name.removesuffix(".dist-info").lower().partition("-")
            if project.partition(".")[0] in _PACKAGES and name.endswith((".egg-info", ".egg")):
                return _parsed_versions()
            if dash and project in _PACKAGES and name.endswith(".dist-info"):
                found.setdefault(project, version)
    return {name: found[name] for name in _PACKAGES if name in found}


def _parsed_versions() -> dict[str, str]:
    import importlib.metadata  # heavy, see above

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
