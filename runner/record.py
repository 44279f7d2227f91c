"""The record of one flow run, as the engine writes it: rows made of runs, handed to the writer.

Nothing here waits for the store, and nothing here raises for it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from daskflow.errors import RunTaken
from daskflow.runner.bounded_repr import bounded, bounded_repr
from daskflow.runner.context import LogLine
from daskflow.runner.core.driver import Transition
from daskflow.runner.core.graph import Run
from daskflow.runner.core.leases import Lease
from daskflow.runner.store.rows import EventRow, FlowRunRow, LogRow, TaskRow, TransitionRow

if TYPE_CHECKING:
    from daskflow.caching.claims import Claims
    from daskflow.runner.telling import TaskHookCalls

__all__ = ["FlowRecord", "RecordWriter"]


class RecordWriter(Protocol):
    """What the record needs of the run store's writer."""

    lease: Lease | None  # under which it writes

    def claims(self) -> Claims: ...
    def flow_run(self, row: FlowRunRow, /) -> None: ...
    def tasks(self, flow_run_id: str, rows: Sequence[TaskRow], /) -> None: ...
    def task_runs(self, flow_run_id: str, rows: Sequence[Any], /) -> None: ...
    def transitions(self, flow_run_id: str, rows: Sequence[TransitionRow], /) -> None: ...
    def logs(self, flow_run_id: str, rows: Sequence[LogRow], /) -> None: ...
    def events(self, flow_run_id: str, rows: Sequence[EventRow], /) -> None: ...
    def flush(self, timeout_s: float = 30.0) -> bool: ...
    def close(self, timeout_s: float = 30.0) -> Any: ...


class FlowRecord:
    """Writes what happens in one flow run.

    Parameters
    ----------
    flow_run_id : str
    writer : RecordWriter or None
        None records nothing.

    Attributes
    ----------
    hooks : TaskHookCalls or None
        Told of task runs too, once a task with hooks is used.
    failures : Counter of str
        Task runs that failed and were told, by task name.
    """

    def __init__(self, flow_run_id: str, writer: RecordWriter | None) -> None:
        self.flow_run_id = flow_run_id
        self.writer = writer
        self.hooks: TaskHookCalls | None = None
        self.failures: Counter[str] = Counter()
        self.name = ""  # of the flow run
        self.home: object = None  # who executes its task runs: only there are its futures inputs

    def guard(self, shell: Any) -> None:
        """Have `shell` act under the lease of this flow run.

        It claims the cache keys of what it executes, and executes nothing more once another
        process has taken the run over.  One that a subflow shares with the flow run around it
        (None here) is guarded there.
        """
        lease = None if self.writer is None else self.writer.lease
        if self.writer is not None and lease is not None and shell is not None:
            shell.claim_with(self.writer.claims)
            lease.when_lost(lambda: shell.stop(_taken(self.flow_run_id)))

    @property
    def taken(self) -> RunTaken | None:
        """Why this process has to stop: another one has taken the flow run over."""
        lease = None if self.writer is None else self.writer.lease
        return _taken(self.flow_run_id) if lease is not None and lease.lost else None

    def flow_run(self, row: FlowRunRow) -> None:
        """The flow run changed."""
        if self.writer is not None:
            self.writer.flow_run(row)

    def task(self, row: TaskRow) -> None:
        """A task is used for the first time in this flow run."""
        if self.writer is not None:
            self.writer.tasks(self.flow_run_id, [row])

    def runs(self, runs: Sequence[Run], peak_memory: int | None = None) -> None:
        """Task runs changed; their rows are written whole."""
        if self.writer is not None and runs:
            self.writer.task_runs(self.flow_run_id, [_row(run, peak_memory) for run in runs])

    def transitions(self, transitions: Sequence[Transition]) -> None:
        """Changes of state that the rows do not tell by themselves."""
        if self.writer is not None and transitions:
            rows = [
                TransitionRow(
                    each.run.number, each.at, each.state, each.message, each.attempt, each.worker
                )
                for each in transitions
            ]
            self.writer.transitions(self.flow_run_id, rows)

    def flow_transition(self, at: float, state: str, message: str | None, attempt: int) -> None:
        """The flow run itself changed its state."""
        if self.writer is not None:
            self.writer.transitions(
                self.flow_run_id, [TransitionRow(None, at, state, message, attempt, None)]
            )

    def logs(self, lines: Sequence[LogLine], worker: str | None) -> None:
        """Log lines, in the order in which they were made."""
        if self.writer is not None and lines:
            self.writer.logs(self.flow_run_id, [LogRow(*line, worker) for line in lines])

    def event(
        self, at: float, event: str, resource: str, number: int | None = None, **payload: Any
    ) -> None:
        """Something happened around the flow run."""
        if self.writer is not None:
            self.writer.events(self.flow_run_id, [EventRow(at, event, resource, number, payload)])

    def close(self) -> None:
        """Wait until everything is stored, or spooled; nothing is written after that."""
        if self.writer is not None:
            self.writer.close()


def _taken(flow_run_id: str) -> RunTaken:
    return RunTaken(
        f"another process has taken flow run {flow_run_id!r} over, so this one stops; see "
        f"`daskflow runs show {flow_run_id}`"
    )


def _row(run: Run, peak_memory: int | None) -> tuple[Any, ...]:
    # a plain tuple in the order of TaskRunRow: this runs once per task run
    return (
        run.number,
        run.stage.number,
        run.index,
        run.name,
        run.state,
        run.message,
        run.attempt,
        run.crashes,
        run.parents,
        run.created_at,
        run.started_at,
        run.ended_at,
        run.run_s,
        run.encode_s,
        run.cpu_s,
        run.worker,
        run.pid,
        run.result_bytes,
        peak_memory,
        None if run.cache is None else run.cache.status,
    )


def as_json(value: Any) -> str:
    """JSON for a person to read; what JSON does not know is written as its repr.

    What is large is cut, and a large object is not asked for its repr: see `bounded_repr`.
    """
    return json.dumps(bounded(value), default=bounded_repr, ensure_ascii=False)
