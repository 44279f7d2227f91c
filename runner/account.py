"""The account of a resumed flow run: what was reused, what ran again, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from daskflow.runner.cluster.protocol import Code
from daskflow.runner.core.graph import Scope
from daskflow.runner.core.states import CACHED

__all__ = ["Account"]

NOT_KEPT = "results are not kept (persist_result=True keeps them)"
CHANGED = "code has changed (--rerun-changed)"
GONE = "stored results are gone or expired"
NOT_COMMITTED = "nothing was committed for these inputs"


class Account:
    """Counts task runs by task; subflows count in the same account.

    Attributes
    ----------
    reused : Counter of str
        Taken from the record, by task.
    reused_changed : Counter of str
        Those among them whose code has changed since.
    changes : dict of str to set of str
        What has changed in the code of a task.
    changed, gone : Counter of str
        Committed runs that were not reused: for ``--rerun-changed``, and for lack of the result.
    found : Counter of str
        In the result store, though not in the record.
    executed : Counter of str
        Runs that were executed, by task.
    before : dict of str to Counter of str
        How the runs of a task had ended that did not succeed before, by state.
    """

    def __init__(self) -> None:
        self.reused: Counter[str] = Counter()
        self.reused_changed: Counter[str] = Counter()
        self.changes: dict[str, set[str]] = {}
        self.changed: Counter[str] = Counter()
        self.gone: Counter[str] = Counter()
        self.found: Counter[str] = Counter()
        self.executed: Counter[str] = Counter()
        self.before: dict[str, Counter[str]] = {}
        self._late: Counter[str] = Counter()
        self._kept: set[str] = set()

    def lost(self, task_name: str) -> None:
        """What was taken cannot be read after all."""
        self.reused[task_name] -= 1
        self.gone[task_name] += 1

    def late(self, task_name: str) -> None:
        """What was taken ends like one that was found in the cache."""
        self._late[task_name] += 1

    def add(self, scopes: Iterable[Scope]) -> None:
        """A flow run, or one attempt of it, has ended: count what it executed."""
        for scope in scopes:
            for stage in scope.stages:
                hits = stage.counts.get(CACHED, 0)
                late = min(hits, self._late[stage.name])
                self._late[stage.name] -= late
                self.found[stage.name] += hits - late
                self.executed[stage.name] += stage.submitted - hits
                if isinstance(stage.code, Code) and stage.code.cache is not None:
                    self._kept.add(stage.name)

    def again(self) -> dict[str, dict[str, int]]:
        """How many runs of each task were executed, by the reason."""
        told: dict[str, dict[str, int]] = {}
        for name, count in sorted(self.executed.items()):
            reasons: dict[str, int] = {}
            if name not in self._kept:
                reasons[NOT_KEPT] = count
            else:
                for why, most in ((CHANGED, self.changed[name]), (GONE, self.gone[name])):
                    reasons[why] = min(most, count)
                    count -= reasons[why]
                reasons[NOT_COMMITTED] = count
            if reasons := {why: number for why, number in reasons.items() if number}:
                told[name] = reasons
        return told

    def as_dict(self) -> dict[str, Any]:
        """The account as plain values, for the record and ``--json``."""
        return {
            "reused": {name: n for name, n in sorted(self.reused.items()) if n},
            "reused_with_changed_code": {
                name: {"task_runs": n, "changes": sorted(self.changes[name])}
                for name, n in sorted(self.reused_changed.items())
                if n
            },
            "found_in_the_result_store": {n: c for n, c in sorted(self.found.items()) if c},
            "executed": self.again(),
            "had_ended": {name: dict(sorted(ends.items())) for name, ends in self.before.items()},
        }
