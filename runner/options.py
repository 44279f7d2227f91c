"""Check what users write as options of @task and @flow, at the decorator, before anything runs."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from daskflow.errors import UsageError

__all__ = ["check_count", "check_function", "check_name", "check_options", "check_tags"]

# options of the design that a later release brings; named here so that the error can say so
_LATER = frozenset(
    {
        "cache_expiration",
        "cache_key_fn",
        "cache_policy",
        "cancel_grace_seconds",
        "concurrency",
        "on_cancellation",
        "on_completion",
        "on_crashed",
        "on_failure",
        "on_retry",
        "on_running",
        "persist_result",
        "refresh_cache",
        "result_storage",
        "timeout_mode",
        "timeout_seconds",
    }
)


def check_options(given: Iterable[str], known: Iterable[str], decorator: str) -> None:
    """Raise `UsageError` for an option that `decorator` does not know."""
    options = list(known)
    for name in given:
        if name in options:
            continue
        if name in _LATER:
            raise UsageError(f"{decorator} does not support {name}= in this version; leave it out")
        near = difflib.get_close_matches(name, options, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(options)}"
        raise UsageError(f"{decorator} has no option {name!r}; {hint}")


def check_function(function: Any, decorator: str) -> None:
    """Raise `UsageError` unless `function` is something that `decorator` can run."""
    if not callable(function):
        raise UsageError(f"{decorator} goes above a function, not above {function!r}")
    if isinstance(function, type):
        raise UsageError(
            f"{decorator} goes above a function, not above class {function.__name__}; decorate a "
            "method or a function that makes an instance"
        )
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise UsageError(
            f"{decorator}: {function.__qualname__} is a generator; return a list, or submit one "
            "task per item"
        )


def check_count(name: str, value: Any) -> int:
    """A whole number, 0 or more.

    Raises
    ------
    UsageError
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise UsageError(f"{name}={value!r} must be a whole number, 0 or more")
    return value


def check_factor(name: str, value: Any) -> float:
    """A finite number, 0 or more.

    Raises
    ------
    UsageError
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < 0:
        raise UsageError(f"{name}={value!r} must be a number, 0 or more")
    return float(value)


def check_name(value: Any, what: str) -> str:
    """A name that can stand in a file name, a table and a terminal.

    Raises
    ------
    UsageError
    """
    if not isinstance(value, str) or not value.strip():
        raise UsageError(f"{what} {value!r} must be a text that is not empty")
    if len(value) > 200:
        raise UsageError(f"{what} {value[:40]!r}… has {len(value)} characters; 200 are allowed")
    if not value.isprintable() or "/" in value or ".." in value:
        raise UsageError(
            f"{what} {value!r} must not contain '/', '..' or characters that do not print"
        )
    return value


def check_tags(value: Any) -> tuple[str, ...]:
    """Tags, sorted.

    Raises
    ------
    UsageError
    """
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise UsageError(f"tags={value!r} must be a list of texts")
    tags = list(value)
    for tag in tags:
        if not isinstance(tag, str):
            raise UsageError(f"tags must be texts, not {tag!r}")
    return tuple(sorted(set(tags)))


def check_resources(value: Mapping[str, Any] | None) -> tuple[tuple[str, float], ...]:
    """Dask resources such as ``{"GPU": 1}``.

    Raises
    ------
    UsageError
    """
    if value is None:
        return ()
    if not isinstance(value, Mapping):
        raise UsageError(f'resources={value!r} must be a dict such as {{"GPU": 1}}')
    return tuple(
        sorted((check_name(name, "resource"), check_factor(name, n)) for name, n in value.items())
    )


def check_workers(value: Any) -> tuple[str, ...]:
    """Addresses or names of workers.

    Raises
    ------
    UsageError
    """
    if value is None:
        return ()
    names = [value] if isinstance(value, str) else list(value)
    for name in names:
        if not isinstance(name, str):
            raise UsageError(f"workers must be addresses or names of workers, not {name!r}")
    return tuple(names)


def check_callable(name: str, value: Callable[..., Any] | None) -> Callable[..., Any] | None:
    """A callable or None.

    Raises
    ------
    UsageError
    """
    if value is not None and not callable(value):
        raise UsageError(f"{name}={value!r} must be callable")
    return value
