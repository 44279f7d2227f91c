"""What runs take from each other: the edges, and the values that live on workers.

A run is queued once each of its inputs is final and has its value at hand.  A value on a worker is
held while a future or an open run wants it.  One that was lost is made again, by executing its run
once more, when something that takes it could go; so can the inputs of that run, to any depth.

Invariant: `Run.waiting` counts the inputs, and the delay of a retry, that a run still waits for; a
run that waits is in the `children` of each input that it waits for.
"""

from __future__ import annotations

from collections.abc import Callable

from daskflow.runner.core.graph import Remote, Run
from daskflow.runner.core.lanes import Lanes
from daskflow.runner.core.states import FINAL, PENDING, SUCCESSFUL

__all__ = ["Inputs"]


class Inputs:
    """Edges between runs, and what becomes of the values at their upper ends.

    Parameters
    ----------
    lanes : Lanes
        Gets the runs that wait for nothing any more.
    spoiled : callable
        Told of a run and an input of it that cannot be had, after the run was submitted.
    """

    def __init__(self, lanes: Lanes, spoiled: Callable[[Run, Run], None]) -> None:
        self._lanes = lanes
        self._spoiled = spoiled
        self.lookups: list[Run] = []  # to be looked up in the cache before they are queued
        self.looking: dict[Run, None] = {}  # the same, until they are answered
        self._lossy = False  # some value was lost, so inputs that were there may not be any more
        self._sweep = False  # one was lost that queued runs may take
        self._unwanted: list[Run] = []  # noted since the last sweep
        self._unwanted_before: list[Run] = []

    # -- edges ---------------------------------------------------------------------------------

    def connect(self, run: Run) -> Run | None:
        """Take in a new run: it is queued, waits, or an input (returned) makes it impossible."""
        inputs = _by_input(run)
        asked_by = run.parents or ()
        run.parents = (*asked_by, *(dep.number for dep in inputs if dep.number >= 0)) or None
        for dep in inputs:
            dep.dependents += 1
        if run.stage.submitted == 1:
            run.stage.descend(dep.stage for dep in inputs)
        missing: list[Run] = []
        bad = self._wait(run, inputs, missing)
        if bad is None and not run.waiting:
            self.queue(run)
        for dep in missing:
            self.need(dep)
        return bad

    def queue(self, run: Run, *, first: bool = False) -> None:
        """Queue a run whose inputs are all there, or have it looked up before."""
        note = run.cache
        # one that rode in a parcel with its input and failed there is executed again, like others
        if note is not None and note.wanted and not run.redo and run.state == PENDING:
            note.wanted = False
            self.lookups.append(run)
            self.looking[run] = None
        elif first:
            self._lanes.put_first(run)
        else:
            self._lanes.put(run)

    def _wait(self, run: Run, inputs: dict[Run, bool], missing: list[Run]) -> Run | None:
        """Let `run` wait for what is not there, or return an input that will never be.

        Lost values go to `missing`: the caller has them made again, after it has dealt with
        `run`, for one that cannot be made at once is told to those that wait for it at once.
        """
        waits = []
        taken: frozenset[Run] | None = None
        for dep, may_fail in inputs.items():
            if dep.state in FINAL:
                if dep.kept and dep.error is None:
                    continue
                if taken is None:
                    taken = frozenset(run.deps[: run.taken])
                if dep.state in SUCCESSFUL and dep not in taken:
                    continue
                if dep.error is not None and not may_fail:
                    return dep
                if dep.error is not None:
                    dep.looked_at = True
                    continue
            waits.append(dep)
        run.waiting += len(waits)
        for dep in waits:
            if dep.children is None:
                dep.children = []
            dep.children.append(run)
            if dep.state in FINAL:
                missing.append(dep)
        return None

    def ready(self, run: Run, *, first: bool = False) -> None:
        """Queue a run that waits for nothing, unless an input was lost while it waited."""
        if self._lossy and _misses_inputs(run):
            missing: list[Run] = []
            bad = self._wait(run, _by_input(run), missing)
            if bad is not None:
                self._spoiled(run, bad)
                return
            for dep in missing:
                self.need(dep)
            if missing:
                return
        self.queue(run, first=first)

    def count_in(self, run: Run) -> None:
        """Hold the inputs of `run` until it lets `go` of them."""
        for dep in set(run.deps):
            dep.dependents += 1

    def go(self, run: Run) -> None:
        """`run` wants its inputs no more; without a value that can be lost, it never will."""
        deps = run.deps
        if not isinstance(run.value, Remote):
            run.payload, run.deps = None, ()
        for dep in set(deps) if len(deps) > 1 else deps:
            dep.dependents -= 1
            if dep.dependents <= 0:
                self.unwanted(dep)

    # -- values that live on workers -----------------------------------------------------------

    def need(self, run: Run) -> None:
        """Have the value of a run that has succeeded made again, if it is not there."""
        todo = [run]  # no recursion: a chain of lost values may be long
        while todo:
            run = todo.pop()
            if run.state not in SUCCESSFUL or run.kept or run.redo or run.error is not None:
                continue
            run.redo = True
            self.count_in(run)
            bad = self._wait(run, _by_input(run), todo)
            if bad is not None:
                self._spoiled(run, bad)
            elif not run.waiting:
                self._lanes.put(run)

    def lost(self, run: Run) -> None:
        """The worker that held the value of `run` is gone."""
        if run.kept and isinstance(run.value, Remote):
            run.value, run.kept = None, False
            self._lossy = True
            self._sweep = self._sweep or run.dependents > 0

    def unwanted(self, run: Run) -> None:
        """Note that a value may be dropped, if it is on a worker and nobody wants it."""
        if not run.held and run.dependents <= 0 and isinstance(run.value, Remote):
            self._unwanted.append(run)

    def has_unwanted(self) -> bool:
        """Whether the next sweeps will drop something."""
        return bool(self._unwanted or self._unwanted_before)

    def sweep(self) -> None:
        """Drop what nobody wants, and make queued runs wait for what was lost.

        A value goes at the second sweep after it was noted: a run that takes it may have been
        submitted before its future went, and arrive only now.
        """
        for run in self._unwanted_before:
            if not run.held and run.dependents <= 0 and isinstance(run.value, Remote):
                run.value, run.kept = None, False
        self._unwanted_before, self._unwanted = self._unwanted, []
        if self._sweep:
            self._sweep = False
            for run in self._lanes.take_out(_misses_inputs):
                self.ready(run)


def _by_input(run: Run) -> dict[Run, bool]:
    """Each input once, and whether it may have failed wherever it is used."""
    allowed = run.allowed or ()
    inputs: dict[Run, bool] = {}
    for slot, dep in enumerate(run.deps):
        inputs[dep] = inputs.get(dep, True) and slot in allowed
    return inputs


def _misses_inputs(run: Run) -> bool:
    return not all(dep.kept for dep in run.deps[: run.taken])
