"""A task's function as its runs carry it to where they are executed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from daskflow.runner.cluster.executor.functions import register_function
from daskflow.runner.cluster.protocol import Code
from daskflow.runner.code import function_bytes, travelling_modules
from daskflow.runner.context import FLOW_LOGGER, FlowInfo, TaskInfo
from daskflow.runner.inline import InlineShell
from daskflow.runner.shell import DriverShell

if TYPE_CHECKING:
    from daskflow.runner.tasks import Task

__all__ = ["code_for", "same_code"]

_logger = logging.getLogger(FLOW_LOGGER)


def code_for(
    task: Task[Any, Any], info: TaskInfo, flow: FlowInfo, shell: DriverShell | InlineShell
) -> Code:
    """The code of a task that is submitted to `shell`."""
    if isinstance(shell, InlineShell) or shell.live:
        digest = f"live-{id(task.fn)}"  # it stays registered, so its id is its own
        register_function(digest, task.fn)
        return Code(digest, None, task.is_async, info, flow, task.fn, task.timeout_s)
    same_machine = shell.runner.same_machine
    travelling = travelling_modules(task.fn, same_machine)
    if travelling:
        shell.literals.travel(travelling)
        _tell_travelling(task.name, travelling)
    digest, blob = function_bytes(task.fn, task_name=task.name, same_machine=same_machine)
    return Code(digest, blob, task.is_async, info, flow, task.fn, task.timeout_s)


def _tell_travelling(task_name: str, modules: Sequence[ModuleType]) -> None:
    names = sorted(module.__name__ for module in modules)
    _logger.debug(
        "%s: workers cannot be expected to have %s; what the task uses of it travels with it "
        "(install it there to import it instead)",
        task_name,
        ", ".join(names[:5]) + (f" and {len(names) - 5} more modules" if len(names) > 5 else ""),
    )


def same_code(one: Callable[..., Any], other: Callable[..., Any]) -> bool:
    """Whether two functions are copies of each other, one of which has travelled."""
    return _code_of(one) == _code_of(other)


def _code_of(function: Callable[..., Any]) -> tuple[Any, ...]:
    code = getattr(function, "__code__", None)
    place = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    return (*place, code.co_code, code.co_consts) if code is not None else (function,)
