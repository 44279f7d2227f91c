"""Storage: the same operations on a folder, in memory and on S3; errors say what to do."""

from __future__ import annotations

import errno
import os
import pickle
import stat
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from daskflow.errors import StoreError, UsageError
from daskflow.results import storage as storage_module
from daskflow.results.storage import Storage
from daskflow.results.storage_options import without_credentials


@pytest.fixture(params=["file", "plain", "memory", "s3"])
def storage(request, tmp_path):
    if request.param == "s3":
        return Storage(request.getfixturevalue("s3_url"))
    urls = {"file": f"file://{tmp_path}/root", "plain": str(tmp_path / "root")}
    return Storage(urls.get(request.param, f"memory://{uuid.uuid4().hex}/root"))


@pytest.fixture
def s3_url(s3_server, monkeypatch):
    s3_server.use(monkeypatch)
    return f"s3://{s3_server.new_bucket()}/some/root"


def names(storage, folder=""):
    return sorted(info.path for info in storage.list(folder))


def test_a_file_is_published_once_and_read_back(storage):
    assert storage.read("a/b.bin") is None
    assert storage.create("a/b.bin", b"first")
    assert not storage.create("a/b.bin", b"second")
    assert storage.read("a/b.bin") == b"first"
    storage.replace("a/b.bin", b"third")
    assert storage.read("a/b.bin") == b"third"


def test_many_files_are_read_at_once_and_missing_ones_left_out(storage):
    for name in ("x/1", "x/2"):
        storage.create(name, name.encode())
    assert storage.read_many(["x/1", "x/2", "x/3"]) == {"x/1": b"x/1", "x/2": b"x/2"}
    assert storage.read_many([]) == {}


def test_a_large_file_is_named_after_it_is_written(storage):
    said = []

    def publish():
        return storage.create_named("b", lambda f: said.append(f.write(b"data")), lambda: "b/xy/n")

    assert publish()
    assert not publish()
    assert names(storage, "b") == ["b/xy/n"]
    with storage.open_local("b/xy/n") as path:
        assert path.read_bytes() == b"data"
    with storage.open_local("b/xy/none") as path:
        assert path is None


def test_files_are_listed_with_size_and_time(storage):
    storage.create("i/aa/1", b"12345")
    (info,) = storage.list("i")
    assert info == storage.info("i/aa/1")
    assert (info.path, info.size_bytes) == ("i/aa/1", 5)
    assert info.modified_unix > 1.6e9
    assert storage.list("nothing") == []
    assert storage.info("nothing/here") is None


def test_files_are_moved_and_deleted(storage):
    storage.create("a/1", b"1")
    storage.move("a/1", "q/2")
    assert (storage.read("a/1"), storage.read("q/2")) == (None, b"1")
    storage.delete(["q/2", "q/2", "q/3"])
    assert names(storage, "q") == []


def test_touching_makes_a_file_young(storage):
    storage.create("a/1", b"1")
    before = storage.info("a/1").modified_unix
    storage.touch("a/1")
    assert storage.info("a/1").modified_unix >= before
    assert storage.read("a/1") == b"1"


def test_of_many_writers_exactly_one_publishes(storage):
    start = threading.Barrier(6)

    def write(number):
        start.wait()
        return storage.create("race/1", b"%d" % number)

    with ThreadPoolExecutor(6) as pool:
        won = list(pool.map(write, range(6)))
    assert won.count(True) == 1
    assert storage.read("race/1") == b"%d" % won.index(True)
    assert names(storage, "race") == ["race/1"]


def test_storage_travels_by_its_url(storage):
    storage.create("a", b"1")
    assert pickle.loads(pickle.dumps(storage)).read("a") == b"1"


# ---- what goes wrong


def test_an_unknown_protocol_names_those_that_work():
    with pytest.raises(UsageError, match="fsspec does not know; use a folder, file://"):
        Storage("nonsense://x/y")


def test_a_missing_driver_says_what_to_install(monkeypatch):
    def gone(*_, **__):
        raise ImportError("Please install gcsfs to access Google Storage")

    monkeypatch.setattr(storage_module.fsspec.core, "url_to_fs", gone)
    with pytest.raises(UsageError, match=r"'gs://bucket/x' needs a driver.*install gcsfs"):
        Storage("gs://bucket/x")


def test_credentials_in_a_url_are_never_shown(monkeypatch):
    url = "memory://ann:pa55@host/root?token=t0ken"
    storage = Storage(url)
    assert repr(storage) == "Storage('memory://host/root')"

    def refuse(*_, **__):
        raise OSError(errno.EACCES, f"denied: {url} and ftp://bob:pa66@other/x")

    monkeypatch.setattr(storage._fs, "cat_file", refuse)
    with pytest.raises(StoreError) as caught:
        storage.read("index/aa/1")
    shown = str(caught.value) + repr(caught.value)
    assert not any(secret in shown for secret in ("pa55", "t0ken", "pa66"))
    assert "cannot read 'memory://host/root/index/aa/1'" in shown
    assert "change the permissions" in shown
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://key:secret@bucket/p?x=1#y", "s3://bucket/p"),
        ("/plain/path", "/plain/path"),
        ("file:///a/b", "file:///a/b"),
    ],
)
def test_what_is_shown_of_a_url(url, shown):
    assert without_credentials(url) == shown


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        (errno.ENOSPC, "full; free some space"),
        (errno.EDQUOT, "quota is used up"),
        (errno.EROFS, "read-only; name another one"),
    ],
)
def test_a_storage_that_cannot_be_written_says_why_and_leaves_nothing(
    tmp_path, monkeypatch, code, hint
):
    storage = Storage(str(tmp_path))
    storage.create("a/1", b"1")

    def refuse(file, data):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("daskflow.results.storage._write_all", refuse)
    with pytest.raises(StoreError, match=rf"cannot write '{tmp_path}/a/2': .*{hint}"):
        storage.create("a/2", b"2")
    assert names(storage) == ["a/1"]


def test_a_server_that_is_not_there_is_a_store_error(monkeypatch):
    options = {"key": "x", "secret": "y", "config_kwargs": {"retries": {"max_attempts": 0}}}
    options["client_kwargs"] = {"endpoint_url": "http://127.0.0.1:9", "region_name": "us-east-1"}
    monkeypatch.setattr("s3fs.S3FileSystem.retries", 1)
    storage = Storage("s3://bucket/x", options | {"skip_instance_cache": True})
    with pytest.raises(StoreError, match=r"cannot read 's3://bucket/x/a'.*can be reached"):
        storage.read("a")


def test_a_bucket_that_is_not_there_is_told_when_written_to(s3_url):
    with pytest.raises(StoreError, match="cannot write 's3://no-such-bucket/x/a'"):
        Storage("s3://no-such-bucket/x").create("a", b"1")


def test_a_conflict_is_tried_again_and_a_lost_race_is_no_error(monkeypatch, s3_url):
    storage = Storage(s3_url)
    said = []

    async def conflict(*_, **__):
        said.append(1)
        error = OSError(errno.EBUSY, "conditional request conflict")
        raise error if len(said) < 3 else FileExistsError

    monkeypatch.setattr(storage._fs, "_pipe_file", conflict)
    monkeypatch.setattr("time.sleep", lambda _: None)
    assert not storage.create("a", b"1")
    assert len(said) == 3


def test_new_folders_are_private(tmp_path):
    Storage(str(tmp_path / "x" / "y")).create("a/b", b"1")
    assert stat.S_IMODE((tmp_path / "x" / "y" / "a").stat().st_mode) == 0o700
