"""Content hashes and keys beside joblib and dask in the same run: ``python -m benchmarks.hashing``.

Prints one table: the goal, what was measured, and what the controls took.  Small values are timed
in CPU time of this thread, fresh ones for every call, so no cache of earlier digests helps; the
large frame in CPU time of all threads against the raw hash of as many bytes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import joblib
import numpy as np
import pandas as pd
import pydantic
from dask.tokenize import tokenize

from daskflow.caching.code import code_digest
from daskflow.caching.hashing import content_digest
from daskflow.caching.keys import bind_inputs, make_key
from daskflow.caching.policy import DEFAULT

CALLS, ROUNDS = 2_000, 5
FRAME_ROWS, FRAME_COLUMNS = 1 << 22, 8  # 256 MiB


class Row(NamedTuple):
    """One line of the table; times in microseconds."""

    what: str
    goal: str
    daskflow: str
    joblib: str
    dask: str


@dataclasses.dataclass
class Config:
    name: str
    limit: int
    ratio: float
    flag: bool = True


class Model(pydantic.BaseModel):
    name: str
    limit: int
    ratio: float
    flag: bool = True


def load(path: str, limit: int, ratio: float, flag: bool, name: str) -> None:
    """Stand for a task of five arguments."""


def nested(n: int) -> dict[str, Any]:
    """Return a configuration of 31 containers."""
    return {f"s{k}": {"size": n + k, "steps": [1, 2, n], "at": {"x": "y"}} for k in range(10)}


def per_call_us(call: Callable[[Any], object], values: Iterable[Any]) -> float:
    """Return the CPU time of one call, the best of several rounds."""
    fresh = list(values)
    share = len(fresh) // ROUNDS
    best = float("inf")
    for at in range(ROUNDS):
        part = fresh[at * share : (at + 1) * share]
        begun = time.thread_time_ns()
        for value in part:
            call(value)
        best = min(best, (time.thread_time_ns() - begun) / share / 1_000)
    return best


def key_of_five() -> Row:
    signature, code = inspect.signature(load), code_digest(load)

    def key(n: int) -> object:
        call = {"path": "s3://data/a", "limit": n, "ratio": 0.5, "flag": True, "name": "a"}
        bound = bind_inputs(signature, (), call)
        digests = {name: content_digest(value) for name, value in bound.items()}
        return make_key("load", DEFAULT, code=code, inputs=digests)

    def joblib_key(n: int) -> object:
        call = {"path": "s3://data/a", "limit": n, "ratio": 0.5, "flag": True, "name": "a"}
        return joblib.hash(call)

    def dask_key(n: int) -> object:
        return tokenize(load.__name__, path="s3://data/a", limit=n, ratio=0.5, flag=True, name="a")

    numbers = range(1_000_000, 1_000_000 + CALLS * ROUNDS)
    times = [per_call_us(call, numbers) for call in (key, joblib_key, dask_key)]
    return Row("key of five arguments", "<= 5 us", *(f"{each:.1f} us" for each in times))


def small(what: str, goal: str, make: Callable[[int], Any], calls: int = CALLS) -> Row:
    def timed(call: Callable[[Any], object], count: int) -> str:
        return f"{per_call_us(call, map(make, range(count * ROUNDS))):.1f} us"

    return Row(
        what,
        goal,
        timed(content_digest, calls),
        timed(joblib.hash, calls // 10),
        timed(tokenize, calls // 10),
    )


def large_frame() -> Row:
    frame = pd.DataFrame(
        {f"c{n}": np.random.default_rng(n).random(FRAME_ROWS) for n in range(FRAME_COLUMNS)}
    )
    size = FRAME_ROWS * FRAME_COLUMNS * 8
    views = [frame[name].to_numpy().view(np.uint8).data for name in frame]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    leaves = [view[at : at + (1 << 20)] for view in views for at in range(0, len(view), 1 << 20)]

    def raw() -> None:
        with ThreadPoolExecutor(cores) as pool:
            for _ in pool.map(lambda leaf: hashlib.sha256(leaf).digest(), leaves):
                pass

    def rate(call: Callable[[], object]) -> float:
        begun = time.perf_counter()
        call()
        return size / (time.perf_counter() - begun) / 1e9

    def cpu_s(call: Callable[[], object]) -> float:
        begun = time.process_time()
        call()
        return time.process_time() - begun

    # Interleaved, so that a busy moment of the machine meets both.
    pairs = [(cpu_s(raw), cpu_s(lambda: content_digest(frame))) for _ in range(ROUNDS)]
    raw_s, digest_s = (min(each) for each in zip(*pairs, strict=True))
    return Row(
        "numeric frame of 256 MiB",
        ">= 90 % of raw",
        f"{raw_s / digest_s:.0%} by CPU, {rate(lambda: content_digest(frame)):.2f} GB/s",
        f"{rate(lambda: joblib.hash(frame)):.2f} GB/s",
        f"{rate(lambda: tokenize(frame)):.2f} GB/s",
    )


def rows() -> Iterable[Row]:
    """Measure, line by line."""
    yield key_of_five()
    yield small("dataclass", "<= 6 us", lambda n: Config("a", n, n / 7))
    yield small("pydantic model", "<= 6 us", lambda n: Model(name="a", limit=n, ratio=n / 7))
    yield small("nested config, 31 containers", "<= 40 us", nested, CALLS // 4)
    digest = per_call_us(lambda _: code_digest(key_of_five), range(50))
    yield Row("code digest of a function", "~ 1,000 us", f"{digest:,.0f} us", "", "")
    yield large_frame()


def main() -> None:
    """Print the table."""
    line = "{:32} {:16} {:30} {:12} {:12}".format
    print(line("what", "goal", "daskflow", "joblib", "dask"))
    for row in rows():
        print(line(*row), flush=True)


if __name__ == "__main__":
    main()
