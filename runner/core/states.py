"""The states of flow runs and task runs, and the one table of what may follow what.

Pure: no clock, no I/O.  A state is a plain interned string on the hot path; users meet it inside
`daskflow.runner.state.State`.  A final state of a task run never changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from daskflow.errors import InvalidTransition

__all__ = [
    "AWAITING_RETRY",
    "CACHED",
    "CANCELLED",
    "CANCELLING",
    "COMPLETED",
    "CRASHED",
    "FAILED",
    "FINAL",
    "FLOW_TRANSITIONS",
    "LATE",
    "NOT_READY",
    "PAUSED",
    "PENDING",
    "RESUMABLE",
    "RETRYING",
    "RUNNING",
    "SCHEDULED",
    "STATES",
    "SUCCESSFUL",
    "TIMED_OUT",
    "TRANSITIONS",
    "TYPES",
    "check_transition",
]

SCHEDULED = "Scheduled"
LATE = "Late"
PENDING = "Pending"
RUNNING = "Running"
RETRYING = "Retrying"
AWAITING_RETRY = "AwaitingRetry"
PAUSED = "Paused"
CANCELLING = "Cancelling"
CACHED = "Cached"
COMPLETED = "Completed"
FAILED = "Failed"
TIMED_OUT = "TimedOut"
NOT_READY = "NotReady"
CRASHED = "Crashed"
CANCELLED = "Cancelled"

SUCCESSFUL = frozenset({COMPLETED, CACHED})
FINAL = frozenset({COMPLETED, CACHED, FAILED, TIMED_OUT, NOT_READY, CRASHED, CANCELLED})

# Prefect's type of each state name; several names share a type.
TYPES: Mapping[str, str] = MappingProxyType(
    {
        SCHEDULED: "SCHEDULED",
        LATE: "SCHEDULED",
        AWAITING_RETRY: "SCHEDULED",
        PENDING: "PENDING",
        NOT_READY: "PENDING",
        RUNNING: "RUNNING",
        RETRYING: "RUNNING",
        PAUSED: "PAUSED",
        CANCELLING: "CANCELLING",
        CACHED: "COMPLETED",
        COMPLETED: "COMPLETED",
        FAILED: "FAILED",
        TIMED_OUT: "FAILED",
        CRASHED: "CRASHED",
        CANCELLED: "CANCELLED",
    }
)
STATES = tuple(TYPES)

_ENDED_BADLY = frozenset({FAILED, TIMED_OUT, CRASHED, CANCELLED})
_NO_MORE: frozenset[str] = frozenset()

TRANSITIONS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        SCHEDULED: frozenset({LATE, PENDING, RUNNING, CANCELLED, CRASHED}),
        LATE: frozenset({PENDING, RUNNING, CANCELLED, CRASHED}),
        # Pending may crash without running: no worker came, or its worker was lost in the queue
        PENDING: frozenset({RUNNING, CACHED, NOT_READY, PAUSED, FAILED, CRASHED, CANCELLED}),
        RUNNING: _ENDED_BADLY
        | {COMPLETED, CACHED, PENDING, AWAITING_RETRY, RETRYING, PAUSED, CANCELLING},
        # NotReady: lost together with an input that rode in its parcel and failed when made again
        AWAITING_RETRY: frozenset({RETRYING, NOT_READY, CRASHED, CANCELLED}),
        RETRYING: _ENDED_BADLY | {COMPLETED, CACHED, AWAITING_RETRY, RETRYING, PAUSED, CANCELLING},
        PAUSED: frozenset({PENDING, RUNNING, RETRYING, FAILED, CANCELLED, CRASHED}),
        CANCELLING: _ENDED_BADLY | {COMPLETED},
        CACHED: _NO_MORE,
        COMPLETED: _NO_MORE,
        FAILED: _NO_MORE,
        TIMED_OUT: _NO_MORE,
        NOT_READY: _NO_MORE,
        CRASHED: _NO_MORE,
        CANCELLED: _NO_MORE,
    }
)

# A flow run whose attempt has ended can be resumed: its next attempt is Retrying.  Only
# `retry --failed` goes on with one that is Completed, when runs of it failed all the same.
RESUMABLE = frozenset({FAILED, TIMED_OUT, CRASHED, CANCELLED})
# And it may be cancelled before its first attempt, or between two.
FLOW_TRANSITIONS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        **TRANSITIONS,
        **{state: TRANSITIONS[state] | {CANCELLING} for state in (PENDING, AWAITING_RETRY)},
        **{state: frozenset({RETRYING}) for state in RESUMABLE | {COMPLETED}},
    }
)


def check_transition(old: str, new: str, story: object) -> None:
    """Raise `InvalidTransition` unless `new` may follow `old` in the life of a task run.

    Parameters
    ----------
    old, new : str
        Names of states.
    story : object
        What is known of the run; its `repr` goes into the message.
    """
    if new not in TRANSITIONS[old]:
        allowed = ", ".join(sorted(TRANSITIONS[old])) or "nothing: it is final"
        raise InvalidTransition(f"{old} cannot become {new} (allowed: {allowed}); {story!r}")
