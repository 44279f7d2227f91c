"""Spools, the files beside a store that keep what it could not take: written, claimed, read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from daskflow.runner.store import open_store
from daskflow.runner.store.spool import Spool, claim_spool, read_spool, spool_files
from tests.store.made import RUN, log, task_run

OTHER = "a1" * 16


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


@pytest.fixture
def url(path: Path) -> str:
    return f"sqlite:///{path}"


def refuse(*_: object, **__: object) -> None:
    raise PermissionError("no")


def test_a_spool_is_read_back_once_even_when_it_cannot_be_removed(path, url, monkeypatch):
    spool = Spool(path)
    spool.append([("logs", RUN, [log("once")])])
    spool.close()
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", refuse)
        with open_store(url) as store:
            assert len(store.logs(RUN)) == 1
    assert len(spool_files(path)) == 1
    with open_store(url) as store:
        assert len(store.logs(RUN)) == 1
    assert spool_files(path) == []


@pytest.mark.parametrize(
    "line",
    [
        b"\xff\xfe\n",
        b"17\n",
        b"[]\n",
        b'["nonsense", "x", [[1]]]\n',
        b'["logs", "x", [[1]]]\n',
        b'["logs", "x", 3]\n',
        b'["logs", 4, []]\n',
        b'[["logs"], "x", []]\n',
    ],
)
def test_a_line_that_makes_no_sense_is_left_out(path, url, line):
    spool = Spool(path)
    spool.append([("logs", RUN, [log("good")])])
    assert spool.path is not None
    with spool.path.open("ab") as file:
        file.write(line)
    spool.append([("logs", RUN, [log("fine")])])
    assert [change[2][0][5] for change, _ in read_spool(spool.path)] == ["good", "fine"]
    spool.close()
    with open_store(url) as store:
        assert [row.message for row in store.logs(RUN)] == ["good", "fine"]


def test_only_one_process_can_claim_a_spool(path):
    spool = Spool(path)
    spool.append([("logs", RUN, [log("x")])])
    assert spool.path is not None
    left = spool.path
    assert claim_spool(left) is None
    spool.close()
    with claim_spool(left) as claimed:
        assert claimed is not None
        assert claim_spool(left) is None
    assert claim_spool(left.with_name("gone.jsonl")) is None


def test_a_spool_holds_one_json_line_a_change(path):
    spool = Spool(path)
    spool.append(
        [("task_runs", RUN, [task_run(0, parents=(1,))]), ("logs", OTHER, [log("\udcff")])]
    )
    assert spool.path is not None
    lines = [json.loads(line) for line in spool.path.read_bytes().splitlines()]
    assert [line[:2] for line in lines] == [["task_runs", RUN], ["logs", OTHER]]
    spool.close()
