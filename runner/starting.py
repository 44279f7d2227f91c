"""What the record keeps of how a flow run was started, so that it can be started again.

Parameters are kept as JSON: as they are where JSON holds them exactly, else as pydantic writes and
reads them by their annotation.  What neither gives back as it was is named, not kept: nothing is
pickled, and a secret that masks itself stays masked.
"""

from __future__ import annotations

import inspect
import math
import os
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from daskflow.errors import UsageError
from daskflow.runner.cache_plans import cache_overrides
from daskflow.runner.parameters import adapters, bind_parameters

if TYPE_CHECKING:
    from daskflow.runner.flows import Flow

__all__ = [
    "RESUMED",
    "STARTED",
    "check_parameters",
    "keep_parameters",
    "restore_parameters",
    "start_note",
]

STARTED = "daskflow.flow_run.started"
RESUMED = "daskflow.flow_run.resumed"  # with the account, when it has ended again
_DEEPEST = 50


def start_note(flow: Flow[Any, Any], bound: inspect.BoundArguments) -> dict[str, Any]:
    """Return the payload of the event that a flow run has started.

    Parameters
    ----------
    flow : Flow
    bound : inspect.BoundArguments
        Its parameters, validated.
    """
    try:
        file = inspect.getsourcefile(flow.fn)
    except TypeError:
        file = None
    chosen = flow.task_runner
    return {
        "file": os.path.abspath(file) if file and os.path.exists(file) else None,
        "module": _module_of(flow.fn),
        "main": getattr(flow.fn, "__module__", None) == "__main__",
        "cwd": os.getcwd(),
        "flow": flow.name,
        "task_runner": chosen if isinstance(chosen, str) else None,
        **cache_overrides(),
        **keep_parameters(flow.fn, flow.signature, bound.arguments),
    }


def _module_of(function: Callable[..., Any]) -> str | None:
    """The name under which the function's module can be imported, as far as it has one."""
    name = getattr(function, "__module__", None)
    if name == "__main__":  # `python -m package.module` knows its name
        spec = getattr(sys.modules[name], "__spec__", None)
        return spec.name if spec is not None else None
    return name


def keep_parameters(
    function: Callable[..., Any], signature: inspect.Signature, arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what is kept of parameters: ``parameters``, ``typed`` and ``lost``.

    Parameters
    ----------
    function : callable
        The flow function.
    signature : inspect.Signature
        Of `function`.
    arguments : mapping of str to object
    """
    plain: dict[str, Any] = {}
    typed: dict[str, str] = {}
    lost: dict[str, str] = {}
    known: dict[str, Any] | None = None
    for name, value in arguments.items():
        if signature.parameters[name].kind is inspect.Parameter.VAR_POSITIONAL:
            value = list(value)
        if _is_exact(value):
            plain[name] = value
            continue
        known = adapters(function, signature) if known is None else known
        text = _written(known[name], value) if name in known else None
        if text is None:
            lost[name] = type(value).__qualname__
        else:
            typed[name] = text
    return {"parameters": plain, "typed": typed, "lost": lost}


def _is_exact(value: Any, depth: int = 0) -> bool:
    """Whether JSON gives `value` back as it is."""
    kind = type(value)
    if value is None or kind is bool or kind is int:
        return True
    if kind is float:
        return math.isfinite(value)
    if kind is str:
        return not any("\ud800" <= letter <= "\udfff" for letter in value)
    if depth > _DEEPEST:
        return False
    if kind is list:
        return all(_is_exact(each, depth + 1) for each in value)
    if kind is dict:
        keys = all(type(key) is str and _is_exact(key) for key in value)
        return keys and all(_is_exact(each, depth + 1) for each in value.values())
    return False


def _written(adapter: Any, value: Any) -> str | None:
    """`value` as its annotation writes it, if that reads back as the same."""
    try:
        text: str = adapter.dump_json(value, warnings=False).decode()
        again = adapter.validate_json(text)
        same = type(again) is type(value) and bool(again == value)
    except Exception:  # of user types anything may come
        return None
    return text if same else None


def restore_parameters(
    flow: Flow[Any, Any], note: Mapping[str, Any], given: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return positional and named arguments that start `flow` as it was started.

    Parameters
    ----------
    flow : Flow
    note : mapping
        Payload of the event that it has started.
    given : mapping of str to object
        Parameters given anew: these count.

    Raises
    ------
    UsageError
        When a parameter cannot be restored and was not given.
    """
    signature = flow.signature
    values = {**note["parameters"], **_read(flow, note["typed"], given), **given}
    missing = {name: kind for name, kind in note["lost"].items() if name not in values}
    if missing:
        listed = ", ".join(f"{name} (a {kind})" for name, kind in missing.items())
        again = " ".join(f"-p {name}=…" for name in missing)
        raise UsageError(
            f"the record does not hold {listed} of flow {flow.name} so that it can be given again; "
            f"give it with the command: {again}"
        )
    unknown = [name for name in values if name not in signature.parameters]
    extra = next((p.name for p in signature.parameters.values() if p.kind is p.VAR_KEYWORD), None)
    if unknown and extra is None:
        raise UsageError(
            f"flow {flow.name}{signature} has no parameter {unknown[0]!r}; it was started with it, "
            "or it was given now: start a new run"
        )
    more = {name: values.pop(name) for name in unknown}
    if extra is not None:
        values[extra] = {**values.get(extra, {}), **more}
    bound = signature.bind_partial()
    bound.arguments = {name: values[name] for name in signature.parameters if name in values}
    return bound.args, bound.kwargs


def check_parameters(flow: Flow[Any, Any], args: tuple[Any, ...], named: dict[str, Any]) -> None:
    """Raise `ParameterError` for what the call of the flow would refuse; nothing is started."""
    validate = flow.options["validate_parameters"]
    bind_parameters(flow.fn, flow.signature, args, named, flow_name=flow.name, validate=validate)


def _read(
    flow: Flow[Any, Any], typed: Mapping[str, str], given: Mapping[str, Any]
) -> dict[str, Any]:
    known = adapters(flow.fn, flow.signature) if typed else {}
    values: dict[str, Any] = {}
    for name, text in typed.items():
        if name in given:
            continue
        try:
            values[name] = known[name].validate_json(text)
        except (KeyError, ValueError) as error:
            raise UsageError(
                f"parameter {name}={text} of flow {flow.name} does not fit it any more ({error}); "
                f"give it with the command: -p {name}=…"
            ) from error
    return values
