"""The private folder of a session on this machine, and the folders of sessions that were killed.

Worker processes spill data there and keep their flight recorders in it.  A session removes its
folder when it closes; a flow process that is killed cannot, so each folder holds a lock file
that the kernel unlocks with the process, and the next session removes what nobody holds.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import dask

try:
    import fcntl
except ImportError:  # Windows: no sweeping there
    fcntl = None  # type: ignore[assignment]

__all__ = ["private_folder"]

_PREFIX = "daskflow-"
_LOCK = "alive.lock"


def private_folder() -> tuple[Path, Callable[[], None]]:
    """Make a folder of mode 0700 and return it with the function that removes it.

    It lies where Dask's configuration (`temporary-directory`) wants temporary files, else in
    the system's place for them.
    """
    parent = Path(dask.config.get("temporary-directory", None) or tempfile.gettempdir())
    _sweep(parent)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    lock = os.open(folder / "new.lock", os.O_RDWR | os.O_CREAT, 0o600)
    _locked(lock)
    os.rename(folder / "new.lock", folder / _LOCK)  # seen by a sweep only when it is locked

    def remove() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)

    return folder, remove


def _sweep(parent: Path) -> None:
    """Remove folders of our own whose process is gone."""
    if fcntl is None:
        return
    for path in parent.glob(f"{_PREFIX}*/{_LOCK}"):
        with suppress(OSError):  # somebody else's, or gone meanwhile
            lock = os.open(path, os.O_RDWR)
            try:
                if os.fstat(lock).st_uid == os.getuid() and _locked(lock):
                    shutil.rmtree(path.parent, ignore_errors=True)
            finally:
                os.close(lock)


def _locked(lock: int) -> bool:
    if fcntl is None:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
