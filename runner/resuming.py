"""What a flow run did before it is resumed, and what of it is taken over instead of executed.

A committed task run is one whose result is in its result store.  It is known by its flow run, the
name of its task, the content of its inputs and its place among equals: never by the order of calls,
never by code.  The parts of the stored key hold the digests of inputs: the record keeps the key.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from daskflow.caching.keys import explain
from daskflow.caching.plans import StoredRef, open_store
from daskflow.errors import DaskflowError, StoreError
from daskflow.runner.account import Account
from daskflow.runner.cache_notes import RunCache
from daskflow.runner.cache_status import hit_status, read_status
from daskflow.runner.cluster.protocol import BOUND_LIVE
from daskflow.runner.core.graph import Run
from daskflow.runner.core.leases import Lease
from daskflow.runner.core.states import CRASHED, FINAL, SUCCESSFUL
from daskflow.runner.earlier import Earlier, EarlierRuns, Past
from daskflow.runner.store.rows import TaskRunRow
from daskflow.runner.stored import StoredValue

if TYPE_CHECKING:
    from daskflow.caching.index import Entry
    from daskflow.caching.plans import CachePlan

__all__ = ["Resumption", "code_changes"]


_OFFERED_S = 0.2  # for how long what workers are offered stays as it is
_MOST_OFFERED = 10_000  # of one task: about a megabyte, with each parcel


class Resumption:
    """One flow run that goes on in a new attempt.

    Parameters
    ----------
    past : Past
    lease : Lease, optional
        Under which this process has taken it.
    rerun_changed : bool, default False
        Committed runs whose code has changed since are executed again.
    account : Account, optional
        Of the flow run around this one.
    first_number : int, optional
        For new task runs.

    Attributes
    ----------
    attempt : int
        Number of the new one.
    renewed : set of str
        Tasks that have changed and are to run again: what they stored before does not count.
    """

    def __init__(
        self,
        past: Past,
        *,
        lease: Lease | None = None,
        rerun_changed: bool = False,
        account: Account | None = None,
        first_number: int | None = None,
    ) -> None:
        self.flow_run = past.flow_run
        self.lease = lease
        self.attempt = past.flow_run.attempt + 1
        self.account = account or Account()
        self.first_number = past.first_free_number() if first_number is None else first_number
        self._rerun_changed = rerun_changed
        self._children = list(past.children)
        self._tasks = {task.task_number: task for task in past.tasks}
        self._next_task = max(self._tasks, default=-1) + 1
        self._rows: dict[str, list[TaskRunRow]] = {}
        for row in past.task_runs:
            if (task := self._tasks.get(row.task_number)) is not None:
                self._rows.setdefault(task.name, []).append(row)
                if row.state not in SUCCESSFUL:
                    state = row.state if row.state in FINAL else CRASHED  # with its process
                    self.account.before.setdefault(task.name, Counter())[state] += 1
        self._prepared: set[str] = set()
        self.renewed: set[str] = set()  # tasks whose results take the place of what is there
        self._earlier = EarlierRuns()
        self._offered: dict[str, tuple[float, Mapping[str, Sequence[str]]]] = {}
        self._turns: dict[tuple[Any, ...], Iterator[int]] = {}
        self._lock = threading.Lock()

    # -- going on where the record ends ---------------------------------------------------------

    def numbers(self, name: str, tags: str, code_digest: str | None) -> tuple[int, int]:
        """The number of a task as it is used now, its old one if it is the same; its next index."""
        first = max((row.index for row in self._rows.get(name, ())), default=-1) + 1
        for number, task in self._tasks.items():
            if (task.name, task.tags, task.code_digest) == (name, tags, code_digest):
                return number, first
        self._next_task += 1
        return self._next_task - 1, first

    def child(self, flow_name: str, parameters: str) -> Resumption | None:
        """The subflow that was called with these parameters; each is handed out once."""
        with self._lock:
            for place, past in enumerate(self._children):
                row = past.flow_run
                if (row.flow_name, row.parameters) == (flow_name, parameters):
                    del self._children[place]
                    return Resumption(
                        past,
                        rerun_changed=self._rerun_changed,
                        account=self.account,
                        first_number=self.first_number,
                    )
        return None

    # -- committed runs --------------------------------------------------------------------------

    def prepare(self, plan: CachePlan, source: str | None) -> None:
        """A task is used: look up what its runs have committed.

        Parameters
        ----------
        plan : CachePlan
        source : str or None
            Digest of the function's source now.
        """
        name = plan.task_name
        if name in self._prepared:
            return
        self._prepared.add(name)
        was = {task.code_digest for task in self._tasks.values() if task.name == name}
        if self._rerun_changed and was and source not in was:
            self.renewed.add(name)
        rows = self._rows.get(name, ())
        committed = [(row, key) for row in rows if (key := _committed_as(row)) is not None]
        if not committed:
            return
        store = open_store(plan.store, plan.flow_run_id)
        store.forget()  # what this process missed before may be there by now
        found = store.lookup([key for _, key in committed])
        for row, key in committed:
            if (entry := found.get(key)) is None:
                self.account.gone[name] += 1
                continue
            before = self._tasks[row.task_number].code_digest
            changes = code_changes(entry.parts, plan, before, source)
            if changes:
                self.account.changes.setdefault(name, set()).update(changes)
            if changes and self._rerun_changed:
                self.account.changed[name] += 1
                continue
            self._earlier.add(name, Earlier(row, entry, changes))

    def take(self, cache: RunCache) -> Earlier | None:
        """The committed run that this one is, if there is one and its inputs are known here."""
        try:
            key = cache.key()
        except DaskflowError:  # what futures stand inside of has no content
            return None
        if key is None:
            return None
        name = cache.plan.task_name
        chosen = self._earlier.take(name, key.key, key.parts)
        self._count(name, chosen)
        return chosen

    def _count(self, task_name: str, taken: Earlier | None) -> None:
        if taken is not None:
            self.account.reused[task_name] += 1
            if taken.changes:
                self.account.reused_changed[task_name] += 1

    # -- what only a worker can find, since it alone has the inputs -----------------------------

    def offer(self, task_name: str) -> Mapping[str, Sequence[str]]:
        """What is committed of a task, for workers; the same object for a while."""
        now = time.monotonic()
        until, offered = self._offered.get(task_name, (-math.inf, {}))
        if now >= until:
            offered = self._earlier.keys(task_name, _MOST_OFFERED)
            self._offered[task_name] = now + _OFFERED_S, offered
        return offered

    def turn(self, task_name: str, run: Run) -> int:
        """The place of a run among those of the same inputs."""
        given = run.payload if type(run.payload) is bytes else None
        place = task_name, given, tuple(dep.number for dep in run.deps)
        return next(self._turns.setdefault(place, itertools.count()))

    def found(self, task_name: str, key: str) -> None:
        """A worker has found this result."""
        taken = self._earlier.take_key(task_name, key)
        self._count(task_name, taken)
        if taken is not None:
            self.account.late(task_name)

    def take_over(self, run: Run, *, here: bool) -> bool:
        """Make a new run the committed one that it is; False when there is none.

        Parameters
        ----------
        run : Run
            With a `RunCache`; not handed to any driver yet.
        here : bool
            Its value is needed in this process, and nobody makes it again should it be lost.
        """
        cache = run.cache
        assert isinstance(cache, RunCache)
        if (earlier := self.take(cache)) is None:
            return False
        ref = StoredRef(cache.plan.store, earlier.entry.carried())
        value: Any = StoredValue(ref)
        if here:
            try:
                value = BOUND_LIVE, ref.load()
            except StoreError:  # gone or damaged: it is executed, and replaces what is there
                self.account.lost(cache.plan.task_name)
                return False
        _become(run, cache, earlier, value)
        return True


def _become(run: Run, cache: RunCache, earlier: Earlier, value: Any) -> None:
    row, entry = earlier.row, earlier.entry
    run.number, run.index, run.name, run.parents = row.number, row.index, row.name, row.parents
    run.attempt, run.crashes, run.worker, run.pid = row.attempt, row.crashes, row.worker, row.pid
    run.started_at, run.ended_at = row.started_at, row.ended_at
    run.run_s, run.cpu_s, run.encode_s = row.run_s, row.cpu_s, row.encode_s
    run.created_at, run.message = row.created_at, row.message
    run.value, run.result_bytes = value, entry.size_bytes
    is_reused(cache, entry)
    cache.status = row.cache
    run.state = row.state  # last: whoever sees a final state finds the rest in place


def is_reused(cache: RunCache, entry: Entry) -> None:
    """Note in the cache's side of a run that its result was found."""
    cache.hit, cache.digest, cache.made_as = True, entry.content_digest, entry.key
    cache.status = hit_status(entry.key, entry.duration_s)


def _committed_as(row: TaskRunRow) -> str | None:
    """The key of a run that has succeeded and whose result was stored."""
    status = read_status(row.cache) if row.state in SUCCESSFUL else None
    return None if status is None else status.key


def code_changes(
    parts: Mapping[str, str], plan: CachePlan, before: str | None, source: str | None
) -> tuple[str, ...]:
    """What is different in a task's code since a run of it was committed; empty for nothing.

    Parameters
    ----------
    parts : mapping of str to str
        Of the key of its result.
    plan : CachePlan
        How the task caches now.
    before, source : str or None
        Digests of the function's source then and now: they count where the key holds no code.
    """
    old = {part: digest for part, digest in parts.items() if part.startswith("code ")}
    if old and plan.code is not None:
        new = {f"code {name}": digest for name, digest in plan.code.parts.items()}
        return tuple(str(change) for change in explain(old, new))
    if before is not None and source is not None and before != source:
        return ("code changed",)
    return ()
