"""Large tables go through the result store piece by piece: memory stays flat."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

SCRIPT = """
import json, sys, time
import numpy as np, pandas as pd, pyarrow as pa
from daskflow.caching.hashing import content_digest
from daskflow.caching.store import ResultStore

def mib(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith(name))

def start():
    global before
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak counts from here
    before = mib("VmRSS")

def more():
    return mib("VmHWM") - before

def frame(rows):
    return pd.DataFrame({name: np.random.default_rng(0).normal(size=rows) for name in "abc"})

def table(rows):
    words = np.random.default_rng(0).integers(10**9, 10**10 - 1, rows).astype("S10")
    offsets = pa.array(np.arange(rows + 1, dtype="i4") * 10).buffers()[1]
    words = pa.Array.from_buffers(pa.string(), rows, [None, offsets, pa.py_buffer(words)])
    return pa.table({"word": words, "n": np.arange(rows)})

make, rows, url = {"frame": frame, "table": table}[sys.argv[1]], int(sys.argv[2]), sys.argv[3]
for name, count in (("warm", 50_000), ("large", rows)):
    value = make(count)
    size = (value.nbytes if sys.argv[1] == "table" else value.memory_usage().sum()) / 2**20
    start()
    digest = content_digest(value)
    about = {"content_digest": digest, "task": name, "parts": {}, "created_unix": time.time()}
    entry = ResultStore(url).publish(digest, value, **about)
    written = more()
    del value
    start()
    loaded = ResultStore(url).load(entry)
    read = more()
    del loaded
print(json.dumps([float(size), written, read]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from /proc")
@pytest.mark.parametrize("kind", ["frame", "table"])
def test_a_large_table_is_hashed_and_stored_in_little_memory_and_numbers_are_loaded_once(
    tmp_path, kind
):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, kind, "3500000", str(tmp_path / "results")],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    size, written, read = json.loads(done.stdout)
    assert size > 70
    assert written < 0.4 * size
    if kind == "frame":  # columns that are compressed take more while they are read
        assert read < 1.2 * size
