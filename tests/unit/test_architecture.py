"""The laws of the house as code: what layer contracts (pyproject.toml) cannot say.

Everything is read from the source, so a law fails with the file and line that broke it.
"""

from __future__ import annotations

import ast
import importlib
import io
import json
import re
import subprocess
import sys
import tokenize
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("caching", "dashboards", "results", "runner")
PRODUCT = sorted(
    path
    for folder in ("daskflow", *ROOMS)
    for path in (ROOT / folder).rglob("*.py")
    if not any((ROOT / "daskflow" / room) in path.parents for room in ROOMS)
)
EVERYTHING = sorted(
    {*PRODUCT, *(p for f in ("tests", "benchmarks", "examples") for p in (ROOT / f).rglob("*.py"))}
)

# Where logic has no clock, no chance and no I/O of its own.  Files that do not exist are no fault:
# the rule is there before the file is.
PURE = (
    "runner/core/",
    "caching/binding.py",
    "caching/hashing.py",
    "caching/keys.py",
    "caching/policy.py",
    "dashboards/data.py",
)
IMPURE = {
    *("asyncio", "bokeh", "dask", "distributed", "fsspec", "logging", "random", "secrets"),
    *("socket", "sqlite3", "subprocess", "threading", "time", "uuid"),
}
# What the front door must not drag in; each costs from 0.06 to 0.56 s.
HEAVY = (
    "bokeh",
    "dask",
    "distributed",
    "pandas",
    "polars",
    "psycopg",
    "pyarrow",
    "pydantic",
    "rich",
)
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
VAGUE = {"base", "common", "factory", "handler", "helpers", "internal", "manager", "misc", "util"}


def short(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=short(path))


@cache
def commented_lines(path: Path) -> frozenset[int]:
    """Lines that carry a comment which says something (`# noqa` and `# type:` say nothing)."""
    tokens = tokenize.generate_tokens(io.StringIO(path.read_text()).readline)
    mute = re.compile(r"#\s*(noqa|type:|fmt:|pragma)")
    return frozenset(
        token.start[0]
        for token in tokens
        if token.type == tokenize.COMMENT and not mute.match(token.string)
    )


def explained(path: Path, *lines: int) -> bool:
    """Say whether a comment stands on one of the lines or right above the first."""
    return not commented_lines(path).isdisjoint({*lines, min(lines) - 1})


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) and node.module else []


def runtime_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Walk a tree without what stands under ``if TYPE_CHECKING``."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)):
            yield from runtime_nodes(child)


def local_imports(path: Path) -> Iterator[list[ast.stmt]]:
    """Yield the imports inside functions, those on consecutive lines together."""
    for function in ast.walk(tree(path)):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        group: list[ast.stmt] = []
        for node in ast.walk(function):
            if not isinstance(node, ast.Import | ast.ImportFrom):
                continue
            if group and node.lineno != (group[-1].end_lineno or 0) + 1:
                yield group
                group = []
            group.append(node)
        if group:
            yield group


def broken(law: Callable[[Path], Iterable[object]], paths: Sequence[Path]) -> list[str]:
    """Apply a law to files; it yields what breaks it, a node or words."""
    return [
        f"{short(path)}:{getattr(found, 'lineno', '')}: "
        + (ast.unparse(found) if isinstance(found, ast.AST) else str(found))[:120]
        for path in paths
        for found in law(path)
    ]


# ---- shape


def test_the_laws_see_the_product():
    assert {short(path).partition("/")[0] for path in PRODUCT} == {"daskflow", *ROOMS}


def test_a_file_is_one_noun_of_at_most_400_lines():
    def law(path):
        if (lines := len(path.read_text().splitlines())) > 400:
            yield f"{lines} lines"

    assert broken(law, EVERYTHING) == []


def test_a_file_is_named_after_what_it_holds():
    def law(path):
        for part in path.relative_to(ROOT).with_suffix("").parts:
            yield from VAGUE & {word.rstrip("s") for word in part.split("_")}

    assert broken(law, PRODUCT) == []


def test_a_module_says_what_lives_in_it_and_what_is_public():
    def law(path):
        module = tree(path)
        if not ast.get_docstring(module):
            yield "no header docstring"
        defines = any(isinstance(node, DEFINITIONS) for node in module.body)
        if defines and not any(exports(node) for node in module.body):
            yield "no __all__"

    assert broken(law, PRODUCT) == []


def exports(node: ast.AST) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets)


def test_every_exported_name_can_be_had():
    """From the module itself, so a name that a module-level ``__getattr__`` serves counts."""

    def law(path):
        if any(exports(node) for node in tree(path).body):
            module = importlib.import_module(dotted(path))
            yield from (name for name in module.__all__ if not hasattr(module, name))

    assert broken(law, PRODUCT) == []


def dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    inside = parts if parts[0] == "daskflow" else ("daskflow", *parts)
    return ".".join(part for part in inside if part != "__init__")


def test_two_public_classes_never_share_a_name():
    places: dict[str, list[str]] = {}
    for path in PRODUCT:
        for node in tree(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(short(path))
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


# ---- imports


def test_an_import_inside_a_function_says_why():
    def law(path):
        for group in local_imports(path):
            if not explained(path, *range(group[0].lineno, (group[-1].end_lineno or 0) + 1)):
                yield group[0]

    assert broken(law, PRODUCT) == []


def test_no_module_is_part_of_an_import_cycle():
    """Imports inside functions count: a cycle hidden in one is a cycle."""
    graph = grimp.build_graph("daskflow", exclude_type_checking_imports=True, cache_dir=None)
    # A module takes part in a cycle if it is downstream of itself.
    inside = {
        module: sorted(graph.find_upstream_modules(module) & graph.find_downstream_modules(module))
        for module in graph.modules
        if module != "daskflow"  # the front door refers to everything, by name and on demand
    }
    assert {module: others for module, others in inside.items() if others} == {}


def test_a_pure_module_takes_time_and_chance_as_arguments():
    def law(path):
        for node in runtime_nodes(tree(path)):
            if {name.partition(".")[0] for name in imported(node)} & IMPURE:
                yield node

    assert broken(law, [p for p in PRODUCT if short(p).startswith(PURE)]) == []


def test_what_runs_on_workers_knows_no_flow_and_no_engine():
    graph = grimp.build_graph("daskflow", exclude_type_checking_imports=True, cache_dir=None)
    needed = graph.find_upstream_modules("daskflow.runner.cluster.executor", as_package=True)
    kept_out = {"engine", "flows", "futures", "service", "session", "store", "cli", "dashboards"}
    below = ("daskflow.caching", "daskflow.results")  # the result store is no run store
    above = {name for name in needed if not name.startswith(below)}
    assert {name for name in above if not kept_out.isdisjoint(name.split("."))} == set()


def test_importing_daskflow_loads_nothing_heavy():
    program = (
        "import sys, json, daskflow, daskflow.errors; dir(daskflow)\n"
        f"print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    )
    assert json.loads(python("-c", program).stdout) == []


def test_the_command_line_shows_its_help_without_a_cluster():
    program = (
        "import sys, json\n"
        "from daskflow.runner.cli.main import main\n"
        "sys.argv = ['daskflow', '--help']\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        f"print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    )
    loaded = json.loads(python("-c", program).stdout.splitlines()[-1])
    assert set(loaded) & {"bokeh", "dask", "distributed", "pandas", "pyarrow"} == set()


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_refuses_its_bare_name(room):
    done = python("-c", f"import {room}", cwd=ROOT, check=False)
    assert done.returncode == 1
    assert f"ImportError: '{room}' is a folder of daskflow" in done.stderr


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_a_relative_link_to_the_folder_at_the_top(room):
    assert (ROOT / "daskflow" / room).readlink() == Path("..") / room


def python(*arguments: str, cwd: Path | None = None, check: bool = True):
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, check=check, capture_output=True, text=True
    )


# ---- habits


def test_an_exception_is_never_swallowed_without_a_word():
    def law(path):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ExceptHandler):
                silent = [type(step) for step in node.body] == [ast.Pass]
                if silent and not explained(path, node.lineno, node.body[0].lineno):
                    yield node
                if node.type is None:
                    yield node

    assert broken(law, EVERYTHING) == []


SQL = re.compile(
    r"^\s*(select\s.+\sfrom|insert\s+(or\s+\w+\s+)?into|update\s+\w+\s+set|delete\s+from"
    r"|create\s+(table|index|unique|view|trigger)|alter\s+table|drop\s+table|with\s+\w+.*\sas\s*\()\b",
    re.IGNORECASE | re.DOTALL,
)


def test_sql_stands_in_sql_files():
    def law(path):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Constant) and SQL.match(str(node.value)):
                yield node

    assert broken(law, PRODUCT) == []


def test_no_unfinished_work_is_committed():
    mark = re.compile(r"#.*\b(TODO|FIXME|XXX|HACK)\b")
    others = [path for path in EVERYTHING if path != Path(__file__)]
    assert broken(lambda path: (m[0] for m in mark.finditer(path.read_text())), others) == []


@pytest.mark.parametrize("path", sorted((ROOT / "ci").iterdir()), ids=short)
def test_a_ci_script_stops_at_the_first_error(path):
    if path.suffix != ".txt":
        text = path.read_text()
        assert "set -euo pipefail" in text or '/env"' in text or path.name == "run"


def test_constraints_are_names_and_versions_only():
    lines = (ROOT / "ci" / "constraints.txt").read_text().splitlines()
    wrong = [s for s in lines if not re.fullmatch(r"#.*|[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", s)]
    assert wrong == []
