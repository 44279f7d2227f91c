"""Keys, hashes and writes of the cache, each against what others take for the same values.

Small values are timed in CPU time of this thread, fresh ones for every call, so no memory of
earlier digests helps; a "task run" of these cases is one call.  The large frame is timed against
the raw hash of as many bytes on all cores; the write of a table against pyarrow's own, with the
memory that each has at its peak.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pydantic

from benchmarks.cached_work import frame_of
from benchmarks.cpu import CpuSeconds
from benchmarks.harness import Case, WrongValue
from benchmarks.measurement import Timing

__all__ = ["TITLES", "key_cases"]

_CALLS, _QUICK_CALLS = 5_000, 500
_ROWS, _QUICK_ROWS = 1 << 22, 1 << 18  # of 8 columns of 8 bytes: 256 MiB, 16 MiB
_TABLE_BYTES, _QUICK_TABLE_BYTES = 200_000_000, 20_000_000
_LEAF_BYTES = 1 << 20
_LOOK_EVERY_S = 0.002

TITLES = {
    "keys.five": "cache key of five keyword arguments, against joblib.hash",
    "keys.dataclass": "digest of a dataclass of four fields, against joblib.hash",
    "keys.pydantic": "digest of a pydantic model of four fields, against joblib.hash",
    "keys.nested": "digest of a configuration of 31 containers, against joblib.hash",
    "keys.frame": "digest of a numeric frame of 256 MiB, against the raw hash on all cores",
    "store.write": "cached write of a table of 200 MB, against pyarrow's own write",
}


@dataclasses.dataclass
class Config:
    """An argument as flows have it."""

    name: str
    limit: int
    ratio: float
    flag: bool = True


class Model(pydantic.BaseModel):
    """The same as a model."""

    name: str
    limit: int
    ratio: float
    flag: bool = True


def load(path: str, limit: int, ratio: float, flag: bool, name: str) -> None:
    """Stand for a task of five arguments."""


def _nested(n: int) -> dict[str, Any]:
    return {f"s{k}": {"size": n + k, "steps": [1, 2, n], "at": {"x": "y"}} for k in range(10)}


def _arguments(n: int) -> dict[str, Any]:
    return {"path": "s3://data/a", "limit": n, "ratio": 0.5, "flag": True, "name": "a"}


def key_cases(*, quick: bool, controls_only: bool = False) -> list[Case]:
    """Return the cases; nothing is kept between them."""
    calls = _QUICK_CALLS if quick else _CALLS
    made: dict[str, tuple[int, Mapping[str, Callable[[], Timing]]]] = {
        "keys.five": (calls, _five(calls)),
        "keys.dataclass": (calls, _digests(lambda n: Config("a", n, n / 7), calls)),
        "keys.pydantic": (calls, _digests(lambda n: Model(name="a", limit=n, ratio=n / 7), calls)),
        "keys.nested": (calls, _digests(_nested, calls)),
        "keys.frame": (1, _frame(_QUICK_ROWS if quick else _ROWS)),
        "store.write": (1, _write(_QUICK_TABLE_BYTES if quick else _TABLE_BYTES)),
    }
    return [
        Case(
            name,
            TITLES[name],
            runs,
            runs,
            dict(list(contenders.items())[:1]) if controls_only else contenders,
        )
        for name, (runs, contenders) in made.items()
    ]


# ---- small values


def _called(call: Callable[[Any], object], make: Callable[[int], Any], calls: int) -> Timing:
    """Time calls with fresh values, those of `keys.*` no other case has had."""
    start = next(_fresh) * calls
    values = [make(start + n) for n in range(calls)]
    call(make(-1))
    wall, cpu = time.perf_counter(), time.thread_time()
    for value in values:
        call(value)
    spent = time.thread_time() - cpu
    return Timing(time.perf_counter() - wall, CpuSeconds(spent, 0.0, 0.0, 0.0), runs=calls)


_fresh = iter(range(1_000, 1 << 40))


def _digests(make: Callable[[int], Any], calls: int) -> dict[str, Callable[[], Timing]]:
    import joblib
    from dask.tokenize import tokenize

    from daskflow.caching.hashing import content_digest

    fewer = max(calls // 10, 10)
    return {
        "joblib.hash": partial(_called, joblib.hash, make, fewer),
        "daskflow": partial(_called, content_digest, make, calls),
        "dask.tokenize": partial(_called, tokenize, make, fewer),
    }


def _five(calls: int) -> dict[str, Callable[[], Timing]]:
    import joblib
    from dask.tokenize import tokenize

    from daskflow.caching.binding import bind_inputs
    from daskflow.caching.code import code_digest
    from daskflow.caching.hashing import content_digest
    from daskflow.caching.keys import make_key
    from daskflow.caching.policy import DEFAULT

    signature, code = inspect.signature(load), code_digest(load)

    def key(call: dict[str, Any]) -> object:
        bound = bind_inputs(signature, (), call)
        digests = {name: content_digest(value) for name, value in bound.items()}
        return make_key("load", DEFAULT, code=code, inputs=digests)

    fewer = max(calls // 10, 10)
    return {
        "joblib.hash": partial(_called, joblib.hash, _arguments, fewer),
        "daskflow": partial(_called, key, _arguments, calls),
        "dask.tokenize": partial(_called, lambda c: tokenize("load", **c), _arguments, fewer),
    }


# ---- large values


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _frame(rows: int) -> dict[str, Callable[[], Timing]]:
    import pandas as pd

    from daskflow.caching.hashing import content_digest

    def frame() -> pd.DataFrame:
        chance = np.random.default_rng(0)
        return pd.DataFrame({f"c{n}": chance.random(rows) for n in range(8)})

    def raw() -> Timing:
        values = frame()
        views = [values[name].to_numpy().view(np.uint8).data for name in values]
        leaves = [v[at : at + _LEAF_BYTES] for v in views for at in range(0, len(v), _LEAF_BYTES)]

        def hashed() -> None:
            with ThreadPoolExecutor(_cores()) as pool:
                for _ in pool.map(lambda leaf: hashlib.sha256(leaf).digest(), leaves):
                    pass

        return _timed(hashed)

    def ours() -> Timing:
        values = frame()
        return _timed(lambda: content_digest(values))

    return {"sha256, all cores": raw, "daskflow": ours}


def _write(size: int) -> dict[str, Callable[[], Timing]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from daskflow.caching.store import ResultStore

    def in_folder(body: Callable[[Path, Any], object]) -> Timing:
        table = pa.Table.from_pandas(frame_of(size, 0), preserve_index=False)
        folder = Path(tempfile.mkdtemp(prefix="benchmarks-"))
        try:
            with _Peak() as peak:
                timing = _timed(lambda: body(folder, table))
            return timing._replace(figures={"peak_mb": peak.grown_mb()})
        finally:
            shutil.rmtree(folder)

    def published(folder: Path, table: pa.Table) -> None:
        store = ResultStore(str(folder))
        about: dict[str, Any] = {"task": "write", "parts": {}, "created_unix": time.time()}
        entry = store.publish("ab" * 32, table, content_digest="cd" * 32, **about)
        if entry.blob is None:
            raise WrongValue("store.write: the table went into its index row")

    return {
        "pyarrow": lambda: in_folder(lambda f, table: pq.write_table(table, f / "t.parquet")),
        "daskflow": lambda: in_folder(published),
    }


def _timed(body: Callable[[], object]) -> Timing:
    wall, cpu = time.perf_counter(), time.process_time()
    body()
    spent = time.process_time() - cpu
    return Timing(time.perf_counter() - wall, CpuSeconds(spent, 0.0, 0.0, 0.0))


class _Peak:
    """The most memory that this process had beyond what it began with."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._before = self._most = self._process.memory_info().rss
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="benchmark memory", daemon=True)

    def __enter__(self) -> _Peak:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(_LOOK_EVERY_S):
            self._most = max(self._most, self._process.memory_info().rss)

    def grown_mb(self) -> float:
        return float(self._most - self._before) / 1e6
