"""A flow's own exception, told without the frames of the engine that called it.

The user reads their own lines first.  A traceback that has no frame of theirs stays whole: then
the defect is ours, and every frame counts.
"""

from __future__ import annotations

import os
import traceback

import daskflow

__all__ = ["describe_exception"]


def describe_exception(error: BaseException, engine_folders: tuple[str, ...] | None = None) -> str:
    """Return the traceback of `error` and of its causes without frames of the engine.

    Parameters
    ----------
    error : BaseException
        What the flow raised.
    engine_folders : tuple of str, optional
        Folders whose frames are left out, as are those of the import system; by default those
        of daskflow.
    """
    folders = _engine_folders() if engine_folders is None else engine_folders
    told = traceback.TracebackException.from_exception(error)
    _trim(told, folders, set())
    return "".join(told.format()).rstrip("\n")


def _trim(told: traceback.TracebackException, folders: tuple[str, ...], seen: set[int]) -> None:
    if id(told) in seen:
        return
    seen.add(id(told))
    theirs = [frame for frame in told.stack if not _is_engine(frame.filename, folders)]
    if theirs:
        told.stack = traceback.StackSummary.from_list(theirs)
    for linked in (told.__cause__, told.__context__, *(told.exceptions or ())):
        if linked is not None:
            _trim(linked, folders, seen)


def _is_engine(filename: str, folders: tuple[str, ...]) -> bool:
    return filename.startswith(("<frozen ", *folders))


def _engine_folders() -> tuple[str, ...]:
    # the rooms are links inside the package: a frame may carry either path
    package = os.path.dirname(daskflow.__file__)
    inside = [entry.path for entry in os.scandir(package) if entry.is_symlink()]
    folders = dict.fromkeys([package, *map(os.path.realpath, (package, *inside))])
    return tuple(f"{folder}{os.sep}" for folder in folders)
