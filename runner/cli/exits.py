"""Exit codes: what a shell script learns from a command without reading its words.

The numbers are public; a new outcome gets a new number, an old one never changes its meaning.
"""

from __future__ import annotations

from enum import IntEnum

from daskflow.errors import (
    ClusterError,
    DaskflowError,
    NotFoundError,
    StoreError,
    TaskCancelled,
    TaskCrashed,
    UsageError,
)

__all__ = ["ExitCode", "exit_code_of_error", "exit_code_of_state"]


class ExitCode(IntEnum):
    """What a command's exit code says."""

    COMPLETED = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    CANCELLED = 4
    CRASHED = 5
    UNREACHABLE = 6
    INTERRUPTED = 130
    BROKEN_PIPE = 141  # what a shell reports for a program that its reader left


# The first class that fits counts, so subclasses stand before their base.
_OF_ERROR: tuple[tuple[type[DaskflowError], ExitCode], ...] = (
    (UsageError, ExitCode.USAGE),
    (NotFoundError, ExitCode.NOT_FOUND),
    (TaskCancelled, ExitCode.CANCELLED),
    (TaskCrashed, ExitCode.CRASHED),
    (ClusterError, ExitCode.UNREACHABLE),
    (StoreError, ExitCode.UNREACHABLE),
)

_OF_STATE = {
    "Completed": ExitCode.COMPLETED,
    "Cached": ExitCode.COMPLETED,
    "Cancelled": ExitCode.CANCELLED,
    "Cancelling": ExitCode.CANCELLED,
    "Crashed": ExitCode.CRASHED,
}


def exit_code_of_error(error: DaskflowError) -> ExitCode:
    """Return the exit code of a command that ended with this error."""
    return next((code for kind, code in _OF_ERROR if isinstance(error, kind)), ExitCode.FAILED)


def exit_code_of_state(state: str) -> ExitCode:
    """Return the exit code of a flow run that ended in this state."""
    return _OF_STATE.get(state, ExitCode.FAILED)
