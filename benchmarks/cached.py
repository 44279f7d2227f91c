"""W6: a cached function against joblib.Memory, its first run and a rerun in another process.

Each contender is a process of its own (`cached_work`), which says what the calls took.  "first"
finds an empty folder; "cached" finds what an earlier process of the same contender has kept.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks.cpu import CpuSeconds
from benchmarks.harness import Case, WrongValue
from benchmarks.measurement import Timing

__all__ = ["TITLES", "cached_cases"]

_ROOT = Path(__file__).parent.parent
_MB = 1_000_000
# what `cached_work` is told, by contender; the control first, then the subject
_HOW = {
    "joblib.Memory": "joblib",
    "daskflow": "call",
    "daskflow, threads": "threads",
    "daskflow, processes": "processes",
}


class _Work(NamedTuple):
    """What is called: how often, with how much, and by whom."""

    what: str
    calls: int
    size: int
    quick_calls: int
    quick_size: int
    contenders: tuple[str, ...]


_ALL = tuple(_HOW)
_WORK = {
    "W6.many": _Work("frames", 200, _MB, 30, _MB, _ALL),
    "W6.large": _Work("frames", 1, 200 * _MB, 1, 20 * _MB, _ALL),
    # a first run of joblib takes minutes and is not what this is about
    "cached.tiny": _Work("tiny", 10_000, 0, 500, 0, ("joblib.Memory", "daskflow, processes")),
}
TITLES = {
    "W6.many.first": "200 frames of 1 MB through a cached task, first run, against joblib.Memory",
    "W6.many.cached": "the same in another process, results kept, against joblib.Memory",
    "W6.large.first": "one frame of 200 MB through a cached task, first run, against joblib.Memory",
    "W6.large.cached": "the same in another process, result kept, against joblib.Memory",
    "cached.tiny": "10,000 tiny task runs, submitted, results kept, against joblib.Memory",
}


def cached_cases(scratch: Path, *, quick: bool, controls_only: bool = False) -> list[Case]:
    """Return the cases of W6; kept results go below ``scratch``."""
    return [_case(name, scratch, quick, controls_only) for name in TITLES]


def _case(name: str, scratch: Path, quick: bool, controls_only: bool) -> Case:
    first = name.endswith(".first")
    work = _WORK[name.removesuffix(".first").removesuffix(".cached")]
    count = work.quick_calls if quick else work.calls
    size = work.quick_size if quick else work.size
    who = work.contenders[:1] if controls_only else work.contenders
    contenders = {each: _contender(work.what, each, count, size, scratch, first) for each in who}
    return Case(name, TITLES[name], count, count, contenders)


def _contender(
    what: str, who: str, count: int, size: int, scratch: Path, first: bool
) -> Callable[[], Timing]:
    how = _HOW[who]
    kept = scratch / f"kept-{what}-{how}-{count}-{size}"

    def once(folder: Path) -> Timing:
        return _process([what, how, str(folder), str(count), str(size)])

    def run() -> Timing:
        if first:
            with tempfile.TemporaryDirectory(prefix="cached-", dir=scratch) as folder:
                return once(Path(folder))
        if not kept.exists():
            once(kept)
        return once(kept)

    return run


def _process(arguments: list[str]) -> Timing:
    """Have a new process do the work; `WrongValue` when it fails or a result is another one."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.cached_work", *arguments],
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise WrongValue(
            f"cached work {' '.join(arguments)} ended with {done.returncode}:\n"
            f"{done.stderr[-2000:]}"
        )
    found = json.loads(done.stdout.splitlines()[-1])
    return Timing(found["wall_s"], CpuSeconds(**found["cpu"]))
