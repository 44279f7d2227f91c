"""Wheel and sdist hold daskflow/ and nothing else, and work where the repository is not.

The rooms are symlinks in the repository and real folders in what is shipped.  Nothing is
downloaded: each install goes into an environment that reads this one's other packages.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("caching", "dashboards", "results", "runner")
OWN = ("pyproject.toml", "MANIFEST.in", "README.md", "CHANGELOG.md", "LICENSE", "daskflow", "tests")


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def product_files() -> set[str]:
    """What the source tree has under daskflow/, seen through the room symlinks."""
    folders = [ROOT / "daskflow", *(ROOT / room for room in ROOMS)]
    found = set()
    for folder in folders:
        inside = Path() if folder.name == "daskflow" else Path(folder.name)
        for file in folder.rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                found.add(str("daskflow" / inside / file.relative_to(folder)))
    return found


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build sdist and wheel from a copy of the tree, so the repository stays as it was."""
    source = tmp_path_factory.mktemp("source")
    skip = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")
    for name in (*OWN, *ROOMS):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=skip)
        elif (ROOT / name).exists():
            shutil.copy(ROOT / name, source / name)
    dist = tmp_path_factory.mktemp("dist")
    build = (sys.executable, "-m", "build", "--no-isolation", "--outdir", dist)
    run(*build, "--sdist", "--wheel", source, cwd=source)
    return dist


@pytest.fixture(scope="module")
def install(
    built: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[Path, Path]]:
    """Install the file that matches a pattern elsewhere; return its python and its folder."""

    def install(pattern: str) -> tuple[Path, Path]:
        (file,) = built.glob(pattern)
        place = tmp_path_factory.mktemp("elsewhere")
        run(sys.executable, "-m", "venv", "--without-pip", place / "env", cwd=place)
        python = place / "env" / "bin" / "python"
        (site,) = (place / "env" / "lib").glob("python3*/site-packages")
        # A plain path line: other packages are found, this environment's own .pth files (the
        # editable install of daskflow) are not read.
        others = {str(Path(p)) for p in sys.path if p.endswith("site-packages")}
        (site / "others.pth").write_text("\n".join(sorted(others)) + "\n")
        pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet")
        run(*pip, "--no-deps", "--no-index", "--no-build-isolation", file, cwd=place)
        return python, site

    return install


def test_wheel_holds_every_product_file_and_nothing_else(built):
    (file,) = built.glob("*.whl")
    with zipfile.ZipFile(file) as wheel:
        names = set(wheel.namelist())
    assert {name for name in names if ".dist-info/" not in name} == product_files()
    assert "daskflow/py.typed" in names


def test_sdist_holds_every_product_file_and_metadata_only(built):
    (file,) = built.glob("*.tar.gz")
    with tarfile.open(file) as sdist:
        members = [m for m in sdist.getmembers() if not m.isdir()]
    assert not [m.name for m in members if not m.isfile()], "a link would dangle where it lands"
    names = {m.name.partition("/")[2] for m in members}
    assert {name for name in names if name.startswith("daskflow/")} == product_files()
    rest = {n for n in names if not n.startswith(("daskflow/", "daskflow.egg-info/"))}
    assert rest <= {*OWN, "PKG-INFO", "setup.cfg"}


@pytest.mark.parametrize("pattern", ["*.whl", "*.tar.gz"])
def test_installed_elsewhere_it_imports_reads_its_data_and_has_a_command(install, pattern):
    python, site = install(pattern)
    program = (
        "import daskflow, daskflow.runner.store, daskflow.results, daskflow.caching\n"
        "import importlib.util as u\n"
        "print(daskflow.__file__)\n"
        "print([n for n in ('runner', 'results', 'caching', 'dashboards') if u.find_spec(n)])\n"
    )
    where, bare_rooms = run(python, "-c", program, cwd=site.parent).splitlines()
    assert Path(where) == site / "daskflow" / "__init__.py"
    assert bare_rooms == "[]"
    assert {file for file in product_files() if not (site / file).is_file()} == set()
    assert "Usage:" in run(python.parent / "daskflow", "--help", cwd=site.parent)


def test_what_the_product_imports_is_what_it_declares():
    """What is an extra of its own may be imported by the files that are named after it."""
    modules = {
        module
        for folder in (ROOT / "daskflow", *(ROOT / room for room in ROOMS))
        for file in folder.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        for name in imported(node)
        if (module := name.partition(".")[0]) not in file.stem.split("_")
    }
    ours = {"daskflow", "__main__", *sys.stdlib_module_names}
    distributions = metadata.packages_distributions()
    needed = {distributions.get(module, [module])[0] for module in modules - ours}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[\s<>=\[;]", line)[0] for line in project["dependencies"]}
    assert {canonical(name) for name in needed} - {canonical(name) for name in declared} == set()


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) and node.module else []


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
