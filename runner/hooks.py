"""Hooks: what users have called when a run changes its state.

They are called in the flow process, once each, and what they raise is logged and goes no further.
"""

from __future__ import annotations

import contextvars
import importlib
import inspect
import logging
import threading
import uuid
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

from daskflow.errors import UsageError
from daskflow.runner.asynchronous import cancellation, loop_runs_here
from daskflow.runner.context import FLOW_LOGGER
from daskflow.runner.core import states
from daskflow.runner.state import State

__all__ = [
    "FLOW_HOOKS",
    "HOOK_AT",
    "TASK_HOOKS",
    "AttemptInfo",
    "FlowHooks",
    "FlowRunInfo",
    "Hooks",
    "TaskHooks",
    "call_hooks",
    "gather_hooks",
]

TASK_HOOKS = ("on_running", "on_completion", "on_failure", "on_crashed", "on_retry")
FLOW_HOOKS = ("on_running", "on_completion", "on_failure", "on_crashed", "on_cancellation")

HOOK_AT = {
    states.RUNNING: "on_running",
    states.COMPLETED: "on_completion",
    states.CACHED: "on_completion",
    states.FAILED: "on_failure",
    states.TIMED_OUT: "on_failure",
    states.CRASHED: "on_crashed",
    states.CANCELLED: "on_cancellation",
}

H = TypeVar("H", bound=Callable[..., Any])

_logger = logging.getLogger(FLOW_LOGGER)


class AttemptInfo(NamedTuple):
    """What hooks and `retry_condition_fn` are told of their task run."""

    id: str
    name: str
    attempt: int  # the last one that was reported; 1 for the first, 0 when there was none yet
    state: State


class FlowRunInfo(NamedTuple):
    """What hooks are told of their flow run."""

    id: str
    name: str
    attempt: int
    state: State
    parameters: Mapping[str, Any]
    tags: tuple[str, ...]


class Hooks:
    """The hooks of one task or flow for one change of state.

    They belong to the process that they were defined in: a copy that went through another process
    and came back is the original.  A worker that imports a module makes hooks of its own from it;
    in the flow process they are known by the names of their functions.
    """

    __slots__ = ("__weakref__", "_came_as", "_functions", "token")

    def __init__(
        self,
        functions: Iterable[Callable[..., Any]],
        token: str | None = None,
        names: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self._functions = tuple(functions)
        self._came_as = names
        self.token = token or uuid.uuid4().hex
        _known[self.token] = self

    @property
    def functions(self) -> tuple[Callable[..., Any], ...]:
        """What to call; imported now, for hooks that came from another process."""
        if not self._functions and self._came_as:
            self._functions = tuple(_named(*name) for name in self._came_as)
        return self._functions

    @property
    def names(self) -> tuple[tuple[str, str], ...]:
        """Module and name of each function; nothing unless all of them can be imported."""
        return self._came_as or _names_of(self._functions)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Hooks):
            return NotImplemented
        return self.token == other.token or (self.names != () and self.names == other.names)

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> Any:
        return _hooks_here, (self.token, self.names)


_known: weakref.WeakValueDictionary[str, Hooks] = weakref.WeakValueDictionary()


def _hooks_here(token: str, names: tuple[tuple[str, str], ...] = ()) -> Hooks:
    return _known.get(token) or Hooks((), token, names)


def _names_of(functions: Iterable[Any]) -> tuple[tuple[str, str], ...]:
    names = []
    for function in functions:
        module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
        try:
            if module == "__main__" or _named(module, name) is not function:  # type: ignore[arg-type]
                return ()
        except Exception:  # a closure, an object without a name
            return ()
        names.append((str(module), name))
    return tuple(names)


def _named(module: str, name: str) -> Callable[..., Any]:
    """The hook of this name.

    Raises
    ------
    ImportError, AttributeError
        When this process does not have it.
    """
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found  # type: ignore[no-any-return]


def gather_hooks(options: dict[str, Any], names: Iterable[str]) -> None:
    """Check the hooks among `options`, and make `Hooks` of them, in place.

    Raises
    ------
    UsageError
        For a hook that cannot be called.
    """
    for name in names:
        given = options[name]
        if given is None or isinstance(given, Hooks):
            continue
        listed = list(given) if isinstance(given, (list, tuple)) else [given]
        for hook in listed:
            if not callable(hook):
                raise UsageError(f"{name}={hook!r} must be a function, or a list of functions")
        options[name] = Hooks(listed) if listed else None


def _add_hook(options: dict[str, Any], name: str, hook: H) -> H:
    known = options[name]
    added = {name: [*(known.functions if known else ()), hook]}
    gather_hooks(added, [name])
    options[name] = added[name]
    return hook


class _Hooks:
    """Decorators that tasks and flows have in common."""

    options: dict[str, Any]

    def on_running(self, hook: H) -> H:
        """It has started; for a run that is over soon this comes with its end."""
        return _add_hook(self.options, "on_running", hook)

    def on_completion(self, hook: H) -> H:
        """It succeeded."""
        return _add_hook(self.options, "on_completion", hook)

    def on_failure(self, hook: H) -> H:
        """Its code raised, or it ran out of time."""
        return _add_hook(self.options, "on_failure", hook)

    def on_crashed(self, hook: H) -> H:
        """Its process was lost."""
        return _add_hook(self.options, "on_crashed", hook)


class TaskHooks(_Hooks):
    """Decorators that add a hook to a task, such as ``@my_task.on_failure``."""

    def on_retry(self, hook: H) -> H:
        """An attempt ended badly, and another one will follow."""
        return _add_hook(self.options, "on_retry", hook)


class FlowHooks(_Hooks):
    """Decorators that add a hook to a flow, such as ``@my_flow.on_failure``."""

    def on_cancellation(self, hook: H) -> H:
        """It was interrupted or cancelled."""
        return _add_hook(self.options, "on_cancellation", hook)


def call_hooks(hooks: Hooks | None, subject: Any, run: Any, state: State) -> None:
    """Call hooks one after the other, here; what they raise is logged.

    Parameters
    ----------
    hooks : Hooks or None
    subject : Task or Flow
    run : AttemptInfo or FlowRunInfo
    state : State
    """
    try:
        functions = hooks.functions if hooks else ()
    except Exception:  # of a module that only workers have
        _logger.exception("hooks of %s cannot be imported here; the run goes on", run.name)
        return
    for hook in functions:
        try:
            result = hook(subject, run, state)
            if inspect.isawaitable(result):
                _finish(result)
        except BaseException as error:
            if not isinstance(error, (Exception, SystemExit, *cancellation())):
                raise
            name = getattr(hook, "__name__", repr(hook))
            _logger.exception("hook %s of %s raised; the run goes on", name, run.name)


def _finish(awaitable: Any) -> None:
    async def whole() -> None:
        await awaitable

    import asyncio  # heavy for scripts without async code

    if not loop_runs_here():
        asyncio.run(whole())
        return
    context = contextvars.copy_context()  # a plain flow that was called on a running loop
    caught: list[BaseException] = []

    def elsewhere() -> None:
        try:
            context.run(asyncio.run, whole())
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=elsewhere, name="daskflow-hook", daemon=True)
    thread.start()
    thread.join()
    if caught:
        raise caught[0]
