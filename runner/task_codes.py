"""A task's function as its runs carry it to where they are executed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from daskflow.runner.cluster.executor.functions import register_function
from daskflow.runner.cluster.protocol import Code
from daskflow.runner.code import function_bytes, tell_travelling, travelling_modules
from daskflow.runner.context import FlowInfo, TaskInfo
from daskflow.runner.inline import InlineShell
from daskflow.runner.shell import DriverShell

if TYPE_CHECKING:
    from daskflow.caching.plans import CachePlan
    from daskflow.runner.tasks import Task

__all__ = ["code_for"]


def code_for(
    task: Task[Any, Any],
    info: TaskInfo,
    flow: FlowInfo,
    shell: DriverShell | InlineShell,
    plan: CachePlan | None,
) -> Code:
    """The code of a task that is submitted to `shell`."""
    shared = task.is_async, info, flow, task.fn, task.timeout_s, plan, task.hard
    if isinstance(shell, InlineShell) or shell.live:
        digest = f"live-{id(task.fn)}"  # it stays registered, so its id is its own
        register_function(digest, task.fn)
        return Code(digest, None, *shared)
    same_machine = shell.runner.same_machine
    travelling = travelling_modules(task.fn, same_machine)
    if travelling:
        shell.literals.travel(travelling)
        tell_travelling(task.name, travelling)
    digest, blob = function_bytes(task.fn, task_name=task.name, same_machine=same_machine)
    return Code(digest, blob, *shared)
