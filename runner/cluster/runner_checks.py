"""Checks of what a task runner is made of; a mistake is a `UsageError` that says what can be."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Mapping
from typing import Any

from daskflow.errors import UsageError

__all__ = [
    "check_workers",
    "checked_address",
    "checked_kwargs",
    "filed_address",
    "holds_keys",
    "refuse_asynchronous",
    "refuse_beside",
]

_SCHEMES = ("tcp", "tls", "ws", "wss", "ucx", "inproc")
_USUAL = "n_workers threads_per_worker memory_limit processes resources security".split()
_USUAL.append("asynchronous")
_SIZE = re.compile(r"\d*\.?\d+(e\d+)?\s*([kmgtp]i?)?b?")


def checked_address(address: object) -> str:
    """An address of a scheduler, with its scheme."""
    if not isinstance(address, str):
        raise UsageError(f"address={address!r} is not text such as 'tcp://host:8786'")
    scheme, separator, rest = address.rpartition("://")
    if not separator:
        scheme = "tcp"
    if scheme not in _SCHEMES:
        raise UsageError(
            f"The scheduler address {address!r} has the unknown scheme {scheme!r}; "
            f"known are {', '.join(name + '://' for name in _SCHEMES)}"
        )
    host = rest.partition("/")[0].strip(":") or "HOST"
    port = re.match(r"[^/]*[^/:]:(\d{1,5})(/|$)", rest)
    if port and not 0 < int(port[1]) < 65_536:
        raise UsageError(f"The scheduler address {address!r} has no port between 1 and 65535")
    if scheme != "inproc" and not port:
        raise UsageError(
            f"The scheduler address {address!r} has no host and port; with Dask's default port "
            f"it is '{scheme}://{host}:8786'"
        )
    return f"{scheme}://{rest.rstrip('/')}" if scheme in ("tcp", "tls", "ucx") else address


def filed_address(client_kwargs: dict[str, Any]) -> object:
    """The address in the scheduler file; Dask itself would wait for a missing one for ever."""
    path = client_kwargs.pop("scheduler_file")
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)["address"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"scheduler_file={path!r} tells no address ({type(error).__name__}: {error}); it is "
            "the file that `dask scheduler --scheduler-file` writes once it runs"
        ) from error


def check_workers(options: Mapping[str, Any]) -> None:
    """The options of workers in which a slip would show only when they do not start."""
    for name in options:
        if name not in _USUAL and (near := difflib.get_close_matches(name, _USUAL, 1, 0.8)):
            raise UsageError(f"cluster_kwargs has the option {name!r}; did you mean {near[0]!r}?")
    for name in ("n_workers", "threads_per_worker"):
        count, least = options.get(name), int(name == "threads_per_worker")
        if count is not None and (
            isinstance(count, bool) or not isinstance(count, int) or count < least
        ):
            raise UsageError(f"{name}={count!r} must be a whole number, {least} or more")
    security = options.get("security")
    if security is not None and not isinstance(security, bool):
        if not hasattr(security, "get_connection_args"):
            raise UsageError(
                f"security={type(security).__name__} must be True, for certificates of the "
                "cluster's own, or a distributed.Security"
            )
    limit = options.get("memory_limit", "auto")
    if limit is None or limit == "auto":
        return
    if isinstance(limit, str):
        fits = _SIZE.fullmatch(limit.strip().lower()) is not None
    else:
        number = isinstance(limit, (int, float)) and not isinstance(limit, bool)
        fits = number and 0 <= limit < math.inf
    if not fits:
        raise UsageError(
            f"memory_limit={limit!r} is no size; it can be text such as '4 GiB', a number of "
            "bytes, a share of the memory between 0 and 1, 'auto', or None for no limit"
        )


def holds_keys(security: Any) -> bool:
    """Whether a `distributed.Security`, or a mapping of its arguments, has keys, not paths."""
    values = security if isinstance(security, Mapping) else {}
    if hasattr(security, "get_connection_args"):
        values = {name: getattr(security, name, None) for name in type(security).__slots__}
    return any("\n" in str(value) for name, value in values.items() if name.endswith("_key"))


def refuse_beside(name: str, others: Mapping[str, Any]) -> None:
    """Raise for arguments that exclude each other."""
    beside = [other for other, value in others.items() if value]
    if beside:
        raise UsageError(
            f"{name}= and {', '.join(other + '=' for other in beside)} exclude each other: "
            f"{name}= uses a cluster that is there, the rest is about one to be started"
        )


def refuse_asynchronous(value: Any) -> None:
    """Raise for a cluster or client that answers on its own event loop only."""
    if getattr(value, "asynchronous", False) is True:
        raise UsageError(
            f"An asynchronous {type(value).__name__} answers on its own event loop only; give the "
            "address of its scheduler instead, or make it without asynchronous=True"
        )


def checked_kwargs(name: str, kwargs: object) -> dict[str, Any]:
    """Keyword arguments, as a dict of their own."""
    if kwargs is None:
        return {}
    if not isinstance(kwargs, Mapping) or not all(isinstance(key, str) for key in kwargs):
        raise UsageError(f"{name}={kwargs!r} is not a mapping of argument names to values")
    return dict(kwargs)
