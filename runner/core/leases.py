"""Who may take a lease: the decision, pure, and the lease as its holder knows it.

A lease is held by one process.  Its number, the fence, rises with every taker, and what is
written under a lower one counts for nothing.  A holder that is gone frees it at once; any other
one shows that it goes on by a counter that it raises, and an observer watches that counter on its
own clock, since wall clocks jump and differ.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

__all__ = ["CancelRequest", "Lease", "Leases", "Seen", "Verdict", "Watch", "is_claim_free", "judge"]

Verdict: TypeAlias = Literal["free", "held", "unsure"]


class Seen(NamedTuple):
    """What an observer saw of a lease at one moment."""

    fence: int
    heartbeat: int


class CancelRequest(NamedTuple):
    """The wish of another process that a flow run ends."""

    asked_at: float  # unix seconds
    asked_by: str  # "user@host (pid 4711)"
    grace_s: float | None  # for running task runs; None: what the flow says


class Lease:
    """The right to write the record of one flow run, for as long as nobody has taken it away.

    Parameters
    ----------
    flow_run_id : str
    fence : int, default 1
        How often the lease was taken, with this time.  A new flow run is held under 1 by the
        process that made it, without asking anybody.
    """

    __slots__ = ("_cancels", "_told", "asked", "fence", "flow_run_id", "lost", "noted")

    def __init__(self, flow_run_id: str, fence: int = 1) -> None:
        self.flow_run_id = flow_run_id
        self.fence = fence
        self.lost = False
        self.noted = fence > 1  # it stands in the store
        self.asked: CancelRequest | None = None  # to end the flow run
        self._told: list[Callable[[], object]] = []
        self._cancels: list[Callable[[CancelRequest], object]] = []

    def when_lost(self, call: Callable[[], object]) -> None:
        """Have `call` made once the lease is lost; it may come twice, and from any thread."""
        self._told.append(call)
        if self.lost:
            call()

    def lose(self) -> None:
        """Another process has taken the lease: this one writes nothing more under it."""
        if not self.lost:
            self.lost = True
            for call in list(self._told):
                call()

    def when_asked(self, call: Callable[[CancelRequest], object]) -> None:
        """Have `call` made when somebody wants the flow run to end; from any thread."""
        self._cancels.append(call)
        if self.asked is not None:
            call(self.asked)

    def ask(self, request: CancelRequest) -> None:
        """Somebody wants the flow run to end; told once for each wish."""
        if request != self.asked:
            self.asked = request
            for call in list(self._cancels):
                call(request)

    def __repr__(self) -> str:
        return f"<Lease of {self.flow_run_id}, fence {self.fence}{', lost' * self.lost}>"


class Leases(Protocol):
    """Leases on flow runs, as a run store keeps them."""

    def take(self, flow_run_id: str, patience_s: float | None = None) -> Lease: ...
    def renew(self, lease: Lease) -> bool: ...
    def release(self, lease: Lease) -> None: ...


class Watch:
    """How long each lease has stood still, by the clock of one observer."""

    def __init__(self) -> None:
        self._since: dict[str, tuple[Any, float]] = {}

    def still_s(self, name: str, seen: object, now: float) -> float:
        """Return for how many seconds `name` has looked as it does now; 0.0 at first sight.

        Parameters
        ----------
        name : str
        seen : object
            Whatever tells one sight from another.
        now : float
            Monotonic seconds.
        """
        before, since = self._since.get(name, (None, now))
        if before != seen:
            since = now
            self._since[name] = seen, now
        return max(0.0, now - since)

    def forget(self, name: str) -> None:
        """Watch `name` no more."""
        self._since.pop(name, None)


def judge(gone: bool | None, still_s: float, lease_s: float) -> Verdict:
    """Return whether a lease that somebody holds may be taken.

    Parameters
    ----------
    gone : bool or None
        Whether the holder's process has ended; None when that cannot be told from here.
    still_s : float
        For how many seconds this observer has seen no heartbeat.
    lease_s : float
        After how many seconds without one a lease lapses.

    Returns
    -------
    {"free", "held", "unsure"}
        ``"held"``: its process lives as far as can be told.  ``"unsure"``: only more watching
        can tell.  A living process that shows no heartbeat for long enough, since it is stopped
        or cannot write the store, has lost its lease too.
    """
    if gone or still_s >= lease_s:
        return "free"
    return "unsure" if gone is None else "held"


def is_claim_free(verdict: Verdict, executing: bool, idle_s: float, idle_most_s: float) -> bool:
    """Return whether a claim on a cache key that somebody holds may be taken.

    Parameters
    ----------
    verdict : {"free", "held", "unsure"}
        What `judge` says of its holder.
    executing : bool
        Whether the run that makes the result has started, and waits for no other run.
    idle_s : float
        For how many seconds this observer has seen it not executing.
    idle_most_s : float
        For how long such a claim is respected.  As none is respected longer that might wait for
        a claim itself, claims never wait for each other in a circle.
    """
    return verdict == "free" or (not executing and idle_s >= idle_most_s)
