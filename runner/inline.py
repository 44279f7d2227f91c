"""Task runs in the flow's own process: direct calls of a task, and every run under ``"sync"``.

The same pure driver decides as on a cluster; what executes is a function call.  `steps` says what
to do next, as effects; one small loop carries them out for sync tasks, one for async ones.
"""

from __future__ import annotations

import functools
import itertools
import os
import random
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import Any, NamedTuple

from daskflow.errors import DaskflowError, TaskCancelled, TaskCrashed, UsageError
from daskflow.runner.alarms import call_within
from daskflow.runner.arguments import Encoded, encode_live
from daskflow.runner.asynchronous import cancellation, loop_runs_here
from daskflow.runner.cancellation import CancelAsked
from daskflow.runner.cluster.executor.timeouts import RanOut, cancelled_after, timed_out
from daskflow.runner.cluster.executor.values import decode_arguments
from daskflow.runner.cluster.protocol import BOUND_LIVE, Code
from daskflow.runner.context import FlowRunContext, LogLine, TaskRunContext, current_task_run
from daskflow.runner.core.driver import Driver
from daskflow.runner.core.graph import Outcome, Run, Scope
from daskflow.runner.core.packing import PackingRules
from daskflow.runner.core.states import FINAL, SUCCESSFUL
from daskflow.runner.logs import show
from daskflow.runner.outcomes import Journal, load_value

__all__ = ["InlineShell", "run_inline", "run_inline_async"]


class _Execute(NamedTuple):
    """Effect: call the task's function with these arguments; send back what came of it."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    context: TaskRunContext
    limit_s: float | None


class _Sleep(NamedTuple):
    """Effect: let this many seconds pass."""

    seconds: float


# a run that is called is executed at once, however many callers are under way
_RULES = PackingRules(depth=1 << 30)
# the calls of a task share its stage: what one queues there it takes out again before the next
_turn = threading.Lock()

# RanOut: of a run around this one; its own is an outcome like others
_INTERRUPTS = (KeyboardInterrupt, SystemExit, RanOut)  # and what cancels a coroutine
_Effects = Generator[_Execute | _Sleep, tuple[Any, BaseException | None], None]


def _steps(
    run: Run, function: Callable[..., Any], journal: Journal, caller: TaskRunContext | None
) -> _Effects:
    """What executing `run` here takes, until it is final."""
    driver = Driver(_RULES, jitter=random.random)
    driver.slots = 1
    with _turn:
        driver.submit(run)
        driver.pack(time.monotonic())
    while True:
        send, final, transitions, _ = driver.take()
        journal.write(final, transitions)
        if run.state in FINAL:
            return
        if not send:
            due = driver.next_due()
            assert due is not None, repr(run)
            try:
                yield _Sleep(max(0.0, due - time.monotonic()))
                with _turn:
                    driver.tick(time.monotonic())
                    driver.pack(time.monotonic())
            except BaseException:  # Ctrl-C, or the surrounding coroutine was cancelled
                gone = TaskCancelled(run.task_run_id, "interrupted while waiting for its retry")
                driver.refuse(gone, time.time())
                journal.write(*driver.take()[1:3])
                run.looked_at = True  # the caller gets what interrupted it
                raise
            continue
        started_at, began, cpu = time.time(), time.perf_counter(), time.thread_time()
        value: Any = None
        caught: BaseException | None = None
        looked: Any = None
        late = False
        try:
            values = _values(run)
            if run.cache is not None:
                from daskflow.runner import inline_cache  # only runs that are cached pay for it

                looked = inline_cache.look_inline(run, function, values)
            if run.cache is not None and run.cache.hit:
                value = looked.value
            else:
                execute = _prepared(run, function, journal, caller, values)
        except BaseException as error:
            caught = error
        if caught is None and (run.cache is None or not run.cache.hit):
            value, caught = yield execute
            if isinstance(caught, CancelAsked):  # meant for the flow, and this run goes with it
                driver.drop_parcel(send[0].id, time.time())
                journal.write(*driver.take()[1:3])
                run.looked_at = True
                raise caught
            if isinstance(caught, RanOut) and caught.owner is execute.context:
                ran_out, late = caught, True
                caught = timed_out(execute.context, ran_out.limit_s)
                caught.__cause__ = ran_out.__cause__ or ran_out
            if caught is None and looked is not None:
                try:
                    took = time.perf_counter() - began
                    inline_cache.store_inline(looked, run, value, started_at, took)
                except DaskflowError as error:
                    value, caught = None, error
        outcome = Outcome(
            run.number,
            caught is None,
            started_at,
            time.perf_counter() - began,
            (BOUND_LIVE, value),
            caught,
            isinstance(caught, (*_INTERRUPTS, *cancellation())),
            time.thread_time() - cpu,
            timed_out=late,
        )
        driver.tick(time.monotonic())  # the delay of a retry counts from here
        driver.outcomes(send[0].id, [outcome], "local", os.getpid())
        driver.parcel_done(send[0].id)


def _values(run: Run) -> list[Any]:
    return [
        load_value(dep.value, None) if dep.state in SUCCESSFUL else dep.error
        for dep in run.deps[: run.taken]
    ]


def _prepared(
    run: Run,
    function: Callable[..., Any],
    journal: Journal,
    caller: TaskRunContext | None,
    values: list[Any],
) -> _Execute:
    args, kwargs = decode_arguments(run.payload, values)
    code = run.stage.code
    assert isinstance(code, Code)
    number = run.number
    if caller is not None:  # a task that a task calls is part of the run that calls it
        number, attempt, hand_on = caller.number, caller.attempt, caller.sink

        def sink(line: LogLine) -> None:
            hand_on(line._replace(number=number, attempt=attempt))

    else:

        def sink(line: LogLine) -> None:
            journal.lines(run.stage.scope, [line], "local")
            if line.logger == "print":  # other lines went through `logging`, which shows them
                show(line, run.label)

    context = TaskRunContext(
        code.flow, code.task, number, run.index, run.attempt + 1, sink, run.name
    )
    return _Execute(function, args, kwargs, context, code.timeout_s)


def run_inline(
    run: Run,
    function: Callable[..., Any],
    journal: Journal,
    caller: TaskRunContext | None = None,
) -> None:
    """Execute a run of a plain function in this thread, until it is final.

    Parameters
    ----------
    run : Run
    function : callable
    journal : Journal
        Where what happens is recorded.
    caller : TaskRunContext, optional
        The task run that calls this one.

    Raises
    ------
    KeyboardInterrupt, SystemExit
        After the run was recorded as Crashed.
    """
    steps = _steps(run, function, journal, caller)
    try:
        effect = next(steps)
        while True:
            if isinstance(effect, _Execute):
                effect = steps.send(_call(effect))
                continue
            try:
                time.sleep(effect.seconds)
            except BaseException as error:
                steps.throw(error)
            effect = steps.send((None, None))
    except StopIteration:
        _raise_interrupt(run)


def _call(effect: _Execute) -> tuple[Any, BaseException | None]:
    token = current_task_run.set(effect.context)
    try:
        if effect.limit_s is None:
            return effect.function(*effect.args, **effect.kwargs), None
        call = functools.partial(effect.function, *effect.args, **effect.kwargs)
        return call_within(effect.limit_s, effect.context, call), None
    except BaseException as error:
        return None, error
    finally:
        current_task_run.reset(token)


async def run_inline_async(
    run: Run,
    function: Callable[..., Awaitable[Any]],
    journal: Journal,
    caller: TaskRunContext | None = None,
) -> None:
    """Execute a run of an async function on the running loop, until it is final."""
    import asyncio  # heavy for scripts without async code

    steps = _steps(run, function, journal, caller)
    try:
        effect = next(steps)
        while True:
            if isinstance(effect, _Execute):
                effect = steps.send(await _call_async(effect))
                continue
            try:
                await asyncio.sleep(effect.seconds)
            except BaseException as error:
                steps.throw(error)
            effect = steps.send((None, None))
    except StopIteration:
        _raise_interrupt(run)


async def _call_async(effect: _Execute) -> tuple[Any, BaseException | None]:
    token = current_task_run.set(effect.context)
    try:
        if effect.limit_s is None:
            return await effect.function(*effect.args, **effect.kwargs), None
        call = functools.partial(effect.function, *effect.args, **effect.kwargs)
        return await cancelled_after(effect.limit_s, effect.context, call), None
    except BaseException as error:
        return None, error
    finally:
        current_task_run.reset(token)


def _raise_interrupt(run: Run) -> None:
    """In the flow's own process Ctrl-C and exit are meant for the flow, not for the task."""
    cause = run.error.__cause__ if isinstance(run.error, TaskCrashed) else None
    if cause is not None and isinstance(cause, (*_INTERRUPTS, *cancellation())):
        run.looked_at = True
        raise cause


class InlineShell:
    """Stands in for a cluster under ``task_runner="sync"``: a submission executes at once."""

    live = True
    runner = None
    session = None
    description = "sync"

    def __init__(self) -> None:
        self.outlet = Journal()
        self.next_number = itertools.count().__next__
        self._stopped: DaskflowError | None = None

    def stop(self, error: DaskflowError) -> None:
        """Execute nothing more; further submissions raise `error`."""
        self._stopped = error

    def claim_with(self, make: object) -> None:
        """What runs here runs in the flow's own thread, and waits for no other process."""

    def join(self, flow_run: FlowRunContext, host: object) -> None:
        """Tasks run in this thread, where the flow run is the current one anyway."""

    def leave(self, flow_run_id: str) -> None:
        """The flow run has ended."""

    def encode(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], wait_for: Sequence[Any], what: str
    ) -> Encoded:
        """Arguments stay as they are; only futures are taken out."""
        return encode_live(args, kwargs, wait_for)

    def submit(self, run: Run) -> None:
        """Execute `run` to its end."""
        if self._stopped is not None:
            raise self._stopped
        code = run.stage.code
        assert isinstance(code, Code)
        function = code.function
        assert function is not None
        if code.is_async:
            self._submit_async(run, function)
        else:
            run_inline(run, function, self.outlet)
        for callback in run.callbacks or ():
            callback(run)
        run.callbacks = None

    def _submit_async(self, run: Run, function: Callable[..., Any]) -> None:
        import asyncio  # heavy for scripts without async code

        if not loop_runs_here():
            asyncio.run(run_inline_async(run, function, self.outlet))
            return
        raise UsageError(
            f'task {run.stage.name!r} is async, and submitting it with task_runner="sync" would '
            "block the running event loop; await the task directly, or use another task_runner"
        )

    def wait_for(self, runs: Sequence[Run], timeout: float | None) -> bool:
        """Everything submitted is final already."""
        return True

    def wait_until_settled(self, scope: Scope, timeout: float | None = None) -> bool:
        """Everything submitted is final already."""
        return True

    def value_of(self, run: Run, timeout: float | None) -> Any:
        """What the task returned, the object itself."""
        return load_value(run.value, timeout)

    def watch(self, run: Run, callback: Callable[[Run], object]) -> None:
        """Call `callback` at once: the run is final."""
        if run.state in FINAL:
            callback(run)
        else:
            run.callbacks = [*(run.callbacks or ()), callback]

    def let_go(self, run: Run) -> None:
        """Nothing lives elsewhere."""
        run.held = False

    def cancel(self, scope: Scope, grace_s: float | None = None) -> None:
        """Later submissions end as cancelled."""
        scope.cancelled = True

    def wake(self) -> None:
        """Nobody waits here."""

    def close(self) -> None:
        """Nothing to close."""
