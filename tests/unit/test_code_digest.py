"""Code digests: what changes them, what does not, and how the pieces are named."""

from __future__ import annotations

import functools
import importlib
import itertools
import linecache
import os
import subprocess
import sys
import textwrap
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from daskflow.caching.code import CodeDigest, code_digest
from daskflow.caching.hashing import content_digest
from daskflow.errors import Uncacheable, UsageError
from tests.unit.code_pairs import PAIRS

_numbers = itertools.count()


@pytest.fixture
def project(tmp_path, monkeypatch) -> Iterator[Callable[..., types.ModuleType]]:
    """Return ``make(flows="…", clean="…")``: writes modules afresh, imports and returns flows."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    made: set[str] = set()

    def make(**sources: str) -> types.ModuleType:
        for name, text in sources.items():
            file = tmp_path / f"{name}.py"
            file.write_text(textwrap.dedent(text))
            # Files of equal size written within one tick of the clock look unchanged.
            at = 1_700_000_000 + next(_numbers) * 10
            os.utime(file, (at, at))
            made.add(name)
        for name in made:
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        return importlib.import_module("flows")

    yield make
    for name in made:
        sys.modules.pop(name, None)
    linecache.checkcache()


def changed(old: CodeDigest, new: CodeDigest) -> set[str]:
    return {n for n in {*old.parts, *new.parts} if old.parts.get(n) != new.parts.get(n)}


FLOWS = """
    from daskflow import task
    from clean import strip, WIDTH
    import settings

    LIMIT = 5

    def double(x):
        return 2 * x

    @task(retries=1)
    def load(x, y=3):
        return [double(strip(i)) for i in x][: LIMIT + settings.OFFSET]
"""
CLEAN = """
    import numbers_of

    WIDTH = 3

    def strip(x):
        return numbers_of.parse(x.strip()[:WIDTH])

    def unused(x):
        return x
"""
NUMBERS = """
    class Parser:
        base = 10

        def parse(self, x):
            return int(x, self.base)

    def parse(x):
        return Parser().parse(x)
"""
SETTINGS = "OFFSET = 1\nNAME = 'a'\n"
SOURCES = {"flows": FLOWS, "clean": CLEAN, "numbers_of": NUMBERS, "settings": SETTINGS}

SAME = {
    "comment": ("flows", "LIMIT = 5", "# five\n    LIMIT = 5  # or so"),
    "docstring": ("clean", "def strip(x):", 'def strip(x):\n        """Strip."""'),
    "annotations": ("flows", "def load(x, y=3):", "def load(x: list, y: int = 3) -> list:"),
    "layout": ("clean", "x.strip()[:WIDTH]", "(\n            x.strip()[ : WIDTH]\n        )"),
    "options of the task": ("flows", "@task(retries=1)", "@task(retries=5, name='x')"),
    "an unused helper": ("clean", "        return x\n", "        return 2 * x\n"),
    "an unused setting": ("settings", "NAME = 'a'", "NAME = 'b'"),
    "a line above": ("numbers_of", "class Parser", "import os\n\n    class Parser"),
}


@pytest.mark.parametrize(("file", "old", "new"), SAME.values(), ids=SAME.keys())
def test_what_changes_no_result_changes_no_digest(project, file, old, new):
    before = code_digest(project(**SOURCES).load)
    edited = SOURCES[file].replace(old, new)
    assert edited != SOURCES[file]
    assert code_digest(project(**{file: edited}).load) == before


DIFFERENT = {
    "the function": ("flows", "for i in x]", "for i in x if i]", "flows.py:load"),
    "a default": ("flows", "y=3", "y=4", "flows.py:load(default y)"),
    "a constant": ("flows", "LIMIT = 5", "LIMIT = 6", "flows.py:LIMIT"),
    "type of a constant": ("flows", "LIMIT = 5", "LIMIT = 5.0", "flows.py:LIMIT"),
    "a helper": ("flows", "2 * x", "3 * x", "flows.py:double"),
    "an imported helper": ("clean", "x.strip()", "x.lstrip()", "clean.py:strip"),
    "a constant of a helper": ("clean", "WIDTH = 3", "WIDTH = 4", "clean.py:WIDTH"),
    "a helper two modules away": ("numbers_of", "Parser().parse(x)", "Parser().parse(x) + 1",
                                  "numbers_of.py:parse"),
    "a method two modules away": ("numbers_of", "int(x, self.base)", "int(x, self.base) + 1",
                                  "numbers_of.py:Parser.parse"),
    "a setting": ("settings", "OFFSET = 1", "OFFSET = 2", "settings.py:OFFSET"),
}  # fmt: skip


@pytest.mark.parametrize(("file", "old", "new", "part"), DIFFERENT.values(), ids=DIFFERENT.keys())
def test_what_can_change_a_result_changes_the_part_that_it_is(project, file, old, new, part):
    before = code_digest(project(**SOURCES).load)
    edited = SOURCES[file].replace(old, new)
    assert edited != SOURCES[file]
    after = code_digest(project(**{file: edited}).load)
    assert after.digest != before.digest
    assert changed(before, after) == {part}


def test_an_attribute_of_a_class_counts(project):
    before = code_digest(project(**SOURCES).load)
    after = code_digest(project(numbers_of=NUMBERS.replace("base = 10", "base = 8")).load)
    assert changed(before, after) == {"numbers_of.py:Parser", "numbers_of.py:Parser.base"}


def digests(project, one: str, other: str, name: str = "f") -> tuple[CodeDigest, CodeDigest]:
    return code_digest(getattr(project(flows=one), name)), code_digest(
        getattr(project(flows=other), name)
    )


@pytest.mark.parametrize(("one", "other"), PAIRS.values(), ids=PAIRS.keys())
def test_different_code_has_different_digests(project, one, other):
    first, second = digests(project, one, other)
    assert first.digest != second.digest
    assert changed(first, second)
    again, _ = digests(project, one, other)
    assert again == first


def test_names_imported_inside_a_function_count(project):
    flows = "def f(x):\n    from clean import strip\n    return strip(x)\n"
    other = "def f(x):\n    import clean as c\n    return c.strip(x)\n"
    clean = "import json\nWIDTH = 1\ndef strip(x): return x[:WIDTH]\ndef unused(): return 1\n"
    for text in (flows, other):
        before = code_digest(project(flows=text, clean=clean).f)
        unused = code_digest(project(clean=clean.replace("return 1", "return 2")).f)
        after = code_digest(project(clean=clean.replace("WIDTH = 1", "WIDTH = 2")).f)
        assert unused == before
        assert changed(before, after) == {"clean.py:WIDTH"}


def test_a_module_that_is_handed_on_counts_as_a_whole(project):
    flows = "import settings\ndef f(name): return getattr(settings, name)\n"
    before = code_digest(project(flows=flows, settings=SETTINGS).f)
    after = code_digest(project(settings=SETTINGS.replace("'a'", "'b'")).f)
    assert "settings.py:NAME" in changed(before, after)


def test_packages_count_by_name_and_on_request_by_version(project, monkeypatch):
    make = "import pyarrow as pa\ndef f(x): return pa.table(x)\n"
    function = project(flows=make).f
    before, versioned = code_digest(function), code_digest(function, package_versions=True)
    assert set(before.parts) == {"flows.py:f", "package pyarrow"}
    monkeypatch.setattr("pyarrow.__version__", "0.0.1")
    assert code_digest(function) == before
    assert changed(versioned, code_digest(function, package_versions=True)) == {"package pyarrow"}


def test_source_edited_after_the_import_is_not_taken_for_the_code(project, tmp_path):
    function = project(flows="def f(x):\n    return x + 1\n").f
    (tmp_path / "flows.py").write_text("def f(x):\n    return x + 2\n")
    stale = code_digest(function)
    fresh = code_digest(project(flows="def f(x):\n    return x + 2\n").f)
    assert stale.digest != fresh.digest


def test_source_edited_elsewhere_leaves_a_function_its_digest(project, tmp_path):
    text = "def f(x):\n    return x + 1\n"
    function = project(flows=text).f
    before = code_digest(function)
    linecache.clearcache()
    (tmp_path / "flows.py").write_text("import os\n\n# more\n\n" + text)
    assert code_digest(function) == before


def test_code_without_source_has_a_digest_of_its_bytecode():
    def made(text: str) -> Any:
        names: dict[str, Any] = {"__name__": "__main__"}
        exec(text, names)
        return names["f"]

    one, same, other = (made(f"def f(x):\n    return x + {n}") for n in (1, 1, 2))
    assert code_digest(one) == code_digest(same)
    assert code_digest(one).digest != code_digest(other).digest


def test_a_cell_of_a_notebook_is_source():
    def run(text: str, cell: str) -> Any:
        linecache.cache[cell] = (len(text), None, text.splitlines(True), cell)
        names: dict[str, Any] = {"__name__": "__main__"}
        exec(compile(text, cell, "exec"), names)
        return names["f"]

    one = run("def f(x):\n    return x + 1\n", "<ipython-input-1-aa>")
    later = run("y = 5\n\ndef f(x):  # again\n    return (x + 1)\n", "<ipython-input-7-bb>")
    assert code_digest(one) == code_digest(later)
    assert set(code_digest(one).parts) == {"__main__:f"}


_lock = threading.Lock()


def _locked() -> int:
    with _lock:
        return 1


def _calls_locked() -> int:
    return _locked()


def test_what_cannot_be_hashed_is_named():
    where = r"^tests/unit/test_code_digest\.py:_lock is a _thread\.lock"
    with pytest.raises(Uncacheable, match=where):
        code_digest(_calls_locked)


def test_a_closure_variable_that_cannot_be_hashed_is_named():
    lock = threading.Lock()

    def holds() -> bool:
        return lock.locked()

    with pytest.raises(Uncacheable, match=r"holds\[lock\] is a _thread\.lock"):
        code_digest(holds)


def test_a_function_that_is_part_of_a_value_counts_by_its_code(project):
    one = project(flows="def f(x): return x + 1").f
    other = project(flows="def f(x): return x + 2").f
    assert content_digest([one]) == content_digest([one])
    assert content_digest([one]) != content_digest([other])


def test_a_function_whose_closure_leads_back_to_it_has_a_digest():
    held: dict[str, Any] = {}

    def back() -> Any:
        return held

    held["back"] = [back]
    assert code_digest(back) == code_digest(back)
    assert content_digest(held) == content_digest(held)


def test_only_what_can_be_called_has_code():
    with pytest.raises(UsageError, match="takes a function, not 5"):
        code_digest(5)  # type: ignore[arg-type]


PROGRAM = """
import json, multiprocessing, sys
sys.path.insert(0, sys.argv[1])
import flows
from daskflow.caching.code import code_digest

def digest(_=None):
    return code_digest(flows.load).digest

if __name__ == "__main__":
    found = [digest()]
    if sys.argv[2] == "all":
        for method in ("fork", "spawn"):
            with multiprocessing.get_context(method).Pool(1) as pool:
                found += pool.map(digest, [None])
    print(json.dumps(found))
"""


def test_other_processes_and_hash_seeds_find_the_same_digest(project, tmp_path):
    here = code_digest(project(**SOURCES).load).digest
    (tmp_path / "program.py").write_text(PROGRAM)
    for seed, how in (("1", "all"), ("2", "one")):
        done = subprocess.run(
            [sys.executable, "-B", "program.py", str(tmp_path), how],
            cwd=tmp_path,
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert set(eval(done.stdout)) == {here}


def test_wrapping_with_functools_keeps_what_is_inside():
    @functools.wraps(len)
    def wrapper(x: Any) -> Any:
        return x

    assert code_digest(wrapper).parts
