"""A file system for fsspec over real files that fails on demand, in every process that imports it.

``faulty://`` URLs are folders.  A file ``space`` beside the root holds how many bytes may lie
below it: more is ENOSPC.  `fail_every` makes every n-th call of this process fail.  Publishing is
whole or not at all, as on an object store.
"""

from __future__ import annotations

import errno
import itertools
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

__all__ = ["fail_every", "space"]

_next_call: Callable[[], int] = itertools.count(1).__next__
_every = 0


def fail_every(n: int) -> None:
    """From now on, every n-th call fails; 0 for none."""
    global _every, _next_call
    _every, _next_call = n, itertools.count(1).__next__


def space(root: Path) -> Path:
    """The file that holds how many bytes may lie below `root`."""
    return root.parent / "space"


def _call() -> None:
    if _every and _next_call() % _every == 0:
        raise OSError(errno.EIO, "this call was chosen to fail")


def _take(path: Path, size: int) -> None:
    root = next((each for each in path.parents if space(each).exists()), None)
    if root is not None:
        used = sum(each.stat().st_size for each in root.rglob("*") if each.is_file())
        if used + size > int(space(root).read_text()):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


class FaultyFiles(LocalFileSystem):
    protocol = "faulty"

    def __init__(self, **options: Any) -> None:
        super().__init__(auto_mkdir=True, **options)

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return super()._strip_protocol(str(path).removeprefix("faulty://"))

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        _call()
        target = Path(self._strip_protocol(path))
        _take(target, len(value))
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{uuid.uuid4().hex}")
        temporary.write_bytes(value)
        try:
            if mode == "create":
                os.link(temporary, target)
            else:
                os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)

    def put_file(self, lpath: str, rpath: str, mode: str = "overwrite", **_: Any) -> None:
        self.pipe_file(rpath, Path(lpath).read_bytes(), mode)

    def cat_file(self, path: str, *args: Any, **options: Any) -> Any:
        _call()
        return super().cat_file(path, *args, **options)

    def find(self, path: str, *args: Any, **options: Any) -> Any:
        _call()
        return super().find(path, *args, **options)

    def info(self, path: str, **options: Any) -> Any:
        return super().info(path, **options)


fsspec.register_implementation("faulty", FaultyFiles, clobber=True)
