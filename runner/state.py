"""The state of a flow run or task run, as users see it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from daskflow.errors import UsageError
from daskflow.runner.core import states

__all__ = ["State"]


class State:
    """A named state with its message and, when final, a result.

    Parameters
    ----------
    name : str
        One of Prefect's state names, for example ``"Completed"`` or ``"AwaitingRetry"``.
    message : str, optional
        What a person should know: the error's text, which inputs failed.
    load : callable, optional
        Returns the result, or raises the error, of a run in this state.
    error : BaseException, optional
        What `result` raises.

    Attributes
    ----------
    name, type : str
        The name, and Prefect's type of it, such as ``"COMPLETED"``.
    message : str or None
    """

    __slots__ = ("_load", "error", "message", "name")

    def __init__(
        self,
        name: str,
        message: str | None = None,
        *,
        load: Callable[[], Any] | None = None,
        error: BaseException | None = None,
    ) -> None:
        if name not in states.TYPES:
            known = ", ".join(states.STATES)
            raise UsageError(f"there is no state {name!r}; states are {known}")
        self.name = name
        self.message = message
        self.error = error
        self._load = load

    @property
    def type(self) -> str:
        """Prefect's type of the state."""
        return states.TYPES[self.name]

    def is_scheduled(self) -> bool:
        """Waits for its time: Scheduled, Late or AwaitingRetry."""
        return self.type == "SCHEDULED"

    def is_pending(self) -> bool:
        """Has not started."""
        return self.name == states.PENDING

    def is_running(self) -> bool:
        """Is being executed: Running or Retrying."""
        return self.type == "RUNNING"

    def is_completed(self) -> bool:
        """Ended well: Completed or Cached."""
        return self.name in states.SUCCESSFUL

    def is_failed(self) -> bool:
        """Its code raised, or it ran out of time."""
        return self.type == "FAILED"

    def is_crashed(self) -> bool:
        """Its process was lost, not its code at fault."""
        return self.name == states.CRASHED

    def is_cancelled(self) -> bool:
        """Was cancelled."""
        return self.name == states.CANCELLED

    def is_final(self) -> bool:
        """Never changes any more."""
        return self.name in states.FINAL

    def result(self, raise_on_failure: bool = True) -> Any:
        """The run's result.

        Parameters
        ----------
        raise_on_failure : bool, default True
            False returns the exception of a run that ended badly instead of raising it.

        Raises
        ------
        UsageError
            When the state is not final.
        BaseException
            What the run ended with.
        """
        if not self.is_final():
            raise UsageError(f"a run in state {self.name} has no result yet; wait for it first")
        if self.error is not None:
            if raise_on_failure:
                raise self.error
            return self.error
        return self._load() if self._load is not None else None

    def __repr__(self) -> str:
        return f"{self.name}({self.message!r})" if self.message else f"{self.name}()"
