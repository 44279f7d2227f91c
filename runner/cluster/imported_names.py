"""Which packages a process must have to run a function that was sent to it.

What the pickled function names is imported when it is unpickled, and what its body imports first,
outside of any branch or ``try``, whenever it is called.  Nothing is unpickled or imported here.
"""

from __future__ import annotations

import dis
import functools
import inspect
import itertools
import pickletools
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["packages_of"]

_OURS = {"daskflow", "daskflow_entry", "dask", "distributed", "cloudpickle", "__main__"}
_MOST = 20_000  # operations of a pickle that are looked at; names come early
_IMPORTERS = {
    ("cloudpickle.cloudpickle", "subimport"),
    ("daskflow.runner.cluster.executor.functions", "imported_function"),
}
_IMPORTER = object()


def packages_of(blob: bytes, function: Callable[..., Any] | None = None) -> set[str]:
    """Return the packages that a pickled function needs, without the standard library's.

    Parameters
    ----------
    blob : bytes
        The function as it travels, pickled with protocol 4 or later.
    function : callable, optional
        The function itself, whose body is looked at.
    """
    modules = _named_in(blob) | (_imported_by(function) if function is not None else set())
    packages = {name.partition(".")[0] for name in modules}
    return {name for name in packages if name not in sys.stdlib_module_names} - _OURS


def _named_in(blob: bytes) -> set[str]:
    """Modules of which a pickle takes something, or which it takes as a whole."""
    found: set[str] = set()
    memo: list[object] = []
    before: object = None
    top: object = None  # what the last operations have put on the stack, as far as it counts
    imports_next = False
    argument: Any
    for operation, argument, _ in itertools.islice(pickletools.genops(blob), _MOST):
        name = operation.name
        if name == "MEMOIZE":
            memo.append(top)
            continue
        kept, before = before, top
        if "UNICODE" in name:
            top = argument
        elif name in ("BINGET", "LONG_BINGET"):
            top = memo[argument] if argument < len(memo) else None
        elif name == "STACK_GLOBAL":
            if isinstance(kept, str) and isinstance(before, str):
                found.add(kept)
            top = _IMPORTER if (kept, before) in _IMPORTERS else None
        else:
            top = None
        if imports_next and isinstance(top, str):
            found.add(top)
        imports_next = top is _IMPORTER
    return found


def _imported_by(function: Callable[..., Any]) -> set[str]:
    """Modules that the body of a function imports before it can take another way."""
    while isinstance(function, functools.partial):
        function = function.func
    code = getattr(inspect.unwrap(function), "__code__", None)
    found: set[str] = set()
    if code is None:
        return found
    body: Any = dis.Bytecode(code)
    # `try` blocks; what has `lasti` is a `with`, or goes around all of a generator
    guarded = [(each.start, each.end) for each in body.exception_entries if not each.lasti]
    level = last = None  # IMPORT_NAME takes two constants: the level, and names
    for instruction in body:
        if instruction.opcode in dis.hasjrel or "RETURN_V" in instruction.opname:
            break
        if instruction.opname == "IMPORT_NAME":
            if any(start <= instruction.offset <= end for start, end in guarded):
                break
            if level == 0:  # not relative
                found.add(instruction.argval)
        level, last = last, instruction.argval
    return found
