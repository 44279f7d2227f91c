"""What the record says of a flow run that goes on, and its committed task runs, found by inputs."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from daskflow.caching.keys import run_identity
from daskflow.runner.store.rows import FlowRunRow, TaskRow, TaskRunRow

if TYPE_CHECKING:
    from daskflow.caching.index import Entry

__all__ = ["Earlier", "EarlierRuns", "Past", "read_past"]


class Past(NamedTuple):
    """What the record says of a flow run and its subflows."""

    flow_run: FlowRunRow
    tasks: Sequence[TaskRow]
    task_runs: Sequence[TaskRunRow]
    children: Sequence[Past] = ()

    def flow_runs(self) -> Iterator[FlowRunRow]:
        """This one and all below it."""
        yield self.flow_run
        for child in self.children:
            yield from child.flow_runs()

    def first_free_number(self) -> int:
        """Of task runs: they are counted by the cluster that they share."""
        own = max((row.number for row in self.task_runs), default=-1) + 1
        return max([own, *(child.first_free_number() for child in self.children)])


class _Store(Protocol):
    def tasks(self, flow_run_id: str) -> list[TaskRow]: ...
    def task_runs(self, flow_run_id: str) -> list[TaskRunRow]: ...
    def children(self, flow_run_id: str) -> list[FlowRunRow]: ...


def read_past(store: _Store, flow_run: FlowRunRow) -> Past:
    """Read what the record says of a flow run."""
    known = flow_run.flow_run_id
    children = tuple(read_past(store, child) for child in store.children(known))
    return Past(flow_run, store.tasks(known), store.task_runs(known), children)


class Earlier(NamedTuple):
    """A committed task run.

    Attributes
    ----------
    row : TaskRunRow
    entry : Entry
        Of its result.
    changes : tuple of str
        What is different in its code since.
    """

    row: TaskRunRow
    entry: Entry
    changes: tuple[str, ...]

    @property
    def has_a_place(self) -> bool:
        """Whether its key tells it from its equals."""
        return self.entry.parts.get("place", "").isdecimal()


class EarlierRuns:
    """Committed runs by what they are known by; each is handed out once, from any thread."""

    def __init__(self) -> None:
        self._known: dict[str, list[Earlier]] = {}
        self._names: dict[str, dict[str, None]] = {}  # identities by task
        self._identities: dict[tuple[str, str], str] = {}  # by task and key
        self._lock = threading.Lock()

    def add(self, task_name: str, earlier: Earlier) -> None:
        """One more committed run."""
        identity = run_identity(task_name, earlier.entry.parts)
        with self._lock:
            self._known.setdefault(identity, []).append(earlier)
            self._names.setdefault(task_name, {})[identity] = None
            self._identities[task_name, earlier.entry.key] = identity

    def take(self, task_name: str, key: str, parts: Mapping[str, str]) -> Earlier | None:
        """The run of this key, or else one of its equals whose key tells no place among them."""
        with self._lock:
            equals = self._known.get(run_identity(task_name, parts), [])
            chosen = next((each for each in equals if each.entry.key == key), None)
            if chosen is None:
                chosen = next((each for each in equals if not each.has_a_place), None)
            if chosen is not None:
                equals.remove(chosen)
            return chosen

    def take_key(self, task_name: str, key: str) -> Earlier | None:
        """The run of this key, which somebody else has found by its inputs."""
        with self._lock:
            equals = self._known.get(self._identities.get((task_name, key), ""), [])
            chosen = next((each for each in equals if each.entry.key == key), None)
            if chosen is not None:
                equals.remove(chosen)
            return chosen

    def keys(self, task_name: str, most: int) -> dict[str, tuple[str, ...]]:
        """The keys of what was not taken of a task, by identity; of `most` identities."""
        with self._lock:
            found = itertools.islice(self._names.get(task_name, ()), most)
            equals = {identity: self._known[identity] for identity in found}
            return {i: tuple(e.entry.key for e in runs) for i, runs in equals.items() if runs}
