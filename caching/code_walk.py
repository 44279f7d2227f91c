"""The walk from a function to everything of the project that it reaches, piece by piece."""

from __future__ import annotations

import ast
import builtins
import functools
import importlib
import importlib.util
import sys
import types
from collections import deque
from collections.abc import Callable
from typing import Any

from daskflow.caching.code_ast import class_level_names, local_imports, normal_form
from daskflow.caching.code_names import (
    file_of,
    global_names,
    is_installed,
    is_ours,
    is_project,
    version_of,
)
from daskflow.caching.code_source import bytecode, find_class, find_function, parse_module
from daskflow.caching.hash_writer import ContentWriter, NoContent, type_name

__all__ = ["Walk", "reduce_parts"]

_MISSING = object()
_BOUND = (types.BuiltinFunctionType, types.MethodWrapperType)
_DESCRIPTORS = (
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
)
# What libraries keep on classes beside the members that were written there.
_BOOKKEEPING = frozenset({"_abc_impl"})


def reduce_parts(root: str, parts: dict[str, str], raw: Callable[[bytes], bytes]) -> str:
    """Return the digest over all parts, whatever order they were found in."""
    lines = [f"daskflow code 1 {root!r}", *(f"{name!r} {parts[name]}" for name in sorted(parts))]
    return raw("\n".join(lines).encode("utf-8", "surrogatepass")).hex()


class Walk:
    """One walk; `parts` maps the name of each piece to its digest."""

    def __init__(self, writer: ContentWriter, *, package_versions: bool = False) -> None:
        self.parts: dict[str, str] = {}
        self._writer = writer
        self._versions = package_versions
        # id -> (name of the part, the object: kept, so that its id stays its own)
        self._known: dict[int, tuple[str, Any]] = {}
        self._taken: dict[str, int] = {}
        self._pending: deque[Callable[[], None]] = deque()
        if writer.kinds is None:
            writer.kinds = set()
        self._kinds_done: set[type] = set()

    def run(self, root: Any) -> str:
        """Walk from `root` to the end; return what it is called."""
        self._kinds_done.update(self._writer.kinds or ())
        name = self.reach(root, "value")
        while self._pending:
            self._pending.popleft()()
        return name

    # ---- what a value is

    def reach(self, value: Any, name: str) -> str:
        """Return the word for a value in the piece that uses it; new pieces are walked later."""
        if isinstance(value, types.ModuleType):
            return self._module(value)
        if isinstance(value, types.MethodType):
            word = self.reach(value.__func__, name)
            return f"{word} of {self.reach(value.__self__, _called(word, '(self)'))}"
        if isinstance(value, types.FunctionType):
            return self._function(value, name)
        if isinstance(value, type) and not isinstance(value, types.GenericAlias):
            return self._class(value)
        if isinstance(value, functools.partial):
            word = self.reach(value.func, name)
            bound = self._content((value.args, value.keywords), name)
            self.parts[_called(word, "(bound arguments)")] = bound
            return f"partial {word} {bound}"
        if isinstance(value, staticmethod | classmethod):
            return f"{type(value).__name__} {self.reach(value.__func__, name)}"
        if isinstance(value, property):
            parts = (value.fget, value.fset, value.fdel)
            return f"property {[None if p is None else self.reach(p, name) for p in parts]}"
        if isinstance(value, functools.cached_property):
            return f"cached_property {self.reach(value.func, name)}"
        if isinstance(value, _BOUND):
            return self._builtin(value, name)
        if isinstance(value, _DESCRIPTORS):
            return f"builtin {value.__qualname__}"
        if type(value).__module__ in ("typing", "types") and not isinstance(
            value, types.MappingProxyType | types.SimpleNamespace
        ):
            return f"type {value!r}"
        wrapped = _wrapped(value)
        if wrapped is not None:
            return f"{type_name(type(value))} of {self.reach(wrapped, name)}"
        return self._constant(value, name)

    def _builtin(self, value: Any, name: str) -> str:
        owner = value.__self__
        if owner is None or isinstance(owner, types.ModuleType):
            self._package(value.__module__)
            return f"builtin {value.__module__}:{value.__qualname__}"
        return f"builtin {value.__qualname__} of {self.reach(owner, name)}"

    def _package(self, module_name: str | None) -> None:
        root = (module_name or "").partition(".")[0]
        if not root or root == "builtins" or root in sys.stdlib_module_names:
            return
        version = ""
        if self._versions:
            version = str(getattr(sys.modules.get(root), "__version__", "")) or version_of(root)
        self.parts[f"package {root}"] = self._digest(f"{root} {version}")

    def _digest(self, text: str) -> str:
        return self._writer.raw(text.encode("utf-8", "surrogatepass")).hex()

    def _named(self, value: Any, name: str) -> str | None:
        """Give a new piece its name; return None when `value` already has one."""
        if id(value) in self._known:
            return None
        count = self._taken[name] = self._taken.get(name, 0) + 1
        name = name if count == 1 else f"{name}#{count}"
        self._known[id(value)] = (name, value)
        return name

    # ---- constants

    def _content(self, value: Any, name: str) -> str:
        try:
            item = self._writer.item(value)
        except NoContent as lack:
            raise lack.within(name) from None
        for kind in sorted((self._writer.kinds or set()) - self._kinds_done, key=type_name):
            self._kinds_done.add(kind)
            if is_project(kind.__module__):
                self._class(kind)
        return self._writer.raw(item).hex()

    def _constant(self, value: Any, name: str) -> str:
        digest = self._content(value, name)
        if ":" not in name:
            return f"value {digest}"
        while self.parts.setdefault(name, digest) != digest:
            name += "'"  # something else has this name already
        return f"value of {name}"

    # ---- modules

    def _module(self, module: types.ModuleType) -> str:
        """A module that is used as a value: everything in it counts."""
        if not is_project(module.__name__):
            self._package(module.__name__)
            return f"module {module.__name__}"
        file = file_of(vars(module))
        name = self._named(module, file)
        if name is not None:
            self._pending.append(lambda: self._walk_module(module, name))
        return f"module {file}"

    def _walk_module(self, module: types.ModuleType, name: str) -> None:
        tree = parse_module(module)
        text = normal_form(tree, _never) if tree else ""
        lines = [text]
        lines += [
            f"{member} {self.reach(vars(module)[member], f'{name}:{member}')}"
            for member in sorted(vars(module))
            if not (member.startswith("__") and member.endswith("__"))
        ]
        self.parts[name] = self._digest("\n".join(lines))

    # ---- functions

    def _function(self, function: types.FunctionType, name: str) -> str:
        names = function.__globals__
        module_name = names.get("__name__")
        if not is_project(module_name if isinstance(module_name, str) else "__main__"):
            self._package(module_name)
            word = f"library {module_name}:{function.__code__.co_qualname}"
            # A decorator of a library: what it wraps may be code of the project.
            inner = [c for c in map(_cell, function.__closure__ or ()) if c is not _MISSING]
            wraps = [self._lenient(part, name) for part in (inner if _wrapped(function) else ())]
            return f"{word} {wraps}"
        called = self._named(function, f"{file_of(names)}:{function.__qualname__}")
        if called is not None:
            self._pending.append(lambda: self._walk_function(function, called))
        return f"code {self._known[id(function)][0]}"

    def _lenient(self, value: Any, name: str) -> str:
        """What a library's decorator holds: the library's own state counts if it can be hashed."""
        try:
            return self.reach(value, "closure")
        except NoContent:
            return f"state of {type_name(type(value))}"

    def _walk_function(self, function: types.FunctionType, name: str) -> None:
        node = find_function(function)
        lines: list[str] = []
        if node is None:
            lines.append(f"{sys.version_info[:2]} {bytecode(function.__code__)}")
        else:
            lines.append(normal_form(node, lambda each: is_ours(each, function.__globals__)))
            lines += self._imports(node, function.__globals__)
        for parameter, value in _defaults(function):
            lines.append(f"{parameter} {self.reach(value, f'{name}(default {parameter})')}")
        lines += self._globals(global_names(function.__code__), function.__globals__)
        free = function.__code__.co_freevars
        for variable, cell in zip(free, function.__closure__ or (), strict=True):
            value = _cell(cell)
            if value is not _MISSING:
                lines.append(f"{variable} {self.reach(value, f'{name}[{variable}]')}")
        self.parts[name] = self._digest("\n".join(lines))

    def _globals(self, chains: tuple[tuple[str, ...], ...], names: dict[str, Any]) -> list[str]:
        lines = []
        for first, *attributes in chains:
            value = names.get(first, _MISSING)
            if value is _MISSING:
                where = "builtin" if hasattr(builtins, first) else "missing"
                lines.append(f"{first} {where}")
                continue
            owner, path = names, [first]
            for attribute in attributes:
                if not isinstance(value, types.ModuleType) or not is_project(value.__name__):
                    break
                owner, value = vars(value), getattr(value, attribute, _MISSING)
                path.append(attribute)
            word = (
                "missing"
                if value is _MISSING
                else self.reach(value, f"{file_of(owner)}:{path[-1]}")
            )
            lines.append(f"{'.'.join(path)} {word}")
        return lines

    def _imports(self, node: ast.AST, names: dict[str, Any]) -> list[str]:
        """What a function imports inside is imported now: its code counts like any other."""
        lines = []
        for level, module_name, used in local_imports(node):
            package = str(names.get("__package__") or "")
            try:
                full = importlib.util.resolve_name("." * level + module_name, package)
                if not is_project(full.partition(".")[0]) or is_installed(full):
                    self._package(full)
                    continue
                module = importlib.import_module(full)
            except ImportError:
                lines.append(f"import {level} {module_name} missing")
                continue
            value = module if used in (None, "*") else getattr(module, str(used), _MISSING)
            if value is _MISSING:
                value = sys.modules.get(f"{full}.{used}", _MISSING)
            called = f"{file_of(vars(module))}:{used}"
            word = "missing" if value is _MISSING else self.reach(value, called)
            lines.append(f"import {full} {used} {word}")
        return lines

    # ---- classes

    def _class(self, kind: type) -> str:
        if not is_project(kind.__module__):
            self._package(kind.__module__)
            return f"library {type_name(kind)}"
        module = sys.modules.get(kind.__module__)
        names = vars(module) if module else {"__name__": kind.__module__}
        name = self._named(kind, f"{file_of(names)}:{kind.__qualname__}")
        if name is not None:
            self._pending.append(lambda: self._walk_class(kind, name, names))
        return f"code {self._known[id(kind)][0]}"

    def _walk_class(self, kind: type, name: str, names: dict[str, Any]) -> None:
        node = find_class(kind)
        lines = [f"base {self.reach(base, name)}" for base in kind.__bases__]
        lines.append(f"metaclass {self.reach(type(kind), name)}")
        if node is not None:
            lines.append(normal_form(node, lambda each: is_ours(each, names)))
            chains = tuple((each,) for each in sorted(class_level_names(node)) if each in names)
            lines += self._globals(chains, names)
        for member in sorted(vars(kind)):
            value = vars(kind)[member]
            if _is_written(member, value, kind, generated=node is None):
                lines.append(f"{member} {self.reach(value, f'{name}.{member}')}")
        self.parts[name] = self._digest("\n".join(lines))


def _is_written(member: str, value: Any, kind: type, *, generated: bool) -> bool:
    """Say whether a member of a class stands in its source, rather than made from it."""
    inner = getattr(value, "__func__", value)
    if isinstance(inner, types.FunctionType):
        # What dataclasses and their like generate follows from the source that it is made of.
        home = inner.__globals__.get("__name__")
        return generated or (is_project(str(home)) and _has_source(inner))
    if member in _BOOKKEEPING or (member.startswith("__") and member.endswith("__")):
        return False
    if isinstance(value, _DESCRIPTORS):
        return False
    members = getattr(kind, "_member_map_", None)
    # An enum keeps its members as objects of its own; its source has them, and each has a value.
    return members is None or not (member.startswith("_") or member in members)


def _has_source(function: types.FunctionType) -> bool:
    return not function.__code__.co_filename.startswith("<") or find_function(function) is not None


def _called(word: str, suffix: str) -> str:
    return word.removeprefix("code ") + suffix


def _defaults(function: types.FunctionType) -> list[tuple[str, Any]]:
    positional = function.__defaults__ or ()
    code = function.__code__
    names = code.co_varnames[code.co_argcount - len(positional) : code.co_argcount]
    return [*zip(names, positional, strict=True), *sorted((function.__kwdefaults__ or {}).items())]


def _cell(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not yet filled: a function that is defined further down
        return _MISSING


def _wrapped(value: Any) -> Any:
    """Return the function inside a decorated one, or None."""
    found = None
    state = getattr(value, "__dict__", None)
    if isinstance(state, dict) and callable(state.get("__wrapped__")):
        found = state["__wrapped__"]
    elif type(value).__module__.partition(".")[0] == "daskflow":
        found = getattr(value, "fn", None)
    return found


def _never(decorator: ast.expr) -> bool:
    return False
