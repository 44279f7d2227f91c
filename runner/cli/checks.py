"""The checks of `daskflow doctor`: each returns what it found and what to do about it.

A check never raises for what it is there to find; one that cannot go on says so as a failure.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, NamedTuple

from daskflow.config import get_settings, settings_files
from daskflow.errors import DaskflowError

__all__ = [
    "Check",
    "check_cluster",
    "check_settings",
    "check_store",
    "check_versions",
    "compare_versions",
]

_PACKAGES = (
    "daskflow",
    "dask",
    "distributed",
    "cloudpickle",
    "pyarrow",
    "fsspec",
    "bokeh",
    "pydantic",
)
_COMPARED = ("python", "dask", "distributed", "cloudpickle", "msgpack")
_START_TIMEOUT_S = 60.0


class Check(NamedTuple):
    """One line of the examination."""

    name: str
    status: Literal["ok", "warn", "fail"]
    found: str
    advice: str = ""  # what to do; empty where all is well


def check_versions() -> Iterator[Check]:
    """Report Python and the packages that daskflow stands on."""
    python = ".".join(map(str, sys.version_info[:3]))
    if (3, 11) <= sys.version_info < (3, 14):
        yield Check("python", "ok", python)
    else:
        yield Check("python", "warn", python, "daskflow is tested on Python 3.11 to 3.13")
    for package in _PACKAGES:
        try:
            yield Check(package, "ok", metadata.version(package))
        except metadata.PackageNotFoundError:
            yield Check(package, "fail", "not installed", f"pip install {package}")


def check_settings() -> Iterator[Check]:
    """Report the settings files that count, and whether every setting fits."""
    files = ", ".join(map(str, settings_files())) or "no settings file, defaults count"
    try:
        get_settings()
    except DaskflowError as error:
        yield Check("settings", "fail", str(error), "correct it; `daskflow config` shows the rest")
    else:
        yield Check("settings", "ok", files)


def check_store() -> Iterator[Check]:
    """Report whether the run record can be read and written, and the schema that we know."""
    # sqlite3 and the SQL files: only this check needs them
    from daskflow.runner.store import open_store
    from daskflow.runner.store.address import sqlite_path
    from daskflow.runner.store.statements import load_migrations

    url = get_settings().store.url
    try:
        path = sqlite_path(url)
        if not path.exists():
            yield _check_new_store(path)
            return
        open_store(url).close()
    except DaskflowError as error:
        yield Check("store", "fail", str(error), "set DASKFLOW_STORE__URL or DASKFLOW_HOME")
        return
    found = f"{path}, schema up to {load_migrations('sqlite')[-1].version}"
    if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK):
        yield Check("store", "ok", found)
    else:
        yield Check("store", "fail", f"{found}, not writable", f"make {path.parent} writable")


def _check_new_store(path: Path) -> Check:
    existing = next(folder for folder in path.parents if folder.exists())
    if existing.is_dir() and os.access(existing, os.W_OK | os.X_OK):
        return Check("store", "ok", f"{path}, made by the first run")
    advice = f"make {existing} writable, or set DASKFLOW_HOME to another folder"
    return Check("store", "fail", f"{path} cannot be made", advice)


def check_cluster(address: str | None) -> Iterator[Check]:
    """Start local worker processes, or connect to `address`, and run one task there."""
    # Dask: half a second of import that no other check needs
    from daskflow.runner.cluster.providers import resolve_task_runner
    from daskflow.runner.cluster.session import open_session

    name = "cluster" if address else "workers"
    advice = (
        "does a worker serve that scheduler, and is it free?"
        if address
        else 'run flows with task_runner="threads" until worker processes can start'
    )
    began = time.monotonic()
    try:
        session = open_session(resolve_task_runner(address or "processes"))
        try:
            client = session.client
            client.submit(int, 1, pure=False).result(timeout=_START_TIMEOUT_S)
            took = time.monotonic() - began
            seen: Any = client.get_versions()
            daskflows: Any = client.run(metadata.version, "daskflow", on_error="return")
        finally:
            session.close()
    except Exception as error:
        # whatever Dask, a proxy or the system raised: finding it is this check's purpose
        yield Check(name, "fail", f"{type(error).__name__}: {error}", advice)
        return
    yield Check(name, "ok", f"{session.description}, first task after {took:.1f}s")
    if address:
        yield from compare_versions(seen, daskflows)


def compare_versions(seen: Mapping[str, Any], daskflows: Mapping[str, Any]) -> Iterator[Check]:
    """Report where the versions of scheduler and workers differ from ours.

    Parameters
    ----------
    seen : mapping
        What `distributed.Client.get_versions` returns.
    daskflows : mapping
        The version of daskflow by worker address, or the exception that asking for it raised.
    """
    ours = seen["client"]["packages"]
    nodes = {"scheduler": seen["scheduler"], **seen["workers"]}
    differences = [
        f"{node}: {package} {theirs} here {ours.get(package)}"
        for node, information in nodes.items()
        for package, theirs in information["packages"].items()
        if package in _COMPARED and theirs != ours.get(package)
    ]
    own = metadata.version("daskflow")
    for worker, version in daskflows.items():
        if isinstance(version, BaseException):
            yield Check(
                "daskflow on workers", "fail", f"{worker}: none", "install it on every worker"
            )
        elif version != own:
            differences.append(f"{worker}: daskflow {version} here {own}")
    if differences:
        advice = "use the same versions everywhere; another minor version of Python cannot work"
        yield Check("same versions", "warn", "; ".join(differences), advice)
    else:
        yield Check("same versions", "ok", f"scheduler and {len(seen['workers'])} workers as here")
