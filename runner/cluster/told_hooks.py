"""Hooks of tasks that a worker executes without the driver: called in the flow process.

A task that is called directly inside a task, or inside a flow on a worker, is executed where it is
called; its hooks belong to the flow process, and are told there what to say.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from daskflow.runner.cluster.nested import on_wire
from daskflow.runner.cluster.sent_states import SentState

if TYPE_CHECKING:
    from daskflow.runner.cluster.executor.active import ActiveParcel
    from daskflow.runner.hooks import Hooks
    from daskflow.runner.state import State

__all__ = ["HooksAtHome"]


class HooksAtHome:
    """Has hooks called in the flow process.

    Parameters
    ----------
    parcel : ActiveParcel
    flow_run_id : str
        The flow run on whose behalf they are called.
    """

    def __init__(self, parcel: ActiveParcel, flow_run_id: str) -> None:
        self._parcel = parcel
        self._flow_run_id = flow_run_id

    def enter(self) -> None:
        """What is current here is not so there."""

    def tell(self, hooks: Hooks, subject: Any, run: Any, state: State) -> None:
        """Have hooks of a task called, soon."""
        with on_wire(self._parcel, subject) as (digest, blob):
            told = (run.id, run.name, run.attempt)
            self._parcel.channel.ask(
                "hooks",
                (self._flow_run_id, hooks, digest, blob, told, SentState.of(state, run.id)),
            )

    def put(self, call: Callable[..., object], *args: Any) -> None:
        """Calls that are no hooks need no other process."""
        call(*args)

    def close(self) -> None:
        """Whoever calls them waits for them."""
