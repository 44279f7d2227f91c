"""Names in code: which globals a function reaches, whose code counts, and what pieces are called.

Code of the project counts to the last line; installed packages and the standard library count by
name only.
"""

from __future__ import annotations

import ast
import dis
import importlib.util
import os
import sys
import sysconfig
import types
from functools import lru_cache
from typing import Any

__all__ = ["file_of", "global_names", "is_installed", "is_ours", "is_project", "version_of"]

# Names that every module has; their values say where code lives, not what it does.
_MODULE_NAMES = frozenset(
    {
        *("__name__", "__file__", "__doc__", "__package__", "__spec__", "__loader__"),
        *("__builtins__", "__cached__", "__annotations__", "__path__", "__debug__"),
    }
)
_MISSING = object()
_LOADS = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
_ATTRIBUTES = frozenset({"LOAD_ATTR", "LOAD_METHOD"})
_INSTALLED_FOLDERS = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


@lru_cache(4096)
def global_names(code: types.CodeType) -> tuple[tuple[str, ...], ...]:
    """Return each global that a code object loads, with the attributes taken from it, sorted.

    ``settings.paths.raw`` gives ``("settings", "paths", "raw")``.  What nested functions load is
    included.
    """
    found: set[tuple[str, ...]] = set()
    steps = list(dis.get_instructions(code))
    for at, step in enumerate(steps):
        if step.opname in _LOADS and step.argval not in _MODULE_NAMES:
            chain = [step.argval]
            for after in steps[at + 1 :]:
                if after.opname not in _ATTRIBUTES:
                    break
                chain.append(after.argval)
            found.add(tuple(chain))
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found.update(global_names(constant))
    return tuple(sorted(found))


@lru_cache(1)
def _standard_folder() -> str:
    return sysconfig.get_path("stdlib") + os.sep


def is_project(module_name: str | None) -> bool:
    """Say whether a module is part of the project: neither installed nor the standard library's."""
    if module_name == "__main__":
        return True
    if module_name is None or module_name.partition(".")[0] in ("daskflow", "builtins"):
        return False
    module = sys.modules.get(module_name)
    file = getattr(module, "__file__", None)
    if file is None:
        # No file: built into the interpreter, or made at run time like a notebook's module.
        return module_name.partition(".")[0] not in sys.stdlib_module_names
    path = os.path.abspath(file)
    return not (
        any(folder in path for folder in _INSTALLED_FOLDERS) or path.startswith(_standard_folder())
    )


def file_of(names: dict[str, Any]) -> str:
    """Return what a module's file is called in the names of parts, given the module's globals.

    The path inside the project (``pkg/clean.py``), not on this machine.  A script is called after
    its file, whether it runs as ``__main__`` or is imported.
    """
    name = str(names.get("__name__", "__main__"))
    file = names.get("__file__")
    if name == "__main__":
        return os.path.basename(file) if isinstance(file, str) else "__main__"
    return name.replace(".", "/") + ".py"


def is_ours(decorator: ast.expr, names: dict[str, Any]) -> bool:
    """Say whether a decorator is daskflow's: its options are not the function's code."""
    node = decorator.func if isinstance(decorator, ast.Call) else decorator
    attributes: list[str] = []
    while isinstance(node, ast.Attribute):
        attributes.insert(0, node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return False
    value = names.get(node.id, _MISSING)
    for attribute in attributes:
        value = getattr(value, attribute, _MISSING)
    if value is _MISSING:
        return ([node.id, *attributes][-1]) in ("task", "flow")
    return str(getattr(value, "__module__", "")).partition(".")[0] == "daskflow"


def is_installed(module_name: str) -> bool:
    """Say whether a module that may not be loaded yet is installed, not part of the project."""
    root = module_name.partition(".")[0]
    if root in sys.modules:
        return not is_project(module_name if module_name in sys.modules else root)
    spec = importlib.util.find_spec(root)
    if spec is None or spec.origin is None:
        return False
    return "site-packages" in spec.origin or root in sys.stdlib_module_names


def version_of(root: str) -> str:
    """Return the version of the installed distribution of that name, empty when there is none."""
    import importlib.metadata  # 10 ms of import, and only who asks for versions needs it

    try:
        return importlib.metadata.version(root)
    except importlib.metadata.PackageNotFoundError:
        return ""
