"""What a process of W6 does: call a cached function with many values, once, and time the calls.

``python -m benchmarks.cached_work WORK HOW FOLDER COUNT SIZE`` prints wall and CPU seconds as JSON.
Results are kept below FOLDER, so a second process finds them.  Imports, making the values, the
start of a cluster and one call to warm up are not timed, for any contender; results are checked.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.bodies import inc
from benchmarks.cpu import CpuSeconds, Meter
from benchmarks.engines import overridden, settings

ROW_BYTES = 48


def frame_of(size_bytes: int, seed: int) -> pd.DataFrame:
    """Return a frame of flight-like columns: numbers and times."""
    chance = np.random.default_rng(seed)
    rows = size_bytes // ROW_BYTES
    return pd.DataFrame(
        {
            **{f"x{i}": chance.random(rows) for i in range(3)},
            "n": chance.integers(0, 1000, rows),
            "at": pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(rows), unit="s"),
            "k": chance.integers(0, 1 << 40, rows),
        }
    )


def double(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a new frame with one column changed."""
    return frame.assign(x0=frame["x0"] * 2)


def _frames(count: int, size: int) -> tuple[list[Any], Any]:
    return [frame_of(size, seed) for seed in range(count)], frame_of(100 * ROW_BYTES, count)


def _numbers(count: int, size: int) -> tuple[list[Any], Any]:
    return list(range(count)), -1


# the function, and what makes `count` arguments of `size` bytes and one more to warm up
WORK: Mapping[str, tuple[Callable[[Any], Any], Callable[[int, int], tuple[list[Any], Any]]]] = {
    "frames": (double, _frames),
    "tiny": (inc, _numbers),
}


def _with_joblib(function: Callable[[Any], Any], folder: Path) -> Callable[..., list[Any]]:
    import joblib  # a control, of the development environment only

    cached = joblib.Memory(folder, verbose=0).cache(function)
    return lambda values: [cached(value) for value in values]


def _timed(body: Callable[[Sequence[Any]], list[Any]], values: list[Any], warm: Any) -> list[Any]:
    body([warm])
    meter = Meter()
    idle = meter.settled()
    began = time.perf_counter()
    results = body(values)
    ended = time.perf_counter()
    cpu: CpuSeconds = meter.spent_since(idle, results_at=ended)
    print(json.dumps({"wall_s": ended - began, "cpu": cpu._asdict()}))
    return results


def _with_daskflow(
    function: Callable[[Any], Any], how: str, folder: Path, values: list[Any], warm: Any
) -> list[Any]:
    """Run in the body of a flow; `how` is ``call``, or the task runner to submit to."""
    from daskflow import flow, task

    cached = task(persist_result=True)(function)
    results: list[Any] = []  # not the flow's return value: what is returned may be persisted

    def called(values: Sequence[Any]) -> list[Any]:
        return [cached(value) for value in values]

    def submitted(values: Sequence[Any]) -> list[Any]:
        return [future.result() for future in [cached.submit(value) for value in values]]

    @flow(name="benchmark", task_runner="processes" if how == "call" else how)
    def benchmark() -> None:
        results.extend(_timed(called if how == "call" else submitted, values, warm))

    with overridden({**settings(folder), "DASKFLOW_RUNNER__WORKERS": "2"}):
        benchmark()
    return results


def main(work: str, how: str, folder: str, count: str, size: str) -> None:
    """Do the work, and fail when a result is another one than the plain function gives."""
    function, make = WORK[work]
    values, warm = make(int(count), int(size))
    if how == "joblib":
        results = _timed(_with_joblib(function, Path(folder)), values, warm)
    else:
        results = _with_daskflow(function, how, Path(folder), values, warm)
    for value, result in zip(values, results, strict=True):
        expected = function(value)
        if isinstance(expected, pd.DataFrame):
            pd.testing.assert_frame_equal(result, expected)
        elif result != expected:
            sys.exit(f"{how} gave {result!r} for {value!r}, expected {expected!r}")


if __name__ == "__main__":
    main(*sys.argv[1:])
