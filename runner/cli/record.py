"""The run record as commands read it: the store of the settings, and the logs of a flow run."""

from __future__ import annotations

import difflib
import logging
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from daskflow.config import get_settings
from daskflow.errors import NotFoundError
from daskflow.runner.cli.summary import run_names
from daskflow.runner.cli.text import clock, printable
from daskflow.runner.store import RunStore, open_store
from daskflow.runner.store.rows import LogRow, TaskRow, TaskRunRow

__all__ = ["RecordedLine", "numbers_of", "opened_store", "read_logs"]


class RecordedLine(NamedTuple):
    """One log record and the name of the task run that it came from."""

    row: LogRow
    task_run: str | None

    def as_text(self) -> str:
        """Return the record as a line; further lines of its message stay below it."""
        level = logging.getLevelName(self.row.level)
        source = printable(self.task_run or "flow")
        at = clock(self.row.at, with_date=False)
        return f"{at} {level:<7} {source} | {printable(self.row.message)}"

    def as_dict(self) -> dict[str, Any]:
        """Return the record for ``--json``."""
        level = logging.getLevelName(self.row.level)
        return {**self.row._asdict(), "level": level, "task_run": self.task_run}


def opened_store() -> RunStore:
    """Return the run store that the settings name; close it by using it as a context manager."""
    return open_store(get_settings().store.url)


def numbers_of(
    wanted: str, tasks: Iterable[TaskRow], names: dict[int, str], task_runs: Iterable[TaskRunRow]
) -> frozenset[int]:
    """Return the numbers of the task runs that `wanted` means.

    `wanted` is a task's name, a task run's name (``clean-3``), its number or its id.

    Raises
    ------
    NotFoundError
        Nothing has that name; the message names the nearest ones.
    """
    of_task = {task.name: task.task_number for task in tasks}
    if wanted in of_task:
        task_number = of_task[wanted]
        return frozenset(r.number for r in task_runs if r.task_number == task_number)
    if found := frozenset(number for number, name in names.items() if name == wanted):
        return found
    last = wanted.rpartition("-")[2]
    if last.isdecimal() and (wanted == last or len(wanted) > 32) and int(last) in names:
        return frozenset({int(last)})
    near = difflib.get_close_matches(wanted, [*of_task, *names.values()], n=3)
    listed = ", ".join(near or list(of_task)[:10]) or "this run has none"
    raise NotFoundError(f"no task or task run {wanted!r}; there are {listed}")


def read_logs(
    store: RunStore,
    flow_run_id: str,
    *,
    task: str | None = None,
    level: int = 0,
    search: str | None = None,
    tail: int | None = None,
) -> Iterator[RecordedLine]:
    """Yield the logs of a flow run in the order in which they arrived.

    Parameters
    ----------
    store : Store
        The opened run record.
    flow_run_id : str
        The flow run.
    task : str, optional
        Only records of this task or task run.
    level : int
        Only records at least as severe.
    search : str, optional
        Only records that hold this text.
    tail : int, optional
        Only so many of the last that fit.
    """
    tasks, task_runs = store.tasks(flow_run_id), store.task_runs(flow_run_id)
    names = run_names(tasks, task_runs)
    numbers = None if task is None else numbers_of(task, tasks, names, task_runs)
    rows: Iterable[LogRow] = store.logs(flow_run_id, level=level, search=search)
    if numbers is not None:
        rows = (row for row in rows if row.number in numbers)
    if tail is not None:
        rows = deque(rows, maxlen=tail)
    for row in rows:
        name = None if row.number is None else names.get(row.number, str(row.number))
        yield RecordedLine(row, name)
