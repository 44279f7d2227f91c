"""Where the driver's decisions go besides Dask: into records of flow runs and onto the terminal.

Also how a task run's value is loaded for the user, wherever it lives.
"""

from __future__ import annotations

import logging
import pickle
import traceback
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Protocol

from daskflow.errors import ClusterError, UsageError
from daskflow.runner.cluster.executor.errors import RemoteTraceback
from daskflow.runner.cluster.protocol import BOUND_PICKLED
from daskflow.runner.context import FLOW_LOGGER, TASK_LOGGER, LogLine
from daskflow.runner.core.driver import Transition
from daskflow.runner.core.graph import Parcel, Remote, Run, Scope
from daskflow.runner.core.states import CANCELLED, NOT_READY, SUCCESSFUL, TIMED_OUT
from daskflow.runner.logs import show
from daskflow.runner.record import FlowRecord

__all__ = ["Journal", "load_value"]

_WORDS = {TIMED_OUT: "timed out"}
_SHOWN = 10  # failures of a task that get a line on the terminal; the record has them all
_TOLD_OTHERWISE = SUCCESSFUL | {CANCELLED, NOT_READY}  # the last two name what failed


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
    """Writes what the driver decided into the records of the flow runs concerned.

    Parameters
    ----------
    tells_failures : bool, default True
        Runs that fail leave an error line in the log; not so where the caller gets the exception.
    """

    def __init__(self, *, tells_failures: bool = True) -> None:
        self._scopes: dict[str, Scope] = {}
        self._tells_failures = tells_failures

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
            if (hooks := _record(scope).hooks) is not None:
                hooks.changed(notes)
        if self._tells_failures:
            for run in final:
                if run.error is not None and _is_news(run):
                    self._failed(run)
        for scope, runs in _by_scope(final, lambda run: run.stage.scope).items():
            _record(scope).runs(runs)
            if (hooks := _record(scope).hooks) is not None:
                hooks.ended(runs)

    def _failed(self, run: Run) -> None:
        """An error line for the record, with the traceback, and a short one for the terminal."""
        scope, name = run.stage.scope, run.stage.name
        head = f"{_WORDS.get(run.state, run.state.lower())}: {run.message}"
        line = LogLine(
            run.number, run.attempt, run.ended_at or 0.0, logging.ERROR, TASK_LOGGER, head
        )
        whole = line._replace(message=f"{head}\n{_traceback(run.error)}".rstrip())
        _record(scope).logs([whole], run.worker)
        # Counted in the record: the flow may end while its last failures are being told.
        failures = _record(scope).failures
        failures[name] += 1
        shown = failures[name]
        if not logging.getLogger(TASK_LOGGER).isEnabledFor(logging.ERROR):
            return
        if shown <= _SHOWN:
            show(line._replace(message=head.partition("\n")[0]), run.label)
        elif shown == _SHOWN + 1:
            more = f"more of its runs fail; daskflow runs logs {scope.flow_run_id} has them all"
            show(line._replace(message=more), name)

    def running(self, run: Run) -> None:
        """A run has been executing for a while."""
        record = _record(run.stage.scope)
        record.runs([run])
        if record.hooks is not None:
            record.hooks.running([run])

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

    def tell(self, at: float, level: int, text: str) -> None:
        """Log a line about the cluster, in the name of all open flow runs that use it."""
        line = LogLine(None, 1, at, level, FLOW_LOGGER, text)
        for scope in self.scopes():
            _record(scope).logs([line], None)
            show(line, _record(scope).name)

    def event(self, at: float, event: str, resource: str, **payload: Any) -> None:
        """Something happened to the cluster that all open flow runs use."""
        for scope in self.scopes():
            _record(scope).event(at, event, resource, **payload)


def _traceback(error: BaseException | None) -> str:
    """Where user code raised; empty for what no user code raised."""
    if isinstance(cause := getattr(error, "__cause__", None), RemoteTraceback):
        return cause.text
    if error is None or error.__traceback__ is None:
        return "" if cause is None else _traceback(cause)
    own, frame = error.__traceback__, error.__traceback__
    while frame is not None and _is_ours(frame):
        frame = frame.tb_next  # type: ignore[assignment]
    try:
        return "".join(traceback.format_exception(type(error), error, frame or own))
    except Exception as broken:  # a __str__ of user code
        return f"its traceback could not be printed: {type(broken).__name__}"


def _is_news(run: Run) -> bool:
    """A failure of its own; where there is no cluster at all, that is said once, by the flow."""
    never_sent = not run.attempt and isinstance(run.error, (ClusterError, UsageError))
    return run.state not in _TOLD_OTHERWISE and not never_sent


def _is_ours(frame: TracebackType) -> bool:
    return str(frame.tb_frame.f_globals.get("__name__")).startswith("daskflow.")


def _by_scope(items: Sequence[Any], scope_of: Any) -> dict[Scope, list[Any]]:
    grouped: dict[Scope, list[Any]] = {}
    for item in items:
        grouped.setdefault(scope_of(item), []).append(item)
    return grouped
