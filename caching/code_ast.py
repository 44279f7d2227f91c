"""Normal form of source code: what is left when nothing is kept that cannot change a result.

Left out: positions, comments, docstrings, `pass`, annotations of functions, type comments and
type parameters, and decorators that the caller names (those of daskflow).  Written by hand
rather than by `ast.dump`, whose output differs between versions of Python.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from typing import TypeAlias

__all__ = ["FunctionNode", "Ignored", "class_level_names", "local_imports", "normal_form"]

FunctionNode: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
Ignored: TypeAlias = Callable[[ast.expr], bool]

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_SKIPPED = frozenset({"type_comment", "ctx", "kind", "returns", "type_params", "type_ignores"})


def normal_form(node: ast.AST, ignored: Ignored) -> str:
    """Return the normal form of a function, class or module.

    Parameters
    ----------
    node : ast.AST
        A function, lambda, class or module.  Methods of a class appear by name only: each is a
        piece of code of its own.
    ignored : callable
        Says of a decorator whether to leave it out.
    """
    out: list[str] = []
    _Dump(out, ignored).top(node)
    return "".join(out)


class _Dump:
    __slots__ = ("ignored", "out")

    def __init__(self, out: list[str], ignored: Ignored) -> None:
        self.out = out
        self.ignored = ignored

    def top(self, node: ast.AST) -> None:
        if isinstance(node, ast.ClassDef):
            self.class_(node, methods=False)
            return
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            # The caller has the default values themselves.
            plain = ast.arguments(**{**dict(ast.iter_fields(node.args)), **_NO_DEFAULTS})
            node = type(node)(**{**dict(ast.iter_fields(node)), "args": plain})
        self.any(node)

    def any(self, value: object) -> None:
        if isinstance(value, list):
            self.out.append("[")
            for each in value:
                self.any(each)
            self.out.append("]")
        elif isinstance(value, _FUNCTIONS):
            self.node(value, value.body)
        elif isinstance(value, ast.ClassDef):
            self.class_(value, methods=True)
        elif isinstance(value, ast.JoinedStr):
            self.out.append("JoinedStr")
            self.any(list(_merged(value)))
        elif isinstance(value, ast.Constant):
            self.out.append(f"<{type(value.value).__name__}:{value.value!r}>")
        elif isinstance(value, ast.AnnAssign):
            self.out.append("Assign([")
            self.any(value.target)
            self.out.append("]")
            self.any(value.value)
            self.out.append(")")
        elif isinstance(value, ast.AST):
            self.node(value, getattr(value, "body", None))
        else:
            self.out.append(f"{value!r};")

    def node(self, node: ast.AST, body: object) -> None:
        self.out.append(type(node).__name__ + "(")
        for name in node._fields:
            value = getattr(node, name, None)
            if name in _SKIPPED or value is None or value == []:
                continue
            if name == "annotation":
                continue
            if name == "decorator_list":
                value = [each for each in value if not self.ignored(each)]
            elif isinstance(value, list) and name in ("body", "orelse", "finalbody"):
                value = list(_statements(value, documented=isinstance(node, _DOCUMENTED)))
            if value == []:
                continue
            self.out.append(name + "=")
            self.targets(node, name, value)
        self.out.append(")")

    def targets(self, node: ast.AST, name: str, value: object) -> None:
        # `x = 1` is written like `x: int = 1`.
        if isinstance(node, ast.Assign) and name == "targets":
            self.out.append("[")
            self.any(value[0]) if isinstance(value, list) and len(value) == 1 else self.any(value)
            self.out.append("]")
        else:
            self.any(value)

    def class_(self, node: ast.ClassDef, *, methods: bool) -> None:
        self.out.append(f"ClassDef({node.name}")
        self.any([each for each in node.decorator_list if not self.ignored(each)])
        self.any(node.bases)
        self.any(node.keywords)
        for step in _statements(node.body, documented=True, declared=True):
            if isinstance(step, _FUNCTIONS) and not methods:
                self.out.append(f"def {step.name}")
                self.any([each for each in step.decorator_list if not self.ignored(each)])
            elif isinstance(step, ast.AnnAssign):
                # The annotation of a field is read by dataclasses and models.
                self.out.append("Field(")
                self.any([step.target, step.annotation])
                self.any(step.value)
                self.out.append(")")
            else:
                self.any(step)
        self.out.append(")")


_NO_DEFAULTS: dict[str, list[ast.expr]] = {"defaults": [], "kw_defaults": []}
_DOCUMENTED = (*_FUNCTIONS, ast.ClassDef, ast.Module)


def _statements(
    body: list[ast.stmt], *, documented: bool, declared: bool = False
) -> Iterator[ast.stmt]:
    """Yield the statements that can change a result."""
    for at, step in enumerate(body):
        if isinstance(step, ast.Pass):
            continue
        if isinstance(step, ast.AnnAssign) and step.value is None and not declared:
            continue
        if documented and at == 0 and isinstance(step, ast.Expr):
            text = step.value
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                continue
        yield step


def _merged(text: ast.JoinedStr) -> Iterator[ast.expr]:
    """Yield the parts of an f-string, neighbouring constants as one: versions split differently."""
    run = ""
    for part in text.values:
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            run += part.value
            continue
        if run:
            yield ast.Constant(run)
            run = ""
        yield part
    if run:
        yield ast.Constant(run)


def class_level_names(node: ast.ClassDef) -> set[str]:
    """Return the names that a class body loads itself, outside its methods."""
    names: set[str] = set()
    pending: list[ast.AST] = [*node.decorator_list, *node.bases, *node.keywords, *node.body]
    while pending:
        each = pending.pop()
        if isinstance(each, _FUNCTIONS):
            pending.extend(each.decorator_list)
            continue
        if isinstance(each, ast.AnnAssign):
            pending.extend(part for part in (each.target, each.value) if part is not None)
            continue
        if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Load):
            names.add(each.id)
        pending.extend(ast.iter_child_nodes(each))
    return names


def local_imports(node: ast.AST) -> list[tuple[int, str, str | None]]:
    """Return what a function imports inside: (level, module, name or None), as it uses it.

    ``import a.b`` whose use is ``a.b.c`` gives ``(0, "a.b", "c")``; a module that is used in any
    other way gives ``(0, "a.b", None)``: all of it counts.
    """
    found: list[tuple[int, str, str | None]] = []
    for each in ast.walk(node):
        if isinstance(each, ast.ImportFrom):
            found += [(each.level, each.module or "", alias.name) for alias in each.names]
        elif isinstance(each, ast.Import):
            for alias in each.names:
                bound = alias.asname or alias.name
                found += [(0, alias.name, use) for use in _uses(node, bound.split("."))]
    return found


def _uses(node: ast.AST, module: list[str]) -> list[str | None]:
    """Return which attributes of a module, bound to a dotted name, the code uses."""
    uses: dict[str | None, None] = {}
    within: set[int] = set()
    for each in ast.walk(node):
        chain = _chain(each)
        if chain and chain[: len(module)] == module and id(each) not in within:
            uses[chain[len(module)] if len(chain) > len(module) else None] = None
            within.update(id(inner) for inner in ast.walk(each))
    return list(uses)


def _chain(node: ast.AST) -> list[str]:
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.insert(0, node.attr)
        node = node.value
    return [node.id, *names] if isinstance(node, ast.Name) else []
