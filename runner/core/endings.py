"""How runs end, and what that means for those that wait for them.

Invariants: a final state never changes; every end is told exactly once, in `Decisions.final`; a run
whose input ended badly and was not allowed to is NotReady, and names the first cause.
"""

from __future__ import annotations

from collections import deque

from daskflow.errors import TaskCancelled, UpstreamFailed
from daskflow.runner.core.decisions import Decisions, Transition, describe
from daskflow.runner.core.graph import Remote, Run
from daskflow.runner.core.inputs import Inputs
from daskflow.runner.core.lanes import Lanes
from daskflow.runner.core.states import (
    AWAITING_RETRY,
    CANCELLED,
    COMPLETED,
    CRASHED,
    FINAL,
    NOT_READY,
    PENDING,
    RETRYING,
    RUNNING,
    SUCCESSFUL,
    check_transition,
)

__all__ = ["Endings"]


class Endings:
    """Ends runs, and settles what depends on them.

    Parameters
    ----------
    lanes : Lanes
    """

    def __init__(self, lanes: Lanes) -> None:
        self.decisions = Decisions([], [], [], [])
        self.inputs = Inputs(lanes, self._spoiled)
        self.refusal: BaseException | None = None  # why nothing can run any more
        self._lanes = lanes
        self._settling: deque[tuple[Run, float]] = deque()
        self._busy = False

    def take(self) -> Decisions:
        """Hand over all decisions since the last call."""
        taken, self.decisions = self.decisions, Decisions([], [], [], [])
        return taken

    # -- one run -------------------------------------------------------------------------------

    def end(
        self, run: Run, state: str, at: float, message: str | None, error: BaseException | None
    ) -> None:
        """Make `run` final, unless it is."""
        if run.state in FINAL:
            return
        check_transition(run.state, state, run)
        run.ended_at, run.message, run.error = at, message, error
        run.state = state  # last: whoever sees a final state finds the rest in place
        stage = run.stage
        stage.counts[state] = stage.counts.get(state, 0) + 1
        scope = stage.scope
        scope.open -= 1
        if state not in SUCCESSFUL:
            scope.failed.append(run)
        self.inputs.go(run)
        self.decisions.final.append(run)
        self._settle(run, at)

    def complete(self, run: Run, at: float) -> None:
        """Make `run` Completed: as `end`, with no more looks than a first attempt needs."""
        if run.state != RUNNING:
            self.end(run, COMPLETED, at, None, None)
            return
        run.ended_at, run.message, run.error = at, None, None
        run.state = COMPLETED
        stage = run.stage
        counts, scope = stage.counts, stage.scope
        counts[COMPLETED] = counts.get(COMPLETED, 0) + 1
        scope.open -= 1
        if run.deps or isinstance(run.value, Remote):
            self.inputs.go(run)
        else:
            run.payload = None
        self.decisions.final.append(run)
        if run.children is not None or isinstance(run.value, Remote):
            self._settle(run, at)

    def remade(self, run: Run, at: float, error: BaseException | None = None) -> None:
        """The value of a final run is there again, or `error` says why it never will be."""
        run.redo = False
        run.error = error
        self.inputs.go(run)
        self._settle(run, at)

    def cancel(self, run: Run, at: float, text: str = "cancelled with its flow run") -> None:
        """End `run` as cancelled, unless it is final."""
        if run.state in FINAL:
            return
        self.note(run, at, CANCELLED, text, run.attempt)
        self.end(run, CANCELLED, at, text, TaskCancelled(run.task_run_id, text))

    def not_ready(self, run: Run, cause: Run, at: float) -> None:
        """End `run`, which never ran, for `cause` among its inputs."""
        if run.redo:
            self.remade(run, at, cause.error)
            return
        if run.parcel is not None:  # rode in the parcel of the input that failed
            self._lanes.take_back(run.parcel, run.number)
        if run.stage.scope.cancelled:
            self.cancel(run, at)
            return
        self.unstart(run)  # lost with its parcel, and with it an input that ended since
        root = cause.cause or cause
        if self.refusal is not None and root.error is self.refusal:
            self.end(run, CRASHED, at, str(self.refusal), self.refusal)
            return
        if root.state in SUCCESSFUL and root.error is not None:
            text = f"the result of {root.label} was lost, and making it again ended in "
            text += describe(root.error)
        else:
            text = f"{root.label} ended {root.state}: {root.message}"
        run.cause = root
        self.note(run, at, NOT_READY, text, 0)
        error = UpstreamFailed(run.task_run_id, text)
        error.__cause__ = root.error
        self.end(run, NOT_READY, at, text, error)

    def _spoiled(self, run: Run, cause: Run) -> None:
        self.not_ready(run, cause, max(run.created_at, cause.ended_at or 0.0))

    # -- those that wait for it ----------------------------------------------------------------

    def _settle(self, run: Run, at: float) -> None:
        """Tell those that wait for `run`; a value that nobody waits for may go."""
        if run.children is None:
            self.inputs.unwanted(run)
            return
        self._settling.append((run, at))
        if self._busy:  # no recursion: a chain of dependents may be long
            return
        self._busy = True
        try:
            while self._settling:
                settled, when = self._settling.popleft()
                self._tell(settled, when)
                self.inputs.unwanted(settled)
        finally:
            self._busy = False

    def _tell(self, run: Run, at: float) -> None:
        children, run.children = run.children, None
        bad = run.error is not None
        for child in children or ():
            if child.state in FINAL and not child.redo:
                continue
            if child.stage.scope.cancelled and child.parcel is None and not child.redo:
                self.cancel(child, at)
                continue
            if bad and not _may_fail(child, run):
                self.not_ready(child, run, at)
                continue
            if bad:
                run.looked_at = True
            child.waiting -= 1
            if not child.waiting and child.parcel is None:
                self.inputs.ready(child)

    # -- the record ----------------------------------------------------------------------------

    def move(self, run: Run, state: str) -> None:
        """Change the state of a run that goes on."""
        check_transition(run.state, state, run)
        run.state = state

    def unstart(self, run: Run) -> None:
        """The execution that a worker told of counts for nothing: it was lost."""
        if run.state == RUNNING:
            self.move(run, PENDING)
            run.started_at = run.worker = None
        elif run.state == RETRYING:
            self.move(run, AWAITING_RETRY)

    def note(self, run: Run, at: float, state: str, message: str | None, attempt: int) -> None:
        """Have a transition recorded."""
        self.decisions.transitions.append(Transition(run, at, state, message, attempt, run.worker))


def _may_fail(run: Run, dep: Run) -> bool:
    allowed = run.allowed
    if allowed is None:
        return False
    if len(allowed) == len(run.deps):  # thousands of inputs may fail one by one
        return True
    return all(slot in allowed for slot, each in enumerate(run.deps) if each is dep)
