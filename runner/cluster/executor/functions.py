"""The functions that this process can run, by the digest of their pickled form.

A function is unpickled once per process, however many parcels bring it; those unused for longest
are forgotten, and come again with the next parcel.  Importable functions travel by name, so module
globals such as locks, loggers and connections need not pickle.
"""

from __future__ import annotations

import importlib
import pickle
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from daskflow.runner.cluster.protocol import Code

__all__ = ["function_of", "imported_function", "register_function"]

_REMEMBERED = 256

_unpickled: OrderedDict[str, Callable[..., Any]] = OrderedDict()
_lock = threading.RLock()  # unpickling imports modules, which may do anything
# functions of the flow process: the task holds them for as long as its flow can run
_live: weakref.WeakValueDictionary[str, Callable[..., Any]] = weakref.WeakValueDictionary()
_live_always: dict[str, Callable[..., Any]] = {}


def imported_function(module: str, qualname: str) -> Callable[..., Any]:
    """The plain function under the task called `qualname` in `module`."""
    found: Any = importlib.import_module(module)
    for name in qualname.split("."):
        found = getattr(found, name)
    return getattr(found, "fn", found)  # type: ignore[no-any-return]


def register_function(digest: str, function: Callable[..., Any]) -> None:
    """Make a function known that is in this process already, for as long as somebody holds it."""
    try:
        _live[digest] = function
    except TypeError:  # a callable without a place for weak references
        _live_always[digest] = function


def function_of(code: Code) -> Callable[..., Any]:
    """The function that `code` stands for."""
    if code.function is not None:
        return code.function
    digest = code.digest
    function = _live.get(digest)
    if function is None:
        function = _live_always.get(digest)
    if function is not None:
        return function
    with _lock:
        function = _unpickled.get(digest)
        if function is None:
            assert code.blob is not None, f"{code.task.name}: neither known here nor sent along"
            function = _unpickled[digest] = pickle.loads(code.blob)
            while len(_unpickled) > _REMEMBERED:
                _unpickled.popitem(last=False)
        else:
            _unpickled.move_to_end(digest)
    return function
