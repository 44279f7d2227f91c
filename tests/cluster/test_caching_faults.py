"""Result stores that fail: never a wrong value, and no failed run but where it was insisted."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from daskflow import DEFAULT, flow, task
from daskflow.config import get_settings
from daskflow.runner.store import open_store

IN_PROCESSES = pytest.mark.parametrize("where", ["processes"], indirect=True)


@pytest.mark.parametrize("harm", ["deleted", "truncated", "flipped"])
def test_a_damaged_result_is_made_again(where, told, harm):
    @task(persist_result=True)
    def makes(x):
        told("makes")
        return np.full(50_000, x)

    @task
    def sums(array):
        return int(array.sum())

    @flow(task_runner=where)
    def runs():
        made = makes.submit(3)
        return sums.submit(made).result(), int(made.result()[0])

    assert runs() == (150_000, 3)
    told.take()
    root = Path(get_settings().results.storage)
    (blob,) = (path for path in root.glob("blobs/*/*") if path.is_file())
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 1
    os.chmod(blob, 0o600)
    if harm == "deleted":
        blob.unlink()
    elif harm == "truncated":
        blob.write_bytes(data[: len(data) // 2])
    else:
        blob.write_bytes(data)
    assert runs() == (150_000, 3)
    assert told.take() == ["makes"]
    assert runs() == (150_000, 3)
    assert told.take() == []


@IN_PROCESSES
def test_a_store_that_cannot_be_written_fails_only_who_insists(where, told, tmp_path, caplog):
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder should be")

    @task(result_storage=str(blocked))
    def body():
        return 1

    @flow(task_runner=where)
    def runs(options):
        return body.with_options(**options).submit().result()

    assert runs({"cache_policy": DEFAULT}) == 1
    with pytest.raises(Exception, match="blocked"):
        runs({"persist_result": True})
    with open_store(get_settings().store.url) as store:
        (row,) = store.task_runs(store.find_flow_run("@last").flow_run_id)
    assert row.state == "Failed"
