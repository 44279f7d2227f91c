"""What a worker has of what a flow needs: packages that it can import, folders that it shares.

Asked once per session, by `cluster/fitness.py`, before the first task run that needs them.
"""

from __future__ import annotations

import asyncio
import importlib.util
import sys
import uuid
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from daskflow.errors import StoreError
from daskflow.results.storage import Storage

__all__ = ["Probe", "Sight", "look_around"]


class Probe(NamedTuple):
    """A small file that the flow process has written to a storage, for workers to find."""

    url: str
    path: str | None  # None: the flow process cannot write there, so there is nothing to find
    token: bytes


class Sight(NamedTuple):
    """What one worker lacks."""

    packages: list[str]
    unshared: list[str]  # URLs where it does not find the probe
    unwritable: dict[str, str]  # URL to reason
    canaries: Mapping[str, tuple[str, str]]  # digest and version by library, of fixed values


async def look_around(
    packages: Sequence[str], probes: Sequence[Probe], hashed: Sequence[str] = ()
) -> Sight:
    """Tell what this process cannot import, see or write; never holds up the worker's loop.

    `hashed`: libraries whose values to make digests of, where results are cached.
    """
    return await asyncio.to_thread(_look, packages, probes, hashed)


def _look(packages: Sequence[str], probes: Sequence[Probe], hashed: Sequence[str]) -> Sight:
    sight = Sight([name for name in packages if not _has(name)], [], {}, _canaries(hashed))
    for probe in probes:
        try:
            storage = Storage(probe.url)
            if probe.path is not None and storage.read(probe.path) != probe.token:
                sight.unshared.append(probe.url)
                continue
            own = f"{uuid.uuid4().hex}.tmp"
            storage.create(own, b"probe")
            storage.delete([own])
        except StoreError as error:
            sight.unwritable[probe.url] = str(error)
    return sight


def _canaries(hashed: Sequence[str]) -> Mapping[str, tuple[str, str]]:
    if not hashed:
        return {}
    from daskflow.caching.canary import canaries  # loads the caching room

    return canaries(hashed)


def _has(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # loaded, and made by hand: it has no spec
        return package in sys.modules
