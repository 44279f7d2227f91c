"""README and docs are true: their programs run, their commands run, their links lead somewhere.

Each page gets a folder.  A ```python block whose first line is ``# name.py`` is saved there under
that name; any other one is run as a script.  In a ```console block every ``$ `` line is run in
that folder, and the lines below it, if any, are what it must print (``...`` stands for anything).

The README runs as a reader would run it, with local workers for each program.  On other pages
these are not the point: flows that name no task runner share the session's cluster.
"""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


class Block(NamedTuple):
    language: str
    text: str
    line: int


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for match in FENCE.finditer(text):
        yield Block(match[1], match[2], text.count("\n", 0, match.start()) + 1)


@pytest.fixture
def setting(request: pytest.FixtureRequest, page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the session's cluster the default task runner of what a page runs."""
    if page.name != "README.md":
        address = request.getfixturevalue("cluster").scheduler_address
        monkeypatch.setenv("DASKFLOW_RUNNER__TASK_RUNNER", address)


def run(command: list[str] | str, folder: Path, where: str) -> str:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        command,
        shell=isinstance(command, str),
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, f"{where}: {command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def commands(block: Block) -> Iterator[tuple[str, str]]:
    """Yield each command of a console block with the output shown below it."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        yield command, shown


@pytest.mark.parametrize(
    "page",
    [p for p in PAGES if any(b.language in ("python", "console") for b in blocks(p))],
    ids=name,
)
@pytest.mark.usefixtures("setting")
def test_every_program_and_command_on_a_page_runs(page, tmp_path):
    for block in blocks(page):
        where = f"{name(page)}:{block.line}"
        title = re.match(r"# (\w+\.py)\n", block.text)
        if block.language == "python":
            file = tmp_path / (title[1] if title else f"block_{block.line}.py")
            file.write_text(block.text)
            if not title:
                run([sys.executable, file.name], tmp_path, where)
        elif block.language == "console":
            for command, shown in commands(block):
                printed = run(command, tmp_path, where)
                same = doctest.OutputChecker().check_output(shown, printed, doctest.ELLIPSIS)
                assert not shown or same, f"{where}: {command} printed {printed!r}"


def test_the_set_up_commands_of_the_readme_are_scripts_of_this_repository():
    (block,) = [b for b in blocks(ROOT / "README.md") if b.language == "bash"]
    scripts = [line.removeprefix("bash ") for line in block.text.splitlines()]
    assert scripts == ["ci/example", "ci/test"]
    assert all(os.access(ROOT / script, os.X_OK) for script in scripts)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_inside_the_repository_leads_somewhere(page):
    prose = FENCE.sub("", page.read_text())
    targets = [t for t in re.findall(r"\]\(([^)#]+)", prose) if "://" not in t]
    assert [t for t in targets if not (page.parent / t).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_script_that_is_named_exists(page):
    named = set(re.findall(r"(?<![\w./-])\.?ci/[a-z]+(?:\.txt)?", page.read_text()))
    assert [script for script in named if not (ROOT / script).exists()] == []
