"""Flow runs as the record would tell them, made up row by row: small, large, ugly, empty.

`Recorded` answers like the run store but keeps its rows in memory; `write_to` puts the same rows
into a real one.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from daskflow.runner.store import open_writer
from daskflow.runner.store.rows import (
    EventRow,
    FlowRunRow,
    LogRow,
    TaskRow,
    TaskRunRow,
    TransitionRow,
)

__all__ = [
    "BEGAN",
    "HOSTILE",
    "RUN_ID",
    "Recorded",
    "flow_run",
    "large_run",
    "task_run",
    "ugly_run",
]

BEGAN = 1_795_290_000.0
RUN_ID = "8f3a2c71" * 4
HOSTILE = "<script>alert(1)</script>"
NAMES = ("extract", "clean", "join", "score")


@dataclass
class Recorded:
    """What a store says of one flow run."""

    run: FlowRunRow
    task_rows: Sequence[TaskRow] = ()
    rows: Sequence[TaskRunRow] = ()
    transition_rows: Sequence[TransitionRow] = ()
    log_rows: Sequence[LogRow] = ()
    event_rows: Sequence[EventRow] = ()
    child_rows: Sequence[FlowRunRow] = ()
    asked: list[str] = field(default_factory=list)

    def find_flow_run(self, ref: str) -> FlowRunRow:
        self.asked.append(ref)
        return self.run

    def tasks(self, flow_run_id: str) -> list[TaskRow]:
        return list(self.task_rows)

    def task_runs(self, flow_run_id: str) -> list[TaskRunRow]:
        return list(self.rows)

    def stored_transitions(self, flow_run_id: str) -> list[TransitionRow]:
        return list(self.transition_rows)

    def logs(
        self,
        flow_run_id: str,
        *,
        level: int = 0,
        after: int | None = None,
        limit: int | None = None,
    ) -> list[LogRow]:
        first = 0 if after is None else after + 1
        return [row for row in self.log_rows[first:] if row.level >= level][:limit]

    def events(self, flow_run_id: str) -> list[EventRow]:
        return list(self.event_rows)

    def children(self, flow_run_id: str) -> list[FlowRunRow]:
        return list(self.child_rows)

    def write_to(self, url: str) -> None:
        """Write everything to the run store at `url`."""
        writer = open_writer(url)
        run_id = self.run.flow_run_id
        writer.flow_run(self.run)
        for child in self.child_rows:
            writer.flow_run(child)
        writer.tasks(run_id, self.task_rows)
        writer.task_runs(run_id, self.rows)
        writer.transitions(run_id, self.transition_rows)
        writer.logs(run_id, self.log_rows)
        writer.events(run_id, self.event_rows)
        assert writer.close()


def flow_run(**changes: Any) -> FlowRunRow:
    """A completed flow run of eight seconds, but for `changes`."""
    row = FlowRunRow(
        flow_run_id=RUN_ID,
        name="amber-heron",
        flow_name="etl",
        flow_version=None,
        state="Completed",
        message=None,
        parameters=json.dumps({"day": "'2026-11-21'", "shards": "4"}),
        tags='["nightly"]',
        parent_flow_run_id=None,
        parent_task_run=None,
        attempt=1,
        created_at=BEGAN - 0.1,
        started_at=BEGAN,
        ended_at=BEGAN + 8.0,
        entrypoint="flows/etl.py:etl",
        code_digest="b1c9f2e4",
        environment=json.dumps({"python": "3.11.9", "argv": ["daskflow", "run", "etl.py"]}),
        task_runner="processes, 2 workers × 1 thread",
        host="box",
        pid=4711,
        process_started_at=BEGAN - 3.0,
        boot_id=None,
    )
    return row._replace(**changes)


def task(number: int, name: str) -> TaskRow:
    return TaskRow(number, name, None, "[]", None, "{}")


def task_run(number: int, start: float | None, run_s: float | None, **changes: Any) -> TaskRunRow:
    """A completed run of task 0 that began `start` seconds after the flow, but for `changes`.

    Without `start` it never began, without `run_s` it has not ended.
    """
    began = None if start is None else BEGAN + start
    ended = None if began is None or run_s is None else began + run_s
    row = TaskRunRow(
        number=number,
        task_number=0,
        index=number,
        name=None,
        state="Completed",
        message=None,
        attempt=1,
        crashes=0,
        parents=None,
        created_at=BEGAN,
        started_at=began,
        ended_at=ended,
        run_s=run_s,
        encode_s=0.0,
        cpu_s=run_s,
        worker="tcp://127.0.0.1:40001",
        pid=4712,
        result_bytes=100,
        peak_memory=10**8,
        cache=None,
    )
    return row._replace(**changes)


def ugly_run() -> Recorded:
    """A failed run with retries, a lost worker, and markup wherever a user can write."""
    lost = "tcp://127.0.0.1:40002"
    retry = "ValueError: row 17 of '<b>x</b>' is bad\nTraceback: line 3"
    return Recorded(
        run=flow_run(
            name=f"run {HOSTILE}",
            flow_name=f"flow {HOSTILE}",
            state="Failed",
            message=f"1 task run failed {HOSTILE}",
            parameters=json.dumps({HOSTILE: f"'{HOSTILE}'", "quote": "\"'</style>&amp;"}),
            tags=json.dumps([HOSTILE]),
            environment=json.dumps({"argv": [HOSTILE]}),
            entrypoint=f"{HOSTILE}.py:f",
        ),
        task_rows=[task(0, f"load {HOSTILE}"), task(1, "</script><img src=x onerror=alert(2)>")],
        rows=[
            task_run(0, 0.0, 1.0, attempt=3),
            task_run(1, 1.0, 2.0, crashes=1),
            task_run(2, 0.5, 3.0, state="Failed", message=f"KeyError: {HOSTILE}", worker=lost),
            task_run(3, None, None, state="NotReady", message="load-2 failed",
                     worker=None, attempt=0, task_number=1, index=0),
            task_run(4, 4.0, 0.5, name=f"own {HOSTILE}", task_number=1, index=1),
        ],
        transition_rows=[
            TransitionRow(0, BEGAN + 0.1, "AwaitingRetry", retry, 1, "tcp://127.0.0.1:40001"),
            TransitionRow(0, BEGAN + 0.2, "Retrying", None, 2, None),
            TransitionRow(0, BEGAN + 0.3, "AwaitingRetry", retry.replace("17", "99"), 2, None),
            TransitionRow(0, BEGAN + 0.4, "Retrying", None, 3, None),
            TransitionRow(1, BEGAN + 0.9, "AwaitingRetry", "worker lost: killed", 0, lost),
        ],
        log_rows=[
            LogRow(0, 1, BEGAN + 0.1, 40, "daskflow.task", f"bad {HOSTILE}\n  line two", None),
            LogRow(0, 1, BEGAN + 0.2, 20, "my", "\x1b[31mred\x1b[0m and \x00 zero", None),
            LogRow(None, 1, BEGAN + 7.0, 20, "daskflow.flow", "good bye", None),
        ],
        event_rows=[EventRow(BEGAN + 0.9, "daskflow.worker.lost", lost, None, {})],
        child_rows=[
            flow_run(flow_run_id="c" * 32, name=f"child {HOSTILE}", parent_flow_run_id=RUN_ID)
        ],
    )  # fmt: skip


def large_run(count: int, *, workers: int = 16, seed: int = 1) -> Recorded:
    """`count` task runs back to back on `workers` workers; one in 200 was retried, some failed."""
    chance = random.Random(seed)
    free_at = [0.0] * workers
    rows, transitions, logs = [], [], []
    for number in range(count):
        place = number % workers
        worker = f"tcp://10.0.0.{place}:40000"
        start, run_s = free_at[place], chance.lognormvariate(-3, 0.6)
        free_at[place] = start + run_s
        task_number = number * len(NAMES) // count
        changes: dict[str, Any] = {"task_number": task_number, "worker": worker}
        fate = chance.random()
        if fate < 0.005:
            changes["attempt"] = 2
            message = f"TimeoutError: no answer within {chance.randint(20, 40)} s"
            at = BEGAN + start
            transitions.append(TransitionRow(number, at, "AwaitingRetry", message, 1, worker))
            logs.append(LogRow(number, 1, at, 30, "daskflow.task", message, worker))
        elif fate < 0.006:
            changes |= {"state": "Failed", "message": f"ValueError: bad row {number}"}
        rows.append(task_run(number, start, run_s, **changes))
        if number % 10 == 0:
            text = f"read {number * 13} rows"
            logs.append(LogRow(number, 1, BEGAN + start, 20, "daskflow.task", text, worker))
    return Recorded(
        run=flow_run(ended_at=BEGAN + max(free_at) + 0.1),
        task_rows=[task(number, name) for number, name in enumerate(NAMES)],
        rows=rows,
        transition_rows=transitions,
        log_rows=logs,
        event_rows=[
            EventRow(BEGAN + 1.0, "daskflow.worker.lost", "tcp://10.0.0.3:40000", None, {})
        ],
    )
