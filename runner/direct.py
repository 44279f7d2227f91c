"""A direct call of a task: it runs in the calling process, with retries, and is recorded.

Inside a task, on a worker or not, the called task is part of the run that calls it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from daskflow.runner.arguments import encode_live
from daskflow.runner.cluster.protocol import Code
from daskflow.runner.context import FlowInfo, TaskInfo, current_flow_run, current_task_run
from daskflow.runner.core.graph import Run, Scope, Stage
from daskflow.runner.core.states import SUCCESSFUL
from daskflow.runner.inline import run_inline, run_inline_async
from daskflow.runner.outcomes import Journal, load_value
from daskflow.runner.record import FlowRecord
from daskflow.runner.state import State

if TYPE_CHECKING:
    from daskflow.runner.tasks import Task

__all__ = ["call_directly"]


def call_directly(
    task: Task[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any], return_state: bool
) -> Any:
    """Run `task` here; a coroutine for an async task."""
    task.check_arguments(args, kwargs)
    if task.is_async:
        return _call_async(task, args, kwargs, return_state)
    run, outlet = _run(task, args, kwargs)
    run_inline(run, task.fn, outlet)
    return _answer(run, return_state)


async def _call_async(
    task: Task[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any], return_state: bool
) -> Any:
    run, outlet = _run(task, args, kwargs)
    await run_inline_async(run, task.fn, outlet)
    return _answer(run, return_state)


def _run(
    task: Task[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Run, Journal]:
    flow_run: Any = current_flow_run.get()
    if flow_run is not None and current_task_run.get() is None:
        return flow_run.inline_run(task, args, kwargs), flow_run.shell.outlet
    caller = current_task_run.get()
    flow = caller.flow if caller and caller.flow else FlowInfo("direct", "direct", "direct")
    scope = Scope(flow.id, FlowRecord(flow.id, None))
    info = TaskInfo(task.name, task.tags, task.log_prints)
    code = Code("", None, task.is_async, info, flow, task.fn)
    stage = Stage(scope, task.name, task.policy, lane_key=task.lane, code=code)
    encoded = encode_live(args, kwargs, ())
    return Run(stage, 0, encoded.payload, encoded.deps, time.time()), Journal()


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
