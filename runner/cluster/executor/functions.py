"""The functions that this process can run, by the digest of their pickled form.

A function is unpickled once per process, however many parcels bring it.  Importable functions
travel by name, so module globals such as locks, loggers and connections need not pickle.
"""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Callable
from typing import Any

from daskflow.runner.cluster.protocol import Code

__all__ = ["function_of", "imported_function", "register_function"]

_functions: dict[str, Callable[..., Any]] = {}


def imported_function(module: str, qualname: str) -> Callable[..., Any]:
    """The plain function under the task called `qualname` in `module`."""
    found: Any = importlib.import_module(module)
    for name in qualname.split("."):
        found = getattr(found, name)
    return getattr(found, "fn", found)  # type: ignore[no-any-return]


def register_function(digest: str, function: Callable[..., Any]) -> None:
    """Make a function known that is in this process already."""
    _functions[digest] = function


def function_of(code: Code) -> Callable[..., Any]:
    """The function that `code` stands for."""
    function = _functions.get(code.digest)
    if function is None:
        assert code.blob is not None, f"{code.task.name}: neither known here nor sent along"
        function = _functions[code.digest] = pickle.loads(code.blob)
    return function
