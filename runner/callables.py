"""What @task and @flow can stand above: functions, methods, partials, callable objects.

A `functools.partial` and an object with ``__call__`` count as the function that they call.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from daskflow.errors import UsageError

__all__ = [
    "check_function",
    "function_name",
    "is_async",
    "plain_arity",
    "plain_function",
    "signature_of",
]


def plain_function(given: Any) -> tuple[Any, type | None]:
    """The function under ``@staticmethod`` or ``@classmethod``, and which of them it was."""
    if isinstance(given, (staticmethod, classmethod)):
        return given.__func__, type(given)
    return given, None


def check_function(function: Any, decorator: str) -> None:
    """Raise `UsageError` unless `function` is something that `decorator` can run."""
    if not callable(function):
        raise UsageError(f"{decorator} goes above a function, not above {function!r}")
    if isinstance(function, type):
        raise UsageError(
            f"{decorator} goes above a function, not above class {function.__name__}; decorate a "
            "method or a function that makes an instance"
        )
    inner = _inner(function)
    if inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner):
        raise UsageError(
            f"{decorator}: {function_name(function)} is a generator; return a list, or submit one "
            "task per item"
        )


def function_name(function: Callable[..., Any]) -> str:
    """What the function is called; the class's name for an object without one."""
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__name__", type(function).__name__)
    return str(name).replace("<lambda>", "lambda")


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling it gives a coroutine."""
    return inspect.iscoroutinefunction(_inner(function))


def _inner(function: Any) -> Any:
    """What runs when `function` is called."""
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.isroutine(function):
        return function
    call = getattr(type(function), "__call__")  # noqa: B004,B009 - the method, not whether it is
    return call


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """How it is called; anything goes where that cannot be known, as for some of C."""
    try:
        return inspect.signature(function)
    except ValueError:
        rest = inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL)
        return inspect.Signature([rest, rest.replace(name="kwargs", kind=rest.VAR_KEYWORD)])


def plain_arity(signature: inspect.Signature) -> tuple[int, int] | None:
    """Fewest and most positional arguments, where a call without keywords is that simple."""
    fewest = most = 0
    for parameter in signature.parameters.values():
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            most += 1
            fewest += parameter.default is parameter.empty
        elif parameter.kind is parameter.VAR_POSITIONAL:
            most = 1 << 30
        elif parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty:
            return None
    return fewest, most
