"""Where the driver's decisions go besides Dask: into records of flow runs and onto the terminal.

Also how a task run's value is loaded for the user, wherever it lives.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any, Protocol

from daskflow.runner.cluster.protocol import BOUND_PICKLED
from daskflow.runner.context import LogLine
from daskflow.runner.core.driver import Transition
from daskflow.runner.core.graph import Parcel, Remote, Run, Scope
from daskflow.runner.logs import show
from daskflow.runner.record import FlowRecord

__all__ = ["Journal", "load_value"]


class _Loadable(Protocol):
    def load(self, timeout: float | None) -> Any: ...


def load_value(value: Any, timeout: float | None) -> Any:
    """The value of a task run: a fresh copy of pickled ones, fetched when it is remote."""
    if isinstance(value, Remote):
        remote: Any = value
        return remote.load(timeout)
    tag, data = value
    return pickle.loads(data) if tag == BOUND_PICKLED else data


def _record(scope: Scope) -> FlowRecord:
    assert isinstance(scope.tag, FlowRecord)
    return scope.tag


class Journal:
    """Writes what the driver decided into the records of the flow runs concerned."""

    def __init__(self) -> None:
        self._scopes: dict[str, Scope] = {}

    def open(self, scope: Scope) -> None:
        """Events of the cluster are recorded for this flow run from now on."""
        self._scopes[scope.flow_run_id] = scope

    def shut(self, scope: Scope) -> None:
        """The flow run has ended."""
        self._scopes.pop(scope.flow_run_id, None)

    def scopes(self) -> list[Scope]:
        """Flow runs that have not ended."""
        return list(self._scopes.values())

    def write(self, final: Sequence[Run], transitions: Sequence[Transition]) -> None:
        """Record runs that are final and transitions that matter."""
        for scope, notes in _by_scope(transitions, lambda note: note.run.stage.scope).items():
            _record(scope).transitions(notes)
            waiting = [note.run for note in notes if note.run.ended_at is None]
            _record(scope).runs(waiting)
        for scope, runs in _by_scope(final, lambda run: run.stage.scope).items():
            _record(scope).runs(runs)

    def running(self, run: Run) -> None:
        """A run has been executing for a while."""
        _record(run.stage.scope).runs([run])

    def open_runs(self, runs: Sequence[Run]) -> None:
        """Runs that wait or execute for a while: recorded before they end."""
        for scope, group in _by_scope(runs, lambda run: run.stage.scope).items():
            _record(scope).runs(group)

    def logs(self, parcel: Parcel, lines: Sequence[LogLine], worker: str, *, shown: bool) -> None:
        """Log lines of the runs of one parcel, before their outcomes.

        Lines of a worker in this process are `shown` already, but for prints.
        """
        by_number = {run.number: run for run in parcel.runs}
        known = [(line, by_number[line.number]) for line in lines if line.number in by_number]
        for scope, pairs in _by_scope(known, lambda pair: pair[1].stage.scope).items():
            _record(scope).logs([line for line, _ in pairs], worker)
        for line, run in known:
            if not shown or line.logger == "print":
                show(line, run.label)

    def lines(self, scope: Scope, lines: Sequence[LogLine], worker: str) -> None:
        """Log lines of a run in the flow process; they are shown already."""
        _record(scope).logs(lines, worker)

    def event(self, at: float, event: str, resource: str) -> None:
        """Something happened to the cluster that all open flow runs use."""
        for scope in self.scopes():
            _record(scope).event(at, event, resource)


def _by_scope(items: Sequence[Any], scope_of: Any) -> dict[Scope, list[Any]]:
    grouped: dict[Scope, list[Any]] = {}
    for item in items:
        grouped.setdefault(scope_of(item), []).append(item)
    return grouped
