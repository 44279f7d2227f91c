"""The whole suite as four pytest processes side by side: two of them mostly wait.

Each share is a pytest run of its own, with its own shared clusters, so tests need not know of
the other.  What the first share prints is shown as it comes, that of the others afterwards; the
last line is one for all, in pytest's form.  `python -m tests.side_by_side`, which `ci/test`
calls when it got no arguments.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

__all__ = ["closing_line", "files_of", "main"]

# About as long each, where nothing else runs.  A folder stands for what no pattern names elsewhere;
# together they must be all of tests/: tests/unit/test_side_by_side.py holds that.
SHARES: tuple[tuple[str, ...], ...] = (
    ("tests/cluster",),
    # these wait for processes most of the time
    ("tests/chaos/test_[a-n]*.py",),
    ("tests/chaos", "tests/examples", "tests/browser"),
    (
        *("tests/store", "tests/unit", "tests/contracts"),
        # these start processes of their own, so they do not need the clusters of the first share
        *("tests/cluster/test_bench.py", "tests/cluster/test_cli_*.py"),
        "tests/cluster/test_session_*.py",
    ),
)
ORDER = ("failed", "passed", "skipped", "deselected", "xfailed", "xpassed", "warning", "error")
CLOSING = re.compile(r"^=* ?((?:\d+ [a-z]+(?:, )?)+) in \d[\d.]*s.*$", re.MULTILINE)


def closing_line(outputs: list[str], seconds: float) -> str:
    """Add up what the runs printed as their closing lines; a run without one is an error."""
    counts: Counter[str] = Counter()
    for output in outputs:
        found = CLOSING.findall(output)
        if not found:
            counts["error"] += 1
            continue
        for number, what in re.findall(r"(\d+) ([a-z]+)", found[-1]):
            counts[re.sub(r"(error|warning)s$", r"\1", what)] += int(number)
    told = [
        f"{counts[what]} {what}{'s' if what in ('error', 'warning') and counts[what] > 1 else ''}"
        for what in ORDER
        if counts[what]
    ]
    return f" {', '.join(told)} in {seconds:.2f}s ".center(80, "=")


def files_of(share: tuple[str, ...]) -> list[Path]:
    """The files with tests of one share, below the current folder."""
    named = {file for paths in SHARES for path in paths for file in _named(path)}
    files: list[Path] = []
    for path in share:
        inside = (file for file in Path(path).rglob("test_*.py") if file not in named)
        files += sorted(inside) if Path(path).is_dir() else _named(path)
    return files


def _named(path: str) -> list[Path]:
    return [] if Path(path).is_dir() else sorted(Path().glob(path))


def main() -> int:
    """Run the shares, print what they print, and return the exit code of the worst."""
    began = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # ends the shares too
    with tempfile.TemporaryDirectory(prefix="daskflow-tests-") as folder:
        files = [Path(folder, f"{number}.txt") for number in range(len(SHARES))]
        shares = [start(*pair) for pair in zip(SHARES, files, strict=True)]
        try:
            for paths, share, file in zip(SHARES, shares, files, strict=True):
                print(f"\n--- {' '.join(paths)}", flush=True)
                show(share, file)
        except KeyboardInterrupt:  # the terminal told the shares as well: let them clean up
            for share in shares:
                share.wait()
            return 128 + signal.SIGINT
        finally:
            for share in shares:
                share.terminate()
                share.wait()
        outputs = [file.read_text(errors="replace") for file in files]
    print(closing_line(outputs, time.monotonic() - began), flush=True)
    return next((share.returncode for share in shares if share.returncode), 0)


def start(paths: tuple[str, ...], file: Path) -> subprocess.Popen[bytes]:
    """Start pytest for one share, with its output in a file."""
    with file.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "pytest", *map(str, files_of(paths))],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def show(share: subprocess.Popen[bytes], file: Path) -> None:
    """Print what a share has written, and goes on to write, until it ends."""
    with file.open("rb") as output:
        running = True
        while running:
            running = share.poll() is None
            sys.stdout.write(output.read().decode(errors="replace"))
            sys.stdout.flush()
            if running:
                time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())
