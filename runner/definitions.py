"""What a task and a flow have in common: a function under a decorator, with checked options."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Generic, ParamSpec, TypeVar

from daskflow.runner.callables import (
    check_function,
    function_name,
    is_async,
    plain_function,
    signature_of,
)
from daskflow.runner.hooks import gather_hooks
from daskflow.runner.options import check_name, check_options, check_switch, check_text

__all__ = ["Definition"]

P = ParamSpec("P")
R = TypeVar("R")


class Definition(Generic[P, R]):
    """A function with options.

    Parameters
    ----------
    fn : callable
        Plain or async; a ``staticmethod`` or ``classmethod`` as well.
    options : dict
        As given.
    known : mapping
        Options that there are, with their defaults.
    what : str
        ``"task"`` or ``"flow"``, for messages.
    hooks : iterable of str
        Those of the options that are hooks.
    dashes : bool
        Its default name has dashes.

    Raises
    ------
    UsageError
    """

    def __init__(
        self,
        fn: Callable[P, R],
        options: dict[str, Any],
        known: Mapping[str, Any],
        what: str,
        *,
        hooks: tuple[str, ...],
        dashes: bool = False,
    ) -> None:
        plain, self._kind = plain_function(fn)
        check_function(plain, f"@{what}")
        check_options(options, known, f"@{what}")
        wrapper: Any = self
        functools.update_wrapper(wrapper, plain, updated=())
        self.options: dict[str, Any] = {**known, **options}
        self.fn: Callable[..., Any] = plain
        default = function_name(plain)
        given = self.options["name"]
        if given is None:
            given = default.replace("_", "-") if dashes else default
        self.name = check_name(given, f"{what} name")
        given = check_text("description", self.options["description"])
        self.description = given or inspect.getdoc(plain)
        self.version = check_text("version", self.options["version"])
        self.log_prints = check_switch("log_prints", self.options["log_prints"])
        self.is_async = is_async(plain)
        gather_hooks(self.options, hooks)

    @functools.cached_property
    def signature(self) -> inspect.Signature:
        """Of the function; read late, for unpickling makes this before its function is whole."""
        return signature_of(self.fn)

    def _copy(self, options: Mapping[str, Any]) -> Any:
        return _rebuild(type(self), self.fn, {**self.options, **options}, self._kind)

    def __reduce__(self) -> Any:
        return _rebuild, (type(self), self.fn, self.options, self._kind)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


def _rebuild(what: Any, fn: Callable[..., Any], options: dict[str, Any], kind: Any) -> Any:
    return what(kind(fn) if kind else fn, **options)
