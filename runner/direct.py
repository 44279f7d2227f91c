"""A direct call of a task: it runs in the calling process, with retries, and is recorded.

Inside a task, on a worker or not, the called task is part of the run that calls it.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from daskflow.runner.arguments import encode_live
from daskflow.runner.cache_defaults import defaults_of
from daskflow.runner.cache_plans import FlowCaching
from daskflow.runner.cluster.protocol import Code
from daskflow.runner.context import (
    FLOW_LOGGER,
    FlowInfo,
    TaskInfo,
    TaskRunContext,
    current_flow_run,
    current_parcel,
    current_task_run,
)
from daskflow.runner.core.graph import Run, Scope, Stage
from daskflow.runner.core.states import FINAL, SUCCESSFUL
from daskflow.runner.hook_thread import HookCalls
from daskflow.runner.inline import run_inline, run_inline_async
from daskflow.runner.logs import run_logging
from daskflow.runner.outcomes import Journal, load_value
from daskflow.runner.record import FlowRecord
from daskflow.runner.retry_asking import retry_condition
from daskflow.runner.state import State
from daskflow.runner.telling import TaskHookCalls

if TYPE_CHECKING:
    from daskflow.runner.tasks import Task

__all__ = ["call_directly"]

_logger = logging.getLogger(FLOW_LOGGER)


def call_directly(
    task: Task[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any], return_state: bool
) -> Any:
    """Run `task` here; a coroutine for an async task."""
    task.check_arguments(args, kwargs)
    if task.is_async:
        return _call_async(task, args, kwargs, return_state)
    run, journal, caller = _run(task, args, kwargs)
    if run.state in FINAL:  # of an earlier attempt of its flow run
        return _answer(run, return_state)
    with _logging(caller), _hooks(run, task):
        run_inline(run, task.fn, journal, caller)
    return _answer(run, return_state)


async def _call_async(
    task: Task[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any], return_state: bool
) -> Any:
    run, journal, caller = _run(task, args, kwargs)
    if run.state in FINAL:
        return _answer(run, return_state)
    with _logging(caller), _hooks(run, task):
        await run_inline_async(run, task.fn, journal, caller)
    return _answer(run, return_state)


def _run(
    task: Task[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Run, Journal, TaskRunContext | None]:
    caller = current_task_run.get()
    flow_run: Any = current_flow_run.get()
    if flow_run is not None and caller is None:
        return flow_run.call(task, args, kwargs), flow_run.journal, None
    flow = caller.flow if caller and caller.flow else FlowInfo("direct", "direct", "direct")
    inherited = caller is not None and caller.task.log_prints
    log_prints = inherited if task.log_prints is None else task.log_prints
    info = TaskInfo(task.name, task.tags, log_prints)
    plan = _caching(flow, caller).plan(task) if _may_cache(task, flow) else None
    code = Code("", None, task.is_async, info, flow, task.fn, task.timeout_s, plan)
    stage = Stage(
        Scope(flow.id, FlowRecord(flow.id, None)),
        task.name,
        task.policy,
        lane_key=task.lane,
        code=code,
        retry_if=retry_condition(task),
    )
    encoded = encode_live(args, kwargs, ())
    number = caller.number if caller else 0
    run = Run(stage, number, encoded.payload, encoded.deps, time.time())
    if task.names_runs:
        run.name = task.run_name(args, kwargs)
    if plan is not None:
        from daskflow.runner.cache_notes import note_of  # as above

        def warn(why: str) -> None:
            _logger.warning("task %s runs uncached: %s", task.name, why)

        run.cache = note_of(plan, task.signature, args, kwargs, False, warn)
        run.cache.wanted = False
    return run, Journal(tells_failures=False), caller


def _may_cache(task: Task[Any, Any], flow: FlowInfo) -> bool:
    """Whether it is worth to ask: most tasks that are called neither cache nor persist."""
    if task.caching.asks:
        return True
    defaults = defaults_of(flow)
    return defaults is not None and bool(defaults.keeps)


def _caching(flow: FlowInfo, caller: TaskRunContext | None) -> FlowCaching:
    """That of the flow run around the call; of the settings here when there is none."""
    defaults = defaults_of(flow)
    if defaults is None:
        from daskflow.config import get_settings  # only tasks that cache pay

        return FlowCaching.here(get_settings(), flow, {})
    around: Any = current_flow_run.get()
    if around is not None:
        return FlowCaching(defaults, flow, around.parameters)
    from daskflow.runner.travelling import TravelledParameters  # only tasks that cache pay

    handle = current_parcel.get()
    parcel = handle() if handle is not None else None
    here = parcel is None or parcel.channel.live
    return FlowCaching(defaults, flow, None if here else TravelledParameters(flow.parameters))


@contextlib.contextmanager
def _hooks(run: Run, task: Task[Any, Any]) -> Iterator[None]:
    """The hooks of a call that is no run of its own; outside of any flow they end with it."""
    record = run.stage.scope.tag
    assert isinstance(record, FlowRecord)
    flow_run: Any = current_flow_run.get()
    if flow_run is not None and current_task_run.get() is None:  # its record has them
        yield
        return
    calls = _hook_calls(flow_run)
    hooks = TaskHookCalls(None, calls)
    record.hooks = hooks if hooks.add(run.stage, task) else None
    try:
        yield
    finally:
        if calls is None:
            hooks.close()


def _hook_calls(flow_run: Any) -> HookCalls | None:
    """Who has hooks called for the current task run; None outside of any."""
    if flow_run is not None:
        return flow_run.hooks  # type: ignore[no-any-return]
    context, handle = current_task_run.get(), current_parcel.get()
    parcel = handle() if handle is not None else None
    if context is None or context.flow is None or parcel is None:
        return None
    from daskflow.runner.cluster.told_hooks import HooksAtHome  # workers only

    return HooksAtHome(parcel, context.flow.id)


def _logging(caller: TaskRunContext | None) -> contextlib.AbstractContextManager[None]:
    """Outside of any flow, a call shows what it logs by itself."""
    if caller is not None or current_flow_run.get() is not None:
        return contextlib.nullcontext()
    from daskflow.config import get_settings  # workers never get here

    settings = get_settings().logging
    return run_logging(logging.getLevelNamesMapping()[settings.level], settings.console)


def _answer(run: Run, return_state: bool) -> Any:
    run.looked_at = True  # the caller gets the exception itself
    if return_state:
        good = run.state in SUCCESSFUL
        error = None if good else run.error
        return State(run.state, run.message, error=error, load=lambda: load_value(run.value, None))
    if run.state in SUCCESSFUL:
        return load_value(run.value, None)
    assert run.error is not None
    raise run.error
