"""tests/side_by_side.py: no test is left out or run twice, and the last line tells of all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.side_by_side import SHARES, closing_line, files_of

ROOT = Path(__file__).resolve().parents[2]


def test_each_file_with_tests_is_in_one_share(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert sorted(file for share in SHARES for file in files_of(share)) == sorted(
        Path("tests").rglob("test_*.py")
    )
    assert all(files_of((path,)) for share in SHARES for path in share)


@pytest.mark.parametrize(
    ("outputs", "line"),
    [
        (["..\n== 3 passed in 1.00s ==\n", "2 passed in 0.10s\n"], "5 passed in 3.00s"),
        (
            [
                "= 1 failed, 3 passed, 1 skipped, 2 warnings in 61.00s (0:01:01) =\n",
                "= 1 passed, 1 skipped, 1 warning, 1 error in 1.00s =\n",
            ],
            "1 failed, 4 passed, 2 skipped, 3 warnings, 1 error in 3.00s",
        ),
        (["= 4 passed, 2 errors in 1.00s =\n", "Killed\n"], "4 passed, 3 errors in 3.00s"),
    ],
)
def test_the_closing_line_adds_up_the_shares(outputs, line):
    assert closing_line(outputs, 3.0).strip("= ") == line


@pytest.mark.parametrize(
    ("bodies", "status", "line"),
    [
        (("pass", "pass"), 0, "2 passed in "),
        (("pass", "raise ValueError"), 1, "1 failed, 1 passed in "),
        (("raise SystemExit", "pass"), 1, "1 failed, 1 passed in "),
        (("import os; os._exit(7)", "pass"), 7, "1 passed, 1 error in "),
    ],
)
def test_one_share_that_fails_fails_all(tmp_path, bodies, status, line):
    for number, body in enumerate(bodies):
        (tmp_path / f"{number}").mkdir()
        (tmp_path / f"{number}" / "test_it.py").write_text(f"def test_it():\n    {body}\n")
    program = (
        "import sys\nfrom tests import side_by_side\n"
        "side_by_side.SHARES = (('0',), ('1',))\nsys.exit(side_by_side.main())"
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\n")
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert line in done.stdout.splitlines()[-1]
    assert [line for line in done.stdout.splitlines() if line[:3] == "---"] == ["--- 0", "--- 1"]
