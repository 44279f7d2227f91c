"""How far the flow runs of this process are, for whoever shows it."""

from __future__ import annotations

from typing import Protocol

from daskflow.runner.core.graph import Scope
from daskflow.runner.core.states import CACHED, CANCELLED, NOT_READY, SUCCESSFUL

__all__ = ["announce", "snapshot"]


class _Active(Protocol):
    @property
    def scopes(self) -> tuple[Scope, ...]: ...


_active: list[_Active] = []  # the last flow run, with its subflows, stays for the final figures


def announce(flow_run: _Active, *, first: bool) -> None:
    """A flow run has started; `first` when no other one is active in this process."""
    if first:
        _active.clear()
    _active.append(flow_run)


def snapshot() -> list[tuple[str, int, int, int, int, int, int, int]]:
    """One entry per task: ``(task, total, done, failed, cached, retries, running, not_run)``.

    ``done`` counts runs that succeeded, cached ones included; ``running`` those in a parcel;
    ``not_run`` those that were cancelled, or never ran because of what they depend on.
    """
    rows: dict[str, list[int]] = {}
    for flow_run in tuple(_active):  # another thread may start one
        for scope in flow_run.scopes:
            for stage in tuple(scope.stages):
                counts = dict(stage.counts)
                done = sum(count for state, count in counts.items() if state in SUCCESSFUL)
                not_run = counts.get(CANCELLED, 0) + counts.get(NOT_READY, 0)
                ended = sum(counts.values())
                row = rows.setdefault(stage.name, [0] * 7)
                for place, value in enumerate(
                    (
                        stage.submitted,
                        done,
                        ended - done - not_run,
                        counts.get(CACHED, 0),
                        stage.retried,
                        max(0, stage.submitted - ended - len(stage.ready)),
                        not_run,
                    )
                ):
                    row[place] += value
    return [(name, *row) for name, row in rows.items()]  # type: ignore[misc]
