"""Task runs that workers ask for: the driver's side, in the driver's thread.

A worker names the runs that it asks for by tokens.  The runs belong to the flow run of the task
that asks, and live as long as that task is executed: then they are let go, and those that are not
final when it is lost or done are cancelled.
"""

from __future__ import annotations

import logging
import pickle
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from daskflow.errors import DaskflowError, TaskCancelled, UsageError
from daskflow.runner.cluster.answers import Answer
from daskflow.runner.cluster.executor.errors import error_bytes, pickle_error
from daskflow.runner.cluster.nested import Ask
from daskflow.runner.cluster.nested_flows import FlowBegin
from daskflow.runner.cluster.protocol import BOUND_INPUT, BOUND_STORED
from daskflow.runner.cluster.sent_states import SentState
from daskflow.runner.context import FlowRunContext
from daskflow.runner.core.driver import Driver, describe
from daskflow.runner.core.graph import Remote, Run, Scope
from daskflow.runner.core.states import CANCELLED, COMPLETED, FAILED, FINAL, SUCCESSFUL
from daskflow.runner.hooks import AttemptInfo, Hooks
from daskflow.runner.pace import Pace
from daskflow.runner.remote_flows import RemoteFlow
from daskflow.runner.stored import StoredValue

if TYPE_CHECKING:
    from daskflow.runner.task_runs import TaskRuns
    from daskflow.runner.tasks import Task

__all__ = ["Nesting"]

_logger = logging.getLogger(__name__)

# these wait for a reply: their first two words are the token and the worker
_QUESTIONS = frozenset({"flow_settles", "lost", "reserve"})


class Nesting:
    """Answers what the tasks of one session ask for.

    Parameters
    ----------
    driver : Driver
    deliver : callable
        Sends answers to a worker, without waiting: ``deliver(worker, answers)``.
    wake : callable
        There is more to do: has the driver's thread take another turn.
    """

    def __init__(
        self,
        driver: Driver,
        deliver: Callable[[str, list[Answer]], None],
        wake: Callable[[], object],
    ) -> None:
        self.hosts: dict[str, tuple[FlowRunContext, TaskRuns]] = {}
        self._driver = driver
        self._deliver = deliver
        self._wake = wake
        self._tasks: dict[str, Task[Any, Any]] = {}
        self._runs: dict[str, Run] = {}
        self._tokens: dict[Run, list[str]] = {}  # by the run that asked
        self._token_of: dict[Run, str] = {}
        self._paces: dict[tuple[Run, str], Pace] = {}
        self._flows: dict[str, RemoteFlow] = {}
        self._settling: list[tuple[RemoteFlow, str, str]] = []  # with token and worker
        self._remaking: list[tuple[Run, str, str]] = []
        self._answers: dict[str, list[Answer]] = {}
        self._take: dict[str, Callable[..., None]] = {
            "submit": self._submit,
            "seen": self._seen,
            "lost": self._lost,
            "hooks": self._hooks,
            "reserve": self._reserve,
            "flow_begins": self._flow_begins,
            "flow_settles": self._flow_settles,
            "flow_cancels": self._flow_cancels,
            "flow_ends": self._flow_ends,
            "flow_lines": self._of_flow(RemoteFlow.lines),
            "flow_record": self._of_flow(RemoteFlow.rows),
            "flow_changes": self._of_flow(RemoteFlow.change),
            "flow_again": self._of_flow(RemoteFlow.again),
            "flow_reuses": self._of_flow(RemoteFlow.reused),
            "flow_hooks": self._of_flow(RemoteFlow.tell),
        }

    def take(self, kind: str, blob: bytes) -> None:
        """What a worker asks or tells; nothing that is wrong with it stops the driver."""
        asked: tuple[Any, ...] = ()
        try:
            asked = pickle.loads(blob)
            self._take[kind](*asked)
        except Exception as error:  # a module that only workers have; another version of daskflow
            if not isinstance(error, DaskflowError):
                _logger.exception("what a worker asked for (%s) cannot be done", kind)
            if kind == "submit" and asked:
                ask = Ask(*asked)
                self._refuse(ask.worker, ask.token, error)
            elif kind in _QUESTIONS and asked:
                self._refuse(asked[1], asked[0], error)

    # -- task runs -----------------------------------------------------------------------------

    def _submit(self, *asked: Any) -> None:
        ask = Ask(*asked)
        task = self._task(ask.digest, ask.task)
        parent = self._parent(ask.parcel_id, ask.parent)
        deps = [self._runs.get(token) for token in ask.deps]
        host = None
        if parent is not None:
            host = self.hosts.get(ask.flow or parent.stage.scope.flow_run_id)
        if parent is None or host is None or None in deps:  # given up on meanwhile
            late = Answer(ask.token, "", ask.token, CANCELLED, "asked too late", None, None)
            self._answers.setdefault(ask.worker, []).append(late)
            return
        known = tuple(dep for dep in deps if dep is not None)
        run = host[1].nested_run(task, parent if ask.flow is None else None, ask, known)
        self._runs[ask.token], self._token_of[run] = run, ask.token
        self._tokens.setdefault(parent, []).append(ask.token)
        run.callbacks = [lambda ended: self._tell_end(ended, ask.token, ask.worker)]
        if ask.pace is None:
            self._driver.submit(run)
        else:
            self._pace(parent, *ask.pace).submit(run)

    def _task(self, digest: str, blob: bytes | None) -> Task[Any, Any]:
        if blob is not None:
            try:
                self._tasks[digest] = pickle.loads(blob)
            except Exception as error:  # user code: it imports modules
                raise UsageError(
                    "a task that was used on a worker cannot be loaded in the flow process, which "
                    f"needs the modules that it comes from: {describe(error)}"
                ) from error
        if (task := self._tasks.get(digest)) is None:
            raise UsageError("a task that was used on a worker could not be loaded before")
        return task

    def _parent(self, parcel_id: int, number: int) -> Run | None:
        parcel = self._driver.parcels.get(parcel_id)
        return parcel.open.get(number) if parcel is not None else None

    def _pace(self, parent: Run, token: str, limit: int) -> Pace:
        pace = self._paces.get((parent, token))
        if pace is None:
            pace = self._paces[parent, token] = Pace(limit, self._submit_soon)
        return pace

    def _submit_soon(self, run: Run) -> None:
        self._driver.submit(run)
        self._wake()

    def _tell_end(self, run: Run, token: str, worker: str) -> None:
        value = run.value
        if isinstance(value, Remote):
            remote: Any = value
            stored = isinstance(value, StoredValue)
            value = (BOUND_STORED, remote.ref) if stored else (BOUND_INPUT, remote.future.key)
        good = run.state in SUCCESSFUL and run.error is None
        answer = Answer(
            token,
            run.label,
            run.task_run_id,
            run.state,
            run.message,
            None if run.error is None else _pickled_error(run),
            value if good else None,
            self._token_of.get(run.cause) if run.cause is not None else None,
        )
        self._answers.setdefault(worker, []).append(answer)

    def _seen(self, token: str) -> None:
        if (run := self._runs.get(token)) is not None:
            run.looked_at = True
            if run.cause is not None:
                run.cause.looked_at = True

    def _lost(self, token: str, worker: str) -> None:
        """A worker found the result of a run gone that it asked for: it is made again."""
        run = self._runs.get(token)
        if run is None:
            self._refuse(worker, token, TaskCancelled(token, "asked too late"))
            return
        self._driver.value_lost(run)
        self._driver.value_needed(run)
        self._remaking.append((run, token, worker))

    # -- other questions -----------------------------------------------------------------------

    def _hooks(
        self,
        flow_run_id: str,
        hooks: Hooks,
        digest: str,
        blob: bytes | None,
        told: tuple[str, str, int],
        sent: SentState,
    ) -> None:
        task = self._task(digest, blob)
        if (host := self.hosts.get(flow_run_id)) is None:
            return
        run_id, name, attempt = told
        state = sent.load(run_id)
        info = AttemptInfo(run_id, name, attempt, state)
        host[1].hooks.calls.tell(hooks, host[1].same_task(task), info, state)

    def _reserve(
        self,
        token: str,
        worker: str,
        flow_run_id: str,
        digest: str,
        blob: bytes | None,
        tags: frozenset[str],
        many: int,
    ) -> None:
        task = self._task(digest, blob)
        reserved = self._flow(flow_run_id).reserve(task, tags, many)
        self._reply(worker, token, tuple(reserved))

    def _reply(self, worker: str, token: str, value: Any) -> None:
        self._answers.setdefault(worker, []).append(_reply(token, value))

    def _refuse(self, worker: str, token: str, error: Exception) -> None:
        blob = pickle_error(error, token)
        refusal = Answer(token, token, token, FAILED, str(error), blob, None)
        self._answers.setdefault(worker, []).append(refusal)

    # -- flow runs on workers ------------------------------------------------------------------

    def _of_flow(self, method: Callable[..., None]) -> Callable[..., None]:
        def call(flow_run_id: str, *told: Any) -> None:
            if (flow := self._flows.get(flow_run_id)) is not None:  # else it was given up on
                method(flow, *told)

        return call

    def _flow(self, flow_run_id: str) -> RemoteFlow:
        flow = self._flows.get(flow_run_id)
        if flow is None:
            raise TaskCancelled(flow_run_id, "the task run that called this flow is over")
        return flow

    def _flow_begins(self, *told: Any) -> None:
        begin = FlowBegin(*told)
        parent = self._parent(begin.parcel_id, begin.parent)
        if parent is None:
            return
        outer = self.hosts.get(begin.around or parent.stage.scope.flow_run_id)
        if outer is None:
            return
        flow = RemoteFlow(*outer, begin, parent)
        self._flows[flow.info.id] = flow
        self.hosts[flow.info.id] = flow, flow.runs
        self._tokens.setdefault(parent, [])

    def _flow_settles(self, token: str, worker: str, flow_run_id: str) -> None:
        self._settling.append((self._flow(flow_run_id), token, worker))

    def _flow_cancels(self, flow_run_id: str) -> None:
        if (flow := self._flows.get(flow_run_id)) is not None:
            self._driver.cancel(flow.scope, time.time())
            self._drop_paces(flow.scope)
            self.cancel(flow.scope)

    def _flow_ends(self, flow_run_id: str) -> None:
        if (flow := self._flows.pop(flow_run_id, None)) is not None:
            flow.leave()
            self.hosts.pop(flow_run_id, None)
            self._settling = [each for each in self._settling if each[0] is not flow]

    def _drop_paces(self, scope: Scope) -> None:
        for key, pace in list(self._paces.items()):
            if (held := pace.last_held) is not None and held.stage.scope is scope:
                del self._paces[key]
                pace.drop()

    def cancel(self, scope: Scope) -> list[Scope]:
        """A flow run was cancelled: so are those that its task runs have called; returns these."""
        called = [each for each in self._flows.values() if each.parent.stage.scope is scope]
        for flow in called:
            self._flow_cancels(flow.info.id)
        return [flow.scope for flow in called]

    # -- the end of a run that asked -----------------------------------------------------------

    def parent_ended(self, parent: Run) -> None:
        """The run that asked is not executed any more: what it asked for is nobody's."""
        now = time.time()
        for flow in [each for each in self._flows.values() if each.parent is parent][::-1]:
            self._driver.cancel(flow.scope, now)
            flow.abandon()
            self._flow_ends(flow.info.id)
        for key in [key for key in self._paces if key[0] is parent]:
            self._paces.pop(key).drop()
        for token in self._tokens.pop(parent, ()):
            run = self._runs.pop(token)
            self._token_of.pop(run, None)
            self._remaking = [each for each in self._remaking if each[0] is not run]
            if run.state not in FINAL:
                self._driver.cancel_run(run, now)
            self._driver.let_go(run)

    def asked(self) -> list[Run]:
        """Runs that have asked for others and were not seen to end."""
        return list(self._tokens)

    def answer(self) -> None:
        """Send what has become known since the last call."""
        if self._settling:
            self._settle()
        if self._remaking:
            self._tell_remade()
        if self._answers:
            answers, self._answers = self._answers, {}
            for worker, batch in answers.items():
                self._deliver(worker, batch)

    def _settle(self) -> None:
        waiting, self._settling = self._settling, []
        for flow, token, worker in waiting:
            held = [pace.last_held for pace in self._paces.values()]
            if flow.scope.open or any(run and run.stage.scope is flow.scope for run in held):
                self._settling.append((flow, token, worker))
            else:
                self._reply(worker, token, flow.failures(self._token_of))

    def _tell_remade(self) -> None:
        waiting, self._remaking = self._remaking, []
        for run, token, worker in waiting:
            if run.kept or run.error is not None:
                self._tell_end(run, token, worker)
            else:
                self._remaking.append((run, token, worker))


def _reply(token: str, value: Any) -> Answer:
    return Answer(token, "", token, COMPLETED, None, None, value)


def _pickled_error(run: Run) -> bytes:
    assert run.error is not None
    text = getattr(run.error.__cause__, "text", "") or f"{run.label}: {run.message}\n"
    return pickle.dumps((error_bytes(run.error, run.task_run_id), text), 5)
