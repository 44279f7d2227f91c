"""Figures of the result store beside their goals: ``python -m benchmarks.result_store``.

Every figure is a ratio to a control in the same run (pyarrow's own write, joblib.Memory), taken in
turns; medians are printed with the goal of the design page.  ``--quick`` takes smaller sizes.
In W6 the frames are arguments of the cached function: joblib hashes them by its own way, we pay
the sha256 of their columns, of arguments on both runs and of results on the first.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from daskflow.caching.store import NewResult, ResultStore

MB = 1 << 20


class Figure(NamedTuple):
    """One line of the table: what, measured, control, goal, and whether it is met."""

    what: str
    ours: str
    control: str
    ratio: str
    goal: str
    met: bool


def key(name: object) -> str:
    return hashlib.sha256(repr(name).encode()).hexdigest()


def timed(body: Callable[[], Any]) -> float:
    start = time.perf_counter()
    body()
    return time.perf_counter() - start


def frame_of(size_bytes: int, seed: int) -> pd.DataFrame:
    """Return a frame of flight-like columns: numbers, times, text of few values."""
    chance = np.random.default_rng(seed)
    rows = size_bytes // 48
    return pd.DataFrame(
        {
            **{f"x{i}": chance.random(rows) for i in range(3)},
            "n": chance.integers(0, 1000, rows),
            "at": pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(rows), unit="s"),
            "k": chance.integers(0, 1 << 40, rows),
        }
    )


def digest_of(frame: pd.DataFrame) -> str:
    """Return the sha256 of the columns' memory: what any content hash costs at least."""
    digest = hashlib.sha256()
    for name in frame:
        digest.update(np.ascontiguousarray(frame[name]).view("u1").data)
    return digest.hexdigest()


def publish(store: ResultStore, name: str, value: Any) -> None:
    store.publish(
        name,
        value,
        content_digest=digest_of(value) if isinstance(value, pd.DataFrame) else name,
        task="bench",
        parts={},
        created_unix=time.time(),
    )


def in_turns(rounds: int, *bodies: Callable[[Path], float]) -> list[float]:
    """Run bodies one after the other, each in a fresh folder; return their medians."""
    taken: list[list[float]] = [[] for _ in bodies]
    for _ in range(rounds):
        for mine, body in zip(taken, bodies, strict=True):
            folder = Path(tempfile.mkdtemp(prefix="daskflow-bench-"))
            try:
                mine.append(body(folder))
            finally:
                shutil.rmtree(folder)
    return [statistics.median(mine) for mine in taken]


def write_of_one_table(size: int, rounds: int) -> Figure:
    table = pa.Table.from_pandas(frame_of(size, 0), preserve_index=False)

    def plain(folder: Path) -> float:
        return timed(lambda: pq.write_table(table, folder / "t.parquet"))

    def ours(folder: Path) -> float:
        store = ResultStore(str(folder))
        return timed(lambda: publish(store, key(1), table))

    control, mine = in_turns(rounds, plain, ours)
    what = f"cached write of a table of {table.nbytes / MB:.0f} MB"
    return Figure(
        *(what, f"{mine:.3f} s", f"pyarrow {control:.3f} s"),
        *(f"{control / mine:.2f}", ">= 0.80 of pyarrow's rate", control / mine >= 0.8),
    )


def frames(count: int, size: int, rounds: int, goals: tuple[float, float]) -> list[Figure]:
    values = [frame_of(size, seed) for seed in range(count)]

    def double(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.assign(x0=frame["x0"] * 2)

    first: dict[str, list[float]] = {"joblib": [], "ours": []}
    again: dict[str, list[float]] = {"joblib": [], "ours": []}

    def with_joblib(folder: Path) -> float:
        cached = joblib.Memory(folder, verbose=0).cache(double)
        first["joblib"].append(timed(lambda: [cached(value) for value in values]))
        again["joblib"].append(timed(lambda: [cached(value) for value in values]))
        return 0.0

    def with_ours(folder: Path) -> float:
        store = ResultStore(str(folder))

        def run(reader: ResultStore) -> None:
            keys = [digest_of(value) for value in values]
            found = reader.lookup(keys)
            for each, value in zip(keys, values, strict=True):
                if each in found:
                    reader.load(found[each])
                else:
                    publish(reader, each, double(value))

        first["ours"].append(timed(lambda: run(store)))
        again["ours"].append(timed(lambda: run(ResultStore(str(folder)))))
        return 0.0

    in_turns(rounds, with_joblib, with_ours)
    figures = []
    for title, taken, goal in (("first", first, goals[0]), ("cached", again, goals[1])):
        control, mine = statistics.median(taken["joblib"]), statistics.median(taken["ours"])
        figures.append(
            Figure(
                *(f"W6 {count} x {size / MB:.0f} MB frames, {title}", f"{mine:.3f} s"),
                *(f"joblib {control:.3f} s", f"{mine / control:.2f}"),
                *(f"<= {goal} x joblib", mine / control <= goal),
            )
        )
    return figures


def tiny_hits(count: int, rounds: int) -> Figure:
    folder = tempfile.mkdtemp(prefix="daskflow-bench-")
    try:
        about = {"task": "bench", "parts": {"x": "0" * 64}, "created_unix": time.time()}
        results = [NewResult(key(at), at, key(at), **about) for at in range(count)]  # type: ignore[arg-type]
        writer = ResultStore(folder)
        for start in range(0, count, 1000):
            writer.publish_many(results[start : start + 1000])
        keys = [result.key for result in results]

        def hit() -> None:
            store = ResultStore(folder)
            found = store.lookup(keys)
            for each in keys:
                store.load(found[each])

        cpu = []
        for _ in range(rounds):
            start = time.process_time()
            hit()
            cpu.append((time.process_time() - start) / count * 1e6)
        mine = statistics.median(cpu)
    finally:
        shutil.rmtree(folder)
    return Figure(
        *(f"{count:,} tiny hits, look-up and load", f"{mine:.1f} µs of CPU each", "-", "-"),
        *("<= 20 µs each", mine <= 20),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller sizes, fewer rounds")
    quick = parser.parse_args().quick
    large, count, rounds = (20 * MB, 30, 3) if quick else (200 * MB, 200, 3)
    figures = [
        write_of_one_table(large, rounds),
        *frames(count, MB, rounds, (0.8, 0.3)),
        *frames(1, large, rounds, (0.7, 0.7)),
        tiny_hits(10_000, rounds),
    ]
    for f in figures:
        print(
            f"{f.what:44} {f.ours:24} {f.control:18} {f.ratio:>6}  goal {f.goal:28} "
            f"{'met' if f.met else 'MISSED'}"
        )


if __name__ == "__main__":
    main()
