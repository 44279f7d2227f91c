"""A task's function on its way to the workers: by name where they can import it, else by value.

By name keeps module globals (locks, connections, caches) out of the pickle.  By value is for
functions of ``__main__``, notebooks and closures, and for project modules that a worker on another
machine does not have: those travel with the function.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.machinery
import inspect
import logging
import os
import pickle
import site
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import ModuleType
from typing import Any

import cloudpickle

from daskflow.errors import UsageError
from daskflow.runner.cluster.executor.functions import imported_function
from daskflow.runner.context import FLOW_LOGGER

__all__ = [
    "by_value",
    "code_of",
    "function_bytes",
    "source_digest",
    "tell_travelling",
    "travelling_modules",
]

_logger = logging.getLogger(FLOW_LOGGER)


_lock = threading.RLock()  # pickling may call user code that submits


class _ByName:
    """Pickles as an import of a function."""

    def __init__(self, module: str, qualname: str) -> None:
        self.module, self.qualname = module, qualname

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return imported_function, (self.module, self.qualname)


def function_bytes(
    function: Callable[..., Any], *, task_name: str, same_machine: bool
) -> tuple[str, bytes]:
    """Return ``(digest, bytes)`` of a function for the workers.

    Parameters
    ----------
    function : callable
    task_name : str
        For messages.
    same_machine : bool
        The workers are processes of ours on this machine, with this process's ``sys.path``.

    Raises
    ------
    UsageError
        When the function captures something that cannot be pickled; names it.
    """
    if _importable(function) and (same_machine or _installed(sys.modules[function.__module__])):
        blob = pickle.dumps(_ByName(function.__module__, function.__qualname__), 5)
        # by name: edits between two runs of one process must not meet the old function
        return hashlib.sha256(blob + str(id(function)).encode()).hexdigest()[:32], blob
    with by_value(travelling_modules(function, same_machine)):
        try:
            blob = cloudpickle.dumps(function, 5)
        except Exception as error:
            raise UsageError(_unpicklable(function, task_name, error)) from error
    return hashlib.sha256(blob).hexdigest()[:32], blob


@contextlib.contextmanager
def by_value(modules: Iterable[ModuleType]) -> Iterator[None]:
    """While active, cloudpickle takes what is defined in `modules` along instead of its name."""
    with _lock:
        ours = [m for m in modules if m.__name__ not in cloudpickle.list_registry_pickle_by_value()]
        for module in ours:
            cloudpickle.register_pickle_by_value(module)
        try:
            yield
        finally:
            for module in ours:
                cloudpickle.unregister_pickle_by_value(module)


def travelling_modules(function: Callable[..., Any], same_machine: bool) -> list[ModuleType]:
    """Modules that the workers cannot import, and that the function takes along."""
    if _importable(function) and (same_machine or _installed(sys.modules[function.__module__])):
        return []
    module = sys.modules.get(getattr(_defined(function), "__module__", None) or "")
    found = [] if same_machine else _project_modules(function)
    if module is None or module.__name__ == "__main__" or module in found:
        return found
    if not _module_importable(module.__name__):  # made at run time, as some notebooks do
        found.append(module)
    return found


def _defined(function: Any) -> Any:
    """What has a module and a file: the function inside a partial, the class of an object."""
    while isinstance(function, functools.partial):
        function = function.func
    return function if inspect.isroutine(function) else type(function)


def _importable(function: Callable[..., Any]) -> bool:
    module, qualname = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    if not module or module == "__main__" or "<" in qualname or module not in sys.modules:
        return False
    found: Any = sys.modules[module]
    for name in qualname.split("."):
        found = getattr(found, name, None)
    if getattr(found, "fn", found) is not function:
        return False
    return _module_importable(module)


def _module_importable(module: str) -> bool:
    """Whether an import by another process with this one's path gives the same module."""
    top = module.partition(".")[0]
    spec = importlib.machinery.PathFinder.find_spec(top)
    if spec is None:
        return False
    loaded = getattr(sys.modules.get(top), "__spec__", None)
    origin = getattr(sys.modules.get(top), "__file__", None)
    return spec.origin == origin or (loaded is not None and loaded.origin == spec.origin)


@functools.cache  # as below, for every module of a project
def _roots() -> tuple[str, ...]:
    paths = [*site.getsitepackages(), sysconfig.get_path("stdlib"), sysconfig.get_path("purelib")]
    return tuple(os.path.realpath(path) + os.sep for path in paths)


def _installed(module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    return file is None or _real(file).startswith(_roots())


def _real(file: str) -> str:
    """Where the file of a loaded module is, without symlinks."""
    return _real_from_root(file) if os.path.isabs(file) else os.path.realpath(file)


# Each function from outside looks at every loaded module: 80 ms of lstat with a thousand of them.
_real_from_root = functools.lru_cache(maxsize=16_384)(os.path.realpath)


def _project_modules(function: Callable[..., Any]) -> list[ModuleType]:
    """Loaded modules beside or below the function's file that are not installed."""
    try:
        folder = os.path.dirname(os.path.realpath(inspect.getfile(_defined(function)))) + os.sep
    except (TypeError, OSError):
        return []
    found = []
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name == "__main__" or not file or not _real(file).startswith(folder):
            continue
        if not _installed(module) and getattr(module, "__name__", None) == name:
            found.append(module)
    return found


def _unpicklable(function: Callable[..., Any], task_name: str, error: Exception) -> str:
    for name, value in _captured(function).items():
        try:
            cloudpickle.dumps(value, 5)
        except Exception as cause:
            return (
                f"task {task_name!r} uses {name}, and a {type(value).__qualname__} does not pickle "
                f"({cause}); create it inside the task, pass plain data, or use "
                'task_runner="threads"'
            )
    return f"task {task_name!r} cannot be sent to a worker: {error}"


def _captured(function: Any) -> dict[str, Any]:
    """What a function takes along, by the name that its author gave it."""
    if isinstance(function, functools.partial):
        named = {f"argument {place}": value for place, value in enumerate(function.args)}
        named.update({f"argument {name!r}": value for name, value in function.keywords.items()})
        return {**named, **_captured(function.func)}
    if not inspect.isfunction(function):
        own = getattr(function, "__dict__", {})
        return {f"its attribute {name!r}": value for name, value in own.items()}
    known = inspect.getclosurevars(function)
    return {repr(name): value for name, value in {**known.globals, **known.nonlocals}.items()}


def source_digest(function: Callable[..., Any]) -> str | None:
    """Digest of a function's source text, or of its bytecode where there is no source."""
    try:
        text = inspect.getsource(_defined(function)).encode()
    except (OSError, TypeError):
        code = getattr(_defined(function), "__code__", None)
        if code is None:
            return None
        text = code.co_code + repr(code.co_consts).encode()
    return hashlib.sha256(text).hexdigest()[:32]


def tell_travelling(task_name: str, modules: Sequence[ModuleType]) -> None:
    """Leave a line for who wonders why a module need not be installed on workers."""
    names = sorted(module.__name__ for module in modules)
    _logger.debug(
        "%s: workers cannot be expected to have %s; what the task uses of it travels with it "
        "(install it there to import it instead)",
        task_name,
        ", ".join(names[:5]) + (f" and {len(names) - 5} more modules" if len(names) > 5 else ""),
    )


def code_of(function: Callable[..., Any]) -> tuple[Any, ...]:
    """What two copies of a function have in common, one of which has travelled."""
    code = getattr(function, "__code__", None)
    place = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    return (*place, code.co_code, code.co_consts) if code is not None else (function,)
