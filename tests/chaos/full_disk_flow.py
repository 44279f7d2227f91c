"""A flow whose results fill a disk: run by itself, in a mount namespace with a small tmpfs.

``python -m tests.chaos.full_disk_flow FOLDER`` mounts the disk on FOLDER and prints as JSON what
became of its task runs, before and after there was space again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from daskflow import DaskTaskRunner, flow, task

RUNNER = DaskTaskRunner(cluster_kwargs={"n_workers": 1})


@task(persist_result=True)
def blob(size):
    return os.urandom(size)


def mount(folder: Path, size: str, *how: str) -> None:
    options = ",".join([*how, f"size={size}"])
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)


def main(folder: Path) -> None:
    mount(folder, "1m")
    storage = folder / "results"

    def fills():
        ended = []
        for size in (10_000, 3_000_000, 10_001):
            future = blob.submit(size)
            future.wait()
            result = future.result(raise_on_failure=False)
            text = len(result) if future.state.is_completed() else str(result)
            ended.append([future.state.name, text])
        return ended

    @flow(task_runner=RUNNER, result_storage=str(storage))
    def fills_and_goes_on():
        full = fills()
        left = [str(path) for path in folder.rglob("*.tmp")]
        mount(folder, "16m", "remount")
        return {"full": full, "left": left, "later": fills()}

    print(json.dumps(fills_and_goes_on()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
