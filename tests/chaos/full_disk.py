"""A flow whose results do not all fit on the disk; run as a script: ``full_disk.py ROOT``.

With ``DASKFLOW_TEST_FULL_AFTER`` the disk is an ordinary one on which every write fails with
ENOSPC once that many bytes lie below the root.  Prints what came of it as JSON.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import sys
from pathlib import Path

import numpy as np

from daskflow import INPUTS, flow, task
from daskflow.caching.store import ResultStore
from daskflow.errors import StoreError
from daskflow.results import storage
from tests.unit.result_stores import key, publish

ROOT = Path(sys.argv[1]) / "results"
SIZE = 25_000  # 200 kB a result
executed: list[int] = []
warnings: list[str] = []


class Heard(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        warnings.append(record.getMessage())


@task(cache_policy=INPUTS, result_storage=str(ROOT))
def makes(x: int):
    executed.append(x)
    return np.arange(SIZE) + x


@flow(task_runner="sync")
def runs() -> list[bool]:
    made = [future.result() for future in makes.map(range(8))]
    return [bool((array == np.arange(SIZE) + x).all()) for x, array in enumerate(made)]


def refuse_after(limit: int) -> None:
    """Let writes to the store fail as on a disk of that size."""
    fill = storage.LocalFiles._written

    def written(files, folder, write, sync=False):
        def limited(file):
            write(file)
            file.flush()
            held = sum(path.stat().st_size for path in ROOT.rglob("*") if path.is_file())
            if held > limit:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        return fill(files, folder, limited, sync)

    storage.LocalFiles._written = written


def main() -> None:
    logging.getLogger("daskflow").addHandler(Heard(logging.WARNING))
    if limit := os.environ.pop("DASKFLOW_TEST_FULL_AFTER", ""):
        refuse_after(int(limit))
    values = runs()
    warned = len(warnings)
    executed.clear()
    again = runs()
    store = ResultStore(str(ROOT))
    try:
        publish(store, "more", np.random.default_rng(0).random(200_000))
        error = ""
    except StoreError as refused:
        error = str(refused)
    left = [info.path for info in store.storage.list("") if info.path.endswith(".tmp")]
    damaged = len(store.verify().damaged)
    freed = store.gc(max_size_bytes=0, grace_s=0.0).freed_bytes
    publish(store, "fits", np.arange(SIZE))
    said = {"values": values, "again": again, "executed_again": len(executed), "error": error}
    said |= {"left": left, "damaged": damaged, "warnings": warned, "freed": freed}
    print(json.dumps(said | {"after_gc": key("fits") in store.lookup([key("fits")])}))


if __name__ == "__main__":
    main()
