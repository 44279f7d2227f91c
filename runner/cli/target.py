"""From ``FILE[:FLOW]`` to a flow object: loads the script and finds the flow in it.

A script is loaded as `python FILE` would.  The one difference is the module's name: its file's
stem, not ``__main__``, and it is registered in `sys.modules` with its folder first on `sys.path`,
so that its functions can be found by reference and its ``if __name__ == "__main__"`` part does
not run.  A script needs no such part: a flow that it calls at its top level is held back while it
loads, since the command runs the flow itself, with the parameters of the command line.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, TypeVar

from daskflow.errors import NotFoundError, UsageError

__all__ = [
    "Target",
    "calls_held_back",
    "find_flow",
    "load_module",
    "parse_target",
    "standing_as_main",
]

FlowT = TypeVar("FlowT")


class Target(NamedTuple):
    """What stands before and after the colon of ``FILE[:FLOW]``."""

    source: str  # path of a .py file, or a dotted module name
    flow: str | None

    @property
    def is_file(self) -> bool:
        """Whether `source` is meant as a path."""
        return self.source.endswith(".py") or "/" in self.source or "\\" in self.source


def parse_target(text: str) -> Target:
    """Split ``FILE[:FLOW]`` at the last colon that a flow's name can follow."""
    source, colon, flow = text.rpartition(":")
    if not colon:
        return Target(text, None)
    if not source or not flow.isidentifier():
        if Path(text).exists():  # a colon in the path itself
            return Target(text, None)
        raise UsageError(
            f"{text!r} names no flow: write path/to/file.py, file.py:flow or module:flow"
        )
    return Target(source, flow)


def load_module(target: Target) -> ModuleType:
    """Execute the module of `target` and return it; what the module raises goes through."""
    return _load_file(Path(target.source)) if target.is_file else _import(target.source)


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise NotFoundError(f"no file {str(path)!r}{_nearby(path)}")
    path = path.resolve()
    name = path.stem
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) != str(path):
        raise UsageError(
            f"{path.name!r} has the name of the module {name!r} that is already loaded: "
            "rename the file"
        )
    _first_on_path(path.parent)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{str(path)!r} is no Python file: give one that ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]  # half a module must not be found by a later import
        raise
    return module


def _import(name: str) -> ModuleType:
    _first_on_path(Path.cwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # One that the flow's own module misses is its own story, told with its traceback.
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise
        raise NotFoundError(
            f"no module {error.name!r}; a file is given as path/to/{name}.py"
        ) from None


def _first_on_path(folder: Path) -> None:
    if sys.path[:1] != [str(folder)]:
        sys.path.insert(0, str(folder))


def _nearby(path: Path) -> str:
    found = sorted(p.name for p in path.parent.glob("*.py")) if path.parent.is_dir() else []
    return f"; {str(path.parent)!r} has {', '.join(found[:10])}" if found else ""


@contextmanager
def calls_held_back(kind: type[Any], tell: Callable[[str], object]) -> Iterator[None]:
    """Let calls of a flow do nothing but `tell` its name, while the block runs."""
    original = kind.__call__

    def held_back(flow: Any, *_: object, **__: object) -> None:
        tell(flow.name)

    kind.__call__ = held_back
    try:
        yield
    finally:
        kind.__call__ = original


@contextmanager
def standing_as_main(module: ModuleType) -> Iterator[None]:
    """Let a loaded module be ``__main__`` inside, with all that it defines.

    A flow run that `python FILE` started has stored results and content digests of classes that
    are called ``__main__.Order``; what is loaded from FILE again must be the same to them.
    """
    before, name = sys.modules["__main__"], module.__name__
    _rename(module, name, set())
    module.__name__ = "__main__"
    sys.modules["__main__"] = module
    try:
        yield
    finally:
        sys.modules["__main__"] = before


def _rename(owner: object, name: str, seen: set[int]) -> None:
    """Move what `owner` holds, and was defined in the module of that name, to ``__main__``."""
    for value in [*vars(owner).values()]:
        if getattr(value, "__module__", None) != name or id(value) in seen:
            continue
        seen.add(id(value))
        with suppress(AttributeError, TypeError):  # what has no name of its own to change
            value.__module__ = "__main__"
        if hasattr(value, "__dict__"):  # methods, nested classes, the function of a task
            _rename(value, name, seen)


def find_flow(module: ModuleType, target: Target, kind: type[FlowT]) -> FlowT:
    """Return the flow that `target` names; else the module's only one, or the one called as it is.

    Parameters
    ----------
    module : ModuleType
        The loaded module of `target`.
    target : Target
        What the user asked for.
    kind : type
        The class of flows; taken as an argument so that this file needs no engine.

    Raises
    ------
    NotFoundError
        No flow of that name; the message lists those there are.
    UsageError
        No name was given, and the module defines none, or several and none called as it is.
    """
    flows = {name: value for name, value in vars(module).items() if isinstance(value, kind)}
    if target.flow is not None:
        named = [v for n, v in flows.items() if target.flow in (n, getattr(v, "name", None))]
        if named:
            return named[0]
        raise NotFoundError(f"no flow {target.flow!r} in {target.source!r}{_listed(flows, target)}")
    own = {n: v for n, v in flows.items() if _module_of(v) == module.__name__} or flows
    distinct = {id(value): (name, value) for name, value in own.items()}
    if len(distinct) == 1:
        return next(iter(distinct.values()))[1]
    if (namesake := own.get(module.__name__.rpartition(".")[2])) is not None:
        return namesake  # train() of train.py; the others are its subflows
    if not distinct:
        raise UsageError(f"{target.source!r} defines no flow: decorate a function with @flow")
    names = dict(distinct.values())
    raise UsageError(f"{target.source!r} has {len(names)} flows{_listed(names, target)}")


def _module_of(flow: object) -> str | None:
    return getattr(getattr(flow, "fn", None), "__module__", None)


def _listed(flows: dict[str, FlowT], target: Target) -> str:
    if not flows:
        return ", which defines no flow"
    return ": choose " + ", ".join(f"{target.source}:{name}" for name in flows)
