"""What becomes of parcels in flight when their flow run is cancelled.

Part of the driver's thread.  What no worker has started is dropped; the bodies of what executes are
told; what still executes when its grace is over is given up, and its worker process recycled.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import TYPE_CHECKING

from daskflow.runner.core.driver import Driver
from daskflow.runner.core.graph import Scope

if TYPE_CHECKING:
    from daskflow.runner.cluster.dispatch import Dispatch

__all__ = ["Dropping"]

_UNSTARTED_S = 0.3  # a parcel in flight that has not been heard of for so long has not started


class Dropping:
    """The cancelled parcels of one driver.

    Parameters
    ----------
    driver : Driver
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._drop_at: float | None = None
        self._over_at: dict[Scope, float] = {}  # when the grace of a flow run is over
        self._timed_out: set[Scope] = set()  # of these, processes end that execute nothing else
        self.due: float | None = None  # when to look, by the monotonic clock

    def cancel(self, scope: Scope, grace_s: float | None, clock: float) -> None:
        """A flow run was cancelled; without `grace_s` what executes may go on to its end."""
        self._drop_at = clock + _UNSTARTED_S
        if grace_s == math.inf:
            self._timed_out.add(scope)
        elif grace_s is not None:
            over_at = clock + grace_s
            self._over_at[scope] = min(over_at, self._over_at.get(scope, over_at))
        self._plan()

    def look(self, dispatch: Dispatch | None, clock: float, now: float) -> None:
        """Do what is due.

        Parameters
        ----------
        dispatch : Dispatch or None
        clock, now : float
            Seconds of the monotonic and of the wall clock.
        """
        if self._drop_at is not None and clock >= self._drop_at:
            self._drop_at = None
            if dispatch is not None:
                self._drop_unstarted(dispatch, now)
        for scope in [scope for scope, at in self._over_at.items() if clock >= at]:
            del self._over_at[scope]
            if dispatch is not None and scope.open:
                self._give_up(scope, dispatch, now)
        self._plan()

    def _plan(self) -> None:
        times = list(self._over_at.values())
        if self._drop_at is not None:
            times.append(self._drop_at)
        self.due = min(times, default=None)

    def _drop_unstarted(self, dispatch: Dispatch, now: float) -> None:
        numbers: dict[int, list[int]] = {}
        for parcel in list(self._driver.parcels.values()):
            unwanted = [n for n, run in parcel.open.items() if run.stage.scope.cancelled]
            if not unwanted:
                continue
            if dispatch.was_heard_of(parcel.id):
                numbers[parcel.id] = unwanted
            elif all(run.stage.scope.cancelled for run in parcel.runs):
                self._driver.drop_parcel(parcel.id, now)
        if numbers:
            dispatch.calls.tell_cancelled(numbers)
        if left := self._executing(self._timed_out):
            dispatch.calls.recycle(left, when_idle=True)
        self._timed_out.clear()

    def _give_up(self, scope: Scope, dispatch: Dispatch, now: float) -> None:
        """Recycle the workers of what still executes of `scope`; it has had its time."""
        if numbers := self._executing({scope}):
            dispatch.calls.recycle(numbers)
        for parcel_id in numbers:
            parcel = self._driver.parcels[parcel_id]
            if all(run.stage.scope.cancelled for run in parcel.open.values()):
                self._driver.drop_parcel(parcel_id, now)

    def close(self, dispatch: Dispatch) -> None:
        """The cluster goes on without this driver: leave nothing executing on it."""
        if left := self._executing(self._timed_out):
            dispatch.calls.tell_cancelled(left)
            dispatch.calls.recycle(left, when_idle=True, last=True)
        others = {run.stage.scope for p in self._driver.parcels.values() for run in p.runs}
        if numbers := self._executing(others - self._timed_out):
            dispatch.calls.recycle(numbers, last=True)

    def _executing(self, scopes: Collection[Scope]) -> dict[int, list[int]]:
        """Numbers of the runs in flight of some flow runs, by parcel."""
        found = {}
        for parcel in self._driver.parcels.values() if scopes else ():
            if numbers := [n for n, run in parcel.open.items() if run.stage.scope in scopes]:
                found[parcel.id] = numbers
        return found
