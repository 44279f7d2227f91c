"""Where the source of a function is, and whether it is the source that the function was made of.

The file on disk may have been edited since it was imported.  So its text is compiled, and the
function's own bytecode must be found in the outcome; else there is no source.  Reading goes
through `linecache`, which also knows the cells of notebooks.
"""

from __future__ import annotations

import ast
import enum
import linecache
import sys
import types
import warnings
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from daskflow.caching.code_ast import FunctionNode

__all__ = ["bytecode", "find_class", "find_function", "parse_module"]

_ROUTINES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


class _Parsed(NamedTuple):
    tree: ast.Module
    codes: dict[str, list[types.CodeType]]  # by qualified name
    functions: dict[tuple[int, str], list[FunctionNode]]  # by first line and name
    classes: dict[str, list[ast.ClassDef]]  # by qualified name


def find_function(function: types.FunctionType) -> FunctionNode | None:
    """Return the node that the function was compiled from, or None when its source is not there."""
    code = function.__code__
    for parsed in _parsed(code.co_filename, function.__globals__):
        same = [each for each in parsed.codes.get(code.co_qualname, ()) if _same(each, code)]
        same.sort(key=lambda each: abs(each.co_firstlineno - code.co_firstlineno))
        for each in same:
            nodes = parsed.functions.get((each.co_firstlineno, each.co_name), [])
            node = nodes[0] if len(nodes) == 1 else _by_position(each, nodes)
            if node is not None:
                return node
    return None


def find_class(kind: type) -> ast.ClassDef | None:
    """Return the node of a class, or None when its source is not there or there are several."""
    functions = [part for part in vars(kind).values() if isinstance(part, types.FunctionType)]
    files = {f.__code__.co_filename: f.__globals__ for f in functions}
    module = _module_globals(kind.__module__)
    if module is not None and isinstance(module.get("__file__"), str):
        files.setdefault(module["__file__"], module)
    for file, names in files.items():
        for parsed in _parsed(file, names):
            nodes = parsed.classes.get(kind.__qualname__, [])
            if len(nodes) == 1 and _fits(nodes[0], kind, file, parsed):
                return nodes[0]
    return None


def _fits(node: ast.ClassDef, kind: type, file: str, parsed: _Parsed) -> bool:
    """Say whether nothing of a live class shows that it was made of another source."""
    live = vars(kind)
    for function in live.values():
        code = getattr(function, "__code__", None)
        if isinstance(code, types.CodeType) and code.co_filename == file:
            if not any(_same(each, code) for each in parsed.codes.get(code.co_qualname, ())):
                return False
    notes = live.get("__annotations__", {})
    for step in node.body:
        if isinstance(step, ast.AnnAssign) and isinstance(step.target, ast.Name):
            note = notes.get(step.target.id)
            written = ast.unparse(step.annotation)
            if not isinstance(note, type) or isinstance(step.annotation, ast.Name):
                if str(getattr(note, "__name__", note)) != written and isinstance(note, str | type):
                    return False
            if not _same_constant(step.value, live.get(step.target.id, step)):
                return False
        elif isinstance(step, ast.Assign) and isinstance(step.targets[0], ast.Name):
            if not _same_constant(step.value, live.get(step.targets[0].id, step)):
                return False
    return True


def _same_constant(written: ast.expr | None, live: Any) -> bool:
    if isinstance(live, enum.Enum):
        live = live.value
    if not isinstance(written, ast.Constant) or not isinstance(live, str | int | float | bytes):
        return True
    return repr(written.value) == repr(live)


def parse_module(module: types.ModuleType) -> ast.Module | None:
    """Return the tree of a whole module, or None when its source is not there."""
    file = getattr(module, "__file__", None)
    return next((p.tree for p in _parsed(file, vars(module))), None) if file else None


def _module_globals(name: str) -> dict[str, Any] | None:
    module = sys.modules.get(name)
    return None if module is None else vars(module)


def _parsed(file: str, names: dict[str, Any]) -> Iterator[_Parsed]:
    """Yield the parsed text of a file: as it was read first, then as it is now if it differs."""
    before = "".join(linecache.getlines(file, names))
    if before and (parsed := _parse(file, before)):
        yield parsed
    linecache.checkcache(file)
    now = "".join(linecache.getlines(file, names))
    if now and now != before and (parsed := _parse(file, now)):
        yield parsed


@lru_cache(64)
def _parse(file: str, text: str) -> _Parsed | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the interpreter told them when it compiled the file
            tree = ast.parse(text)
            # The flag is what notebooks compile their cells with; functions are the same without.
            module = compile(tree, file, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    except (SyntaxError, ValueError):
        return None
    codes: dict[str, list[types.CodeType]] = {}
    for code in _nested(module):
        codes.setdefault(code.co_qualname, []).append(code)
    functions: dict[tuple[int, str], list[FunctionNode]] = {}
    for node in ast.walk(tree):
        if isinstance(node, _ROUTINES):
            functions.setdefault(_first_line_and_name(node), []).append(node)
    classes: dict[str, list[ast.ClassDef]] = {}
    _collect_classes(tree, "", classes)
    return _Parsed(tree, codes, functions, classes)


def _nested(code: types.CodeType) -> Iterator[types.CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield constant
            yield from _nested(constant)


def _first_line_and_name(node: FunctionNode) -> tuple[int, str]:
    if isinstance(node, ast.Lambda):
        return node.lineno, "<lambda>"
    first = node.decorator_list[0] if node.decorator_list else node
    return first.lineno, node.name


def _collect_classes(node: ast.AST, prefix: str, classes: dict[str, list[ast.ClassDef]]) -> None:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            classes.setdefault(prefix + child.name, []).append(child)
            _collect_classes(child, f"{prefix}{child.name}.", classes)
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            _collect_classes(child, f"{prefix}{child.name}.<locals>.", classes)
        else:
            _collect_classes(child, prefix, classes)


def _by_position(code: types.CodeType, nodes: list[FunctionNode]) -> FunctionNode | None:
    """Tell several functions on one line apart by the columns of their bodies."""
    spans = set(code.co_positions())
    found = [node for node in nodes if isinstance(node, ast.Lambda) and _span(node.body) in spans]
    return found[0] if len(found) == 1 else None


def _span(node: ast.expr) -> tuple[int | None, int | None, int | None, int | None]:
    return node.lineno, node.end_lineno, node.col_offset, node.end_col_offset


def _same(one: types.CodeType, other: types.CodeType) -> bool:
    return one is other or bytecode(one) == bytecode(other)


def bytecode(code: types.CodeType) -> str:
    """Return what a code object does, without where it stands."""
    constants = ",".join(
        bytecode(each) if isinstance(each, types.CodeType) else _constant(each)
        for each in code.co_consts
    )
    counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    return f"{code.co_name}|{code.co_code.hex()}|{counts}|{names}|{constants}|" + (
        code.co_exceptiontable.hex()
    )


def _constant(value: object) -> str:
    if isinstance(value, frozenset):
        return f"frozenset:{sorted(map(_constant, value))}"
    if isinstance(value, tuple):
        return f"({','.join(map(_constant, value))})"
    return f"{type(value).__name__}:{value!r}"
