"""Arguments of a call by their names, however they were given: what the inputs of a key are.

A signature is taken apart once, because `inspect` takes ten times as long to bind a call.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

__all__ = ["bind_inputs"]


class _Plan(NamedTuple):
    """A signature, taken apart once: what binding by hand needs for the usual kinds."""

    signature: inspect.Signature
    positional: tuple[str, ...]
    names: frozenset[str]
    by_name: frozenset[str]
    defaults: Mapping[str, Any]
    var_positional: str | None
    var_keyword: str | None


# id -> plan; the plan holds its signature, so the id stays its own.
_plans: dict[int, _Plan] = {}
_MOST_PLANS = 1024


def bind_inputs(
    signature: inspect.Signature, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the value of every argument of a call, however it was given, defaults applied.

    Parameters
    ----------
    signature : inspect.Signature
        The function's.
    args, kwargs : sequence, mapping
        The call's.

    Returns
    -------
    dict
        ``f(1)``, ``f(x=1)`` and a default ``x=1`` give the same.  ``*args`` is one tuple under
        its name; each of ``**kwargs`` stands under its own name (with ``**`` before it when a
        positional-only parameter has that name too).

    Raises
    ------
    TypeError
        When the call does not fit the signature.
    """
    plan = _plans.get(id(signature))
    if plan is None:
        if len(_plans) >= _MOST_PLANS:
            _plans.clear()
        plan = _plans[id(signature)] = _plan(signature)
    if not args and kwargs.keys() == plan.names == plan.by_name:
        return dict(kwargs)
    if plan.var_positional is None and plan.var_keyword is None:
        bound = {**plan.defaults, **dict(zip(plan.positional, args, strict=False)), **kwargs}
        fits = (
            len(args) <= len(plan.positional)
            and plan.by_name.issuperset(kwargs)
            and len(bound) == len(plan.names)
            and (not args or not kwargs or kwargs.keys().isdisjoint(plan.positional[: len(args)]))
        )
        if fits:
            return bound
    return _bind_slowly(plan, args, kwargs)


def _bind_slowly(plan: _Plan, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    call = plan.signature.bind(*args, **kwargs)
    call.apply_defaults()
    bound = dict(call.arguments)
    if plan.var_keyword is not None:
        for name, value in bound.pop(plan.var_keyword).items():
            bound[f"**{name}" if name in plan.names else name] = value
    return bound


def _plan(signature: inspect.Signature) -> _Plan:
    kinds = inspect.Parameter
    parameters = signature.parameters.values()
    plain = [p for p in parameters if p.kind not in (kinds.VAR_POSITIONAL, kinds.VAR_KEYWORD)]
    variable = {p.kind: p.name for p in parameters}
    return _Plan(
        signature=signature,
        positional=tuple(p.name for p in plain if p.kind != kinds.KEYWORD_ONLY),
        names=frozenset(p.name for p in parameters),
        by_name=frozenset(p.name for p in plain if p.kind != kinds.POSITIONAL_ONLY),
        defaults=MappingProxyType({p.name: p.default for p in plain if p.default is not p.empty}),
        var_positional=variable.get(kinds.VAR_POSITIONAL),
        var_keyword=variable.get(kinds.VAR_KEYWORD),
    )
