"""Check what users write as options of @task and @flow, at the decorator, before anything runs."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from daskflow.errors import UsageError

__all__ = [
    "check_callable",
    "check_count",
    "check_factor",
    "check_name",
    "check_options",
    "check_priority",
    "check_resources",
    "check_seconds",
    "check_switch",
    "check_tags",
    "check_template",
    "check_text",
    "check_timeout",
    "check_timeout_mode",
    "check_workers",
    "fill_template",
]

# options of the design that a later release brings; named here so that the error can say so
_LATER = frozenset({"concurrency"})


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


def check_seconds(name: str, value: Any) -> float:
    """A finite number of seconds, 0 or more.

    Raises
    ------
    UsageError
    """
    try:
        return check_factor(name, value)
    except UsageError:
        raise UsageError(f"{name}={value!r} must be a number of seconds, 0 or more") from None


def check_timeout(name: str, value: Any) -> float | None:
    """A finite number of seconds greater than 0, or None for no limit.

    Raises
    ------
    UsageError
    """
    if value is None:
        return None
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 < value < math.inf:
        raise UsageError(
            f"{name}={value!r} must be a number of seconds greater than 0; leave it out for no "
            "limit"
        )
    return float(value)


def check_timeout_mode(value: Any, timeout_s: float | None, is_async: bool) -> bool:
    """Whether the timeout is hard.

    Raises
    ------
    UsageError
        For something else than ``"soft"`` or ``"hard"``, and where ``"hard"`` means nothing.
    """
    if value not in ("soft", "hard"):
        raise UsageError(f"timeout_mode={value!r} must be 'soft' or 'hard'")
    if value == "soft":
        return False
    if timeout_s is None:
        raise UsageError("timeout_mode='hard' needs timeout_seconds, the time to kill the body at")
    if is_async:
        raise UsageError(
            "timeout_mode='hard' is for plain functions: an async one is cancelled in time anyway"
        )
    return True


def check_switch(name: str, value: Any) -> bool | None:
    """True, False, or None for the default.

    Raises
    ------
    UsageError
    """
    if value is None or isinstance(value, bool):
        return value
    raise UsageError(f"{name}={value!r} must be True or False")


def check_priority(value: Any) -> int:
    """A whole number, negative ones too.

    Raises
    ------
    UsageError
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise UsageError(f"priority={value!r} must be a whole number")
    return value


def check_name(value: Any, what: str) -> str:
    """A name that can stand in a file name, a table and a terminal.

    Raises
    ------
    UsageError
    """
    name = _check_text(value, what)
    if not name.isprintable() or "/" in name or ".." in name:
        raise UsageError(
            f"{what} {value!r} must not contain '/', '..' or characters that do not print"
        )
    return name


def _check_text(value: Any, what: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise UsageError(f"{what} {value!r} must be a text that is not empty")
    if len(value) > 200:
        raise UsageError(f"{what} {value[:40]!r}… has {len(value)} characters; 200 are allowed")
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
        _check_text(tag, "tag")
        if not tag.isprintable():
            raise UsageError(f"tag {tag!r} must not contain characters that do not print")
    return tuple(sorted(set(tags)))


def check_text(name: str, value: Any) -> str | None:
    """A text, or None.

    Raises
    ------
    UsageError
    """
    if value is not None and not isinstance(value, str):
        raise UsageError(f"{name}={value!r} must be a text")
    return value


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
        sorted(
            (check_name(name, "resource"), check_factor(f"resources: {name}", n))
            for name, n in value.items()
        )
    )


def check_workers(value: Any) -> tuple[str, ...]:
    """Addresses or names of workers.

    Raises
    ------
    UsageError
    """
    if value is None:
        return ()
    texts = isinstance(value, Iterable) and not isinstance(value, str)
    names = list(value) if texts else [value]
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


def check_template(name: str, value: Any) -> None:
    """Raise `UsageError` unless `value` can name runs: a text with fields, or a callable."""
    if value is None or callable(value):
        return
    if not isinstance(value, str) or not value.strip():
        raise UsageError(
            f"{name}={value!r} must be a text such as 'clean-{{day}}', or a callable that returns "
            "one"
        )


def fill_template(name: str, template: Any, values: Mapping[str, Any], owner: str) -> str:
    """The name of one run.

    Parameters
    ----------
    name : str
        Of the option, for messages.
    template : str or callable
        A callable gets `parameters`, if it takes an argument of that name.
    values : mapping
        What the fields of a text may name.
    owner : str
        Name of the task or flow, for messages.

    Raises
    ------
    UsageError
        When a field names something else, and when the result cannot be a name.
    """
    what = f"{name} of {owner}"
    if callable(template):
        takes = "parameters" in inspect.signature(template).parameters
        return check_name(template(parameters=dict(values)) if takes else template(), what)
    try:
        text = template.format(**values)
    except (KeyError, IndexError, AttributeError, ValueError, TypeError) as error:
        raise UsageError(
            f"{name}={template!r} of {owner} cannot be filled in: {error!r}; it may use "
            f"{', '.join(values)}"
        ) from error
    return check_name(text, what)
