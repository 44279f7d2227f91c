"""Flow parameters: bound to the signature, validated and coerced from annotations, described."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any

from daskflow.errors import ParameterError
from daskflow.runner.cluster.executor.structure import replace_inside
from daskflow.runner.futures import TaskFuture

__all__ = ["adapters", "bind_parameters", "holds_futures"]


def holds_futures(value: Any) -> bool:
    """Whether there is a future somewhere inside `value`."""
    found = []

    def look(item: Any) -> Any:
        if isinstance(item, TaskFuture):
            found.append(item)
        return item

    replace_inside(value, look)
    return bool(found)


def _result(item: Any) -> Any:
    return item.result() if isinstance(item, TaskFuture) else item


def bind_parameters(
    function: Callable[..., Any],
    signature: inspect.Signature,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    flow_name: str,
    validate: bool,
) -> inspect.BoundArguments:
    """Bind a call of a flow, and validate its arguments from their annotations.

    Parameters
    ----------
    function : callable
        The flow function.
    signature : inspect.Signature
        Of `function`.
    args, kwargs
        As in the call.
    flow_name : str
        For messages.
    validate : bool
        False binds only.

    Raises
    ------
    ParameterError
        When the call does not fit the signature, or values do not fit their annotations; names
        all of them.
    """
    if holds_futures((args, kwargs)):
        args, kwargs = replace_inside((args, dict(kwargs)), _result)
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        raise ParameterError(
            f"flow {flow_name}{signature} cannot be called like this: {error}"
        ) from None
    bound.apply_defaults()
    if validate:
        _validate(function, signature, bound, flow_name)
    return bound


def _validate(
    function: Callable[..., Any],
    signature: inspect.Signature,
    bound: inspect.BoundArguments,
    flow_name: str,
) -> None:
    found = adapters(function, signature)
    if not found:
        return
    from pydantic import ValidationError  # only when there is work for it

    problems = []
    for name, adapter in found.items():
        try:
            bound.arguments[name] = adapter.validate_python(bound.arguments[name])
        except ValidationError as error:
            for each in error.errors(include_url=False):
                place = ".".join([name, *(str(part) for part in each["loc"])])
                problems.append(f"{place}: {each['msg']}, got {each['input']!r}")
    if problems:
        listed = "\n".join(f"  {problem}" for problem in problems)
        raise ParameterError(
            f"flow {flow_name} got {len(problems)} parameter value(s) that do not fit:\n{listed}\n"
            "correct them, or use @flow(validate_parameters=False)"
        )


def adapters(function: Callable[..., Any], signature: inspect.Signature) -> dict[str, Any]:
    """Return a pydantic `TypeAdapter` for each parameter with an annotation.

    Parameters
    ----------
    function : callable
        The flow function.
    signature : inspect.Signature
        Of `function`.
    """
    annotated = [
        name
        for name, parameter in signature.parameters.items()
        if parameter.annotation is not parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if not annotated:
        return {}
    from pydantic import ConfigDict, TypeAdapter  # only when there is work for it
    from pydantic.errors import PydanticUserError

    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except NameError:  # an annotation that only type checkers can resolve
        return {}
    return {
        name: _adapter(TypeAdapter, ConfigDict, PydanticUserError, hints.get(name, Any))
        for name in annotated
    }


def _adapter(adapter: Any, config: Any, user_error: type[Exception], hint: Any) -> Any:
    try:
        return adapter(hint, config=config(arbitrary_types_allowed=True))
    except user_error:  # a pydantic model or dataclass brings a configuration of its own
        return adapter(hint)
