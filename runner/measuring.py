"""What a cluster spends on a task run besides the task itself, measured on the cluster.

`measure_cluster` runs a flow of short tasks, recorded in a store of its own, and says from which
duration on a task spends less than a tenth of its slot's time on overhead.  That duration is not
only computed: tasks of it are run, and how well they filled the slots is part of the answer.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from daskflow.config import reset_settings
from daskflow.errors import UsageError
from daskflow.runner.client import get_client
from daskflow.runner.cluster.providers import SyncTaskRunner, resolve_task_runner
from daskflow.runner.flows import flow
from daskflow.runner.probes import burn, nothing, some_bytes
from daskflow.runner.tasks import task

__all__ = ["ClusterFigures", "measure_cluster", "worthwhile_s"]

OVERHEAD_SHARE = 0.1  # of a slot's time, what the verdict allows
_FIRST_BATCH, _LARGEST_BATCH = 1_000, 256_000
_TRIPS = 25
_RESULT_BYTES = 16_000_000
_RESULTS = 3
_TRIES = 3
_SETTLED_S, _WORKERS_S = 1.0, 10.0
# Shares of the time: round trips, tiny task runs, tasks of the duration found, large results.
_SHARES = (0.1, 0.4, 0.4, 0.1)

Progress = Callable[[float, str], object]


class ClusterFigures(NamedTuple):
    """What `measure_cluster` found.

    Attributes
    ----------
    slots : int
        Threads of all workers.
    task_runs : int
        Task runs that did nothing, in the batch that `per_run_s` is taken from.
    per_run_s : float
        Time per task run that the whole cluster and the driver spend, seconds.
    worthwhile_s : float
        Tasks of this duration and longer spend less than a tenth of their slot on overhead.
    slot_use : float
        What share of the slots' time tasks of that duration filled when they were run, 0 to 1; on
        a busy machine tasks take longer, which counts as filled.
    round_trip_s : float
        From submit to result of one task run on the idle cluster, the median, seconds.
    result_bytes_per_s : float or None
        Rate at which a large result comes from a worker to the flow; None where workers are
        threads of this process and nothing has to come.
    """

    slots: int
    task_runs: int
    per_run_s: float
    worthwhile_s: float
    slot_use: float
    round_trip_s: float
    result_bytes_per_s: float | None


def worthwhile_s(per_run_s: float, slots: int) -> float:
    """How long a task must take for overhead to be a tenth of its slot's time.

    While each of `slots` slots works `d` seconds on a task, the cluster as a whole spends
    `per_run_s` on every one of them: of ``d / slots + per_run_s``, the second is the overhead.
    """
    return per_run_s * slots * (1 - OVERHEAD_SHARE) / OVERHEAD_SHARE


def measure_cluster(
    task_runner: Any = None, *, seconds: float = 10.0, progress: Progress | None = None
) -> ClusterFigures:
    """Measure a cluster with task runs that do nothing, short ones and large results.

    Call it while no flow runs in this process: its runs are recorded, as all are, but in a
    temporary store, and for that the process's settings are changed for the time of the call.

    Parameters
    ----------
    task_runner : optional
        As for `flow`; default: the setting `runner.task_runner`.
    seconds : float, default 10.0
        About how long to measure, without the start of the cluster.
    progress : callable, optional
        Called now and then with the share that is done, 0 to 1, and what is being measured.

    Returns
    -------
    ClusterFigures

    Raises
    ------
    UsageError
        A task runner that cannot be, or ``"sync"``, which has no cluster.
    ClusterError
        The cluster does not start or cannot be reached.
    """
    if not 0 < seconds < float("inf"):
        raise UsageError(f"seconds={seconds!r} must be a number greater than 0")
    runner = resolve_task_runner(task_runner)
    if isinstance(runner, SyncTaskRunner):
        raise UsageError(
            'task_runner="sync" runs tasks in the calling thread and has no cluster to measure; '
            'give "processes", "threads" or an address'
        )
    found: list[ClusterFigures] = []
    tell = progress or _no_progress

    @flow(name="daskflow bench", task_runner=runner)
    def bench() -> None:
        figures = _measure(seconds, tell)
        found.append(figures._replace(result_bytes_per_s=None) if runner.in_process else figures)

    with _store_of_its_own():
        bench()
    tell(1.0, "done")
    return found[0]


def _measure(seconds: float, tell: Progress) -> ClusterFigures:
    tell(0.0, "start of the cluster")
    no_op = task(nothing)
    no_op.map(range(100)).result()
    slots = _slots()
    trips_s, tiny_s, tasks_s, _ = (share * seconds for share in _SHARES)
    tell(0.02, "round trip")
    round_trip_s = _round_trip(no_op, trips_s)
    tell(_SHARES[0], "task runs that do nothing")
    task_runs, per_run_s = _per_run(no_op, tiny_s, tell)
    done = sum(_SHARES[:2])
    worthwhile, slot_use = _confirmed(
        per_run_s, slots, tasks_s, lambda part: tell(done + part * _SHARES[2], "short tasks")
    )
    tell(sum(_SHARES[:3]), "large results")
    rate = _result_rate(round_trip_s)
    return ClusterFigures(slots, task_runs, per_run_s, worthwhile, slot_use, round_trip_s, rate)


def _slots() -> int:
    """Threads of all workers, once no more of them come: the first is enough to start a flow."""
    client = get_client()
    until = time.monotonic() + _WORKERS_S
    seen, since = 0, time.monotonic()
    while time.monotonic() < until and time.monotonic() - since < _SETTLED_S:
        now = sum(client.nthreads().values())
        if now != seen:
            seen, since = now, time.monotonic()
        time.sleep(0.05)
    return max(1, seen)


def _round_trip(no_op: Any, budget_s: float) -> float:
    """Median seconds from submit to result, of one at a time."""
    took: list[float] = []
    end = time.perf_counter() + budget_s
    while len(took) < 3 or (len(took) < _TRIPS and time.perf_counter() < end):
        began = time.perf_counter()
        no_op.submit(1).result()
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def _per_run(no_op: Any, budget_s: float, tell: Progress) -> tuple[int, float]:
    """Batches of growing size; the last and largest that fits into the time counts."""
    size, began = _FIRST_BATCH, time.perf_counter()
    while True:
        took = _timed(no_op, range(size))
        spent = time.perf_counter() - began
        tell(_SHARES[0] + _SHARES[1] * min(1.0, spent / budget_s), "task runs that do nothing")
        # a batch of twice the size takes about twice as long
        if size >= _LARGEST_BATCH or spent + 2 * took > budget_s:
            return size, took / size
        size *= 2


def _confirmed(
    per_run_s: float, slots: int, budget_s: float, tell: Callable[[float], object]
) -> tuple[float, float]:
    """Run tasks of the duration found; where they fill the slots less than hoped, try longer ones.

    Returns the duration and the share of the slots' time that tasks of it filled.
    """
    working = task(burn)
    duration_s = worthwhile_s(per_run_s, slots)
    for attempt in range(_TRIES):
        tell(attempt / _TRIES)
        count = max(4 * slots, int(budget_s / _TRIES * slots / duration_s))
        count = min(count, _LARGEST_BATCH)
        _timed(working, [duration_s] * min(count, 4 * slots))  # its duration is known then
        began = time.perf_counter()
        filled_s = sum(working.map([duration_s] * count).result())
        slot_use = filled_s / (slots * (time.perf_counter() - began))
        if slot_use >= 1 - OVERHEAD_SHARE or attempt == _TRIES - 1:
            break
        lost_s = duration_s * (1 / slot_use - 1)  # of a slot's time, per task run
        duration_s = max(1.25 * duration_s, worthwhile_s(lost_s / slots, slots))
    return duration_s, min(1.0, slot_use)


def _result_rate(round_trip_s: float) -> float:
    large = task(some_bytes)
    best = 0.0
    for _ in range(_RESULTS):
        future = large.submit(_RESULT_BYTES)
        future.wait()
        began = time.perf_counter()
        got = len(future.result())
        best = max(best, got / max(1e-9, time.perf_counter() - began))
    return best


def _timed(made: Any, items: Any) -> float:
    """Seconds that a map over `items` takes, results included."""
    began = time.perf_counter()
    made.map(items).result()
    return time.perf_counter() - began


def _no_progress(_share: float, _what: str) -> None:
    return


@contextmanager
def _store_of_its_own() -> Iterator[None]:
    """Record into a temporary store: a hundred thousand no-ops are no history of the user's."""
    with tempfile.TemporaryDirectory(prefix="daskflow-bench-") as folder:
        values = {
            "DASKFLOW_STORE__URL": f"sqlite:///{Path(folder) / 'runs.db'}",
            "DASKFLOW_STORE__RECORD": "true",
        }
        before = {name: os.environ.get(name) for name in values}
        os.environ.update(values)
        reset_settings()
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
            reset_settings()
