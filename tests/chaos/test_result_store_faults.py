"""Whatever happens to a result store, a reader gets the right value or none."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from daskflow.caching.store import ResultStore
from daskflow.errors import ResultGone, StoreError
from daskflow.results.local_files import LocalFiles
from tests.unit.result_stores import key, new, publish
from tests.unit.sameness import same

pytestmark = pytest.mark.chaos
ROOT = Path(__file__).resolve().parents[2]
LARGE = pd.DataFrame({"a": np.arange(9000.0), "s": [f"row {i % 97}" for i in range(9000)]})
VALUES = {"row": {"loss": 0.125, "at": (1, 2)}, "pack": "packed", "blob": LARGE}


def publishing(what, folder):
    """Run the helper script; return the objects that it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos.publishing", what, str(folder)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_process_killed_at_any_step_leaves_the_old_result_the_new_one_or_none(tmp_path):
    steps = publishing("kill", tmp_path)
    assert [step for step in steps if step["wrong"]] == []
    ends = {step["act"]: step for step in steps if not step["died"]}
    assert {step["code"] for step in ends.values()} == {0}
    killed = {act: sum(s["died"] for s in steps if s["act"] == act) for act in ends}
    # making its folder, opening, linking and unlinking the file at least, for a blob twice
    assert killed["small"] >= 4
    assert killed["large"] >= 8
    assert min(killed.values()) >= 1
    assert killed["merge"] >= 6  # making the candidate, naming it, removing five packs


def test_32_processes_that_race_on_equal_keys_agree_on_one_record_each(tmp_path):
    *records, end = publishing("race", tmp_path)
    assert set(end["codes"]) == {0}
    assert len(records) == 32 * 6
    winners = {}
    for name, created in records:
        winners.setdefault(name, set()).add(created)
    assert {name: len(created) for name, created in winners.items()} == dict.fromkeys(range(6), 1)
    store = ResultStore(str(tmp_path))
    assert len(list(store.entries())) == 6
    assert len(store.storage.list("blobs")) == 3
    assert not [i for i in store.storage.list("") if i.path.endswith(".tmp")]
    report = store.verify()
    assert (report.entries, report.damaged, report.missing) == (6, (), ())


def test_nobody_sees_what_was_replaced_while_packs_are_merged(tmp_path):
    (end,) = publishing("merge-race", tmp_path)
    assert end == {"codes": [0] * 5, "right": True, "left": [], "packs": end["packs"]}
    assert end["packs"] <= 4


def test_a_full_disk_is_a_store_error_and_leaves_nothing_behind(tmp_path):
    said, left = publishing("full", tmp_path)
    assert "a file may not be that large here" in said["error"]
    assert left == {"left": [], "found": [True]}


def test_a_read_only_storage_reads_and_refuses_to_write(tmp_path, monkeypatch):
    publish(ResultStore(str(tmp_path)), 1, "a")
    (row,) = (tmp_path / "index").rglob("*.parquet")

    def refuse(*_):
        raise OSError(30, "Read-only file system")

    for name in ("_written", "move", "delete"):
        monkeypatch.setattr(LocalFiles, name, refuse)
    store = ResultStore(str(tmp_path))
    assert store.load(store.lookup([key(1)])[key(1)]) == "a"
    with pytest.raises(StoreError, match="read-only; name another one"):
        publish(store, 2, "b")
    row.write_bytes(row.read_bytes()[:-9])
    assert ResultStore(str(tmp_path)).lookup([key(1)]) == {}


# ---- damage


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return the files of a store with one result of each kind."""
    folder = tmp_path_factory.mktemp("whole")
    store = ResultStore(str(folder))
    publish(store, "row", VALUES["row"])
    publish(store, "blob", VALUES["blob"])
    store.publish_many([new("pack", VALUES["pack"]), new("other", 1)])
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def damaged_file(files, kind):
    folders = {"row": "index", "pack": "packs", "blob": "blobs"}
    found = [p for p in files if p.parts[0] == folders[kind]]
    return next(p for p in found if kind != "row" or p.stem == key("row"))


def read_with(folder, files, path, data, name):
    """Lay the files out with one of them changed; return what a reader gets, None for a miss."""
    for each, content in files.items():
        (folder / each).parent.mkdir(parents=True, exist_ok=True)
        if each != path:
            (folder / each).write_bytes(content)
    if data is None:
        (folder / path).unlink(missing_ok=True)
    else:
        (folder / path).write_bytes(data)
    store = ResultStore(str(folder))
    found = store.lookup([key(name)])
    try:
        return store.load(found[key(name)]) if found else None
    except ResultGone:
        return None


@pytest.mark.parametrize(("kind", "flips"), [("row", 80), ("pack", 60), ("blob", 60)])
def test_200_flipped_bits_never_give_a_wrong_value(tmp_path, whole, kind, flips):
    path, chance = damaged_file(whole, kind), random.Random(kind)
    misses = 0
    for _ in range(flips):
        data = bytearray(whole[path])
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        value = read_with(tmp_path, whole, path, bytes(data), kind)
        misses += value is None
        assert value is None or same(value, VALUES[kind])
    assert misses > flips * 0.5  # a flip in what nobody reads may do no harm; most do


@pytest.mark.parametrize("kind", ["row", "pack", "blob"])
@pytest.mark.parametrize(
    "cut",
    [
        pytest.param(lambda data: data[: len(data) // 2], id="half"),
        pytest.param(lambda data: data[:-1], id="last-byte"),
        pytest.param(lambda data: b"", id="empty"),
        pytest.param(lambda data: b"\0" * len(data), id="zeros"),
        pytest.param(lambda data: data + b"x", id="longer"),
        pytest.param(lambda data: None, id="deleted"),
    ],
)
def test_a_file_that_is_not_as_it_was_published_is_a_miss(tmp_path, whole, kind, cut):
    path = damaged_file(whole, kind)
    assert read_with(tmp_path, whole, path, cut(whole[path]), kind) is None
    assert read_with(tmp_path, whole, path, whole[path], kind) is not None


def test_rows_of_two_keys_that_were_exchanged_are_misses(tmp_path, whole):
    one, other = (p for p in whole if p.parts[0] == "index")
    swapped = {**whole, one: whole[other], other: whole[one]}
    assert read_with(tmp_path, swapped, one, whole[other], "row") is None
