"""Storage below one URL, through fsspec; the only file that imports it.

Paths are relative to the root and made by daskflow from hex digests, never from user text.  Local
folders (a plain path, ``file://``) take the short way of `LocalFiles`.  Object stores publish with
``pipe_file(mode="create")``: 412 says that another writer won, 409 asks to try again.  Every
failure is a `StoreError` that names the path without user name, password or query.  Requests end
within a time limit, and a storage that does not answer is left alone for a while.
"""

from __future__ import annotations

import inspect
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import fsspec
from fsspec.asyn import sync
from fsspec.core import split_protocol

from daskflow.errors import StoreError, UsageError
from daskflow.results.breaker import breaker_of
from daskflow.results.local_files import FileInfo, LocalFiles
from daskflow.results.storage_errors import (
    is_silence,
    reason_of,
    says_nothing_of_the_server,
    status_of,
)
from daskflow.results.storage_options import StorageOptions, without_credentials
from daskflow.results.time_limits import abandoned_after

__all__ = ["TIMEOUT_S", "Storage"]

TIMEOUT_S = 30.0
_BYTES_PER_S = 1 << 20  # of a transfer, at the least
_MANY = 10  # a listing or a copy is several requests
_CONFLICT_TRIES = 8
_S3 = ("s3", "s3a")
_DRIVERS = {"s3": "daskflow[s3]", "s3a": "daskflow[s3]", "gs": "gcsfs", "gcs": "gcsfs"}
_DRIVERS |= {"abfs": "adlfs", "abfss": "adlfs", "az": "adlfs"}


class Storage:
    """Read, publish, list and delete files below a root.

    Parameters
    ----------
    url : str
        A folder or any URL that fsspec knows: ``file://``, ``memory://``, ``s3://bucket/prefix``.
    options : mapping or StorageOptions, optional
        What fsspec's file system takes, such as an endpoint.
    timeout_s : float
        Seconds that a request may take, and one for each MiB that it transfers. Not for local
        files: the kernel answers for them. Default 30.

    Raises
    ------
    UsageError
        For a protocol that fsspec does not know, or whose driver is not installed.
    """

    def __init__(
        self,
        url: str,
        options: Mapping[str, Any] | StorageOptions | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        if not url:
            raise UsageError("a result store needs a folder or URL, got ''")
        self.url, self.options, self.timeout_s = url, StorageOptions(options), timeout_s
        self.shown_url = without_credentials(url)
        protocol, path = split_protocol(url)
        self.protocol: str = protocol or "file"
        self.local: LocalFiles | None = None
        if self.protocol in ("file", "local"):
            self.local = LocalFiles(Path(path).expanduser().absolute())
            self.local_root: Path | None = self.local.root
        else:
            self.local_root = None
            self._breaker = breaker_of(url, self.options)
            # s3fs would ask for the size first, to read in pieces: one more request for each file
            self._whole: dict[str, Any] = {"max_concurrency": 1} if self.protocol in _S3 else {}
            self._fs, self._root = _connect(url, self.protocol, self.options.resolved())

    def __repr__(self) -> str:
        return f"Storage({self.shown_url!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.url, self.options, self.timeout_s)

    # ---- reading

    def read(self, path: str) -> bytes | None:
        """Return a file's bytes, in one request; None when there is none."""
        with self._said("read", path):
            if self.local:
                return self.local.read(path)
            try:
                data: bytes = self._ask("cat_file", self._full(path), **self._whole)
            except (FileNotFoundError, NotADirectoryError):
                return None
            return data

    def read_many(self, paths: Iterable[str]) -> dict[str, bytes]:
        """Return the bytes of those files that exist, one request each, several at once."""
        names = {self._full(path): path for path in paths}
        with self._said("read", next(iter(names.values()), "")):
            if self.local:
                return self.local.read_many(names.values())
            if not names:
                return {}
            if not getattr(self._fs, "async_impl", False):
                each = ((path, self.read(path)) for path in names.values())
                return {path: data for path, data in each if data is not None}
            # `cat` would ask first whether each file exists: one more request for each
            got = self._ask(
                *("cat_ranges", list(names), None, None),
                within_s=self.timeout_s + len(names) / 20,
                on_error="return",
                **self._whole,
            )
            for error in got:
                if isinstance(error, Exception) and not isinstance(error, FileNotFoundError):
                    raise error
            found = zip(names.values(), got, strict=True)
            return {path: data for path, data in found if isinstance(data, bytes)}

    @contextmanager
    def open_local(self, path: str, size_bytes: int = 0) -> Iterator[Path | None]:
        """Give a file as one on this machine, fetched when it is elsewhere; None when missing.

        `size_bytes`: how large it is, for how long fetching it may take.
        """
        if self.local:
            found = self.local.root / path
            yield found if found.exists() else None
            return
        with tempfile.TemporaryDirectory(prefix="daskflow-") as folder:
            target = Path(folder) / "blob"
            with self._said("read", path):
                try:
                    within_s = self._transfer_s(size_bytes)
                    self._ask("get_file", self._full(path), str(target), within_s=within_s)
                except FileNotFoundError:
                    target = Path()
            yield target if target.name else None

    def list(self, folder: str) -> list[FileInfo]:
        """Return every file below a folder; on object stores one request a thousand files."""
        with self._said("list", folder):
            if self.local:
                return list(self.local.list(folder))
            self._fs.invalidate_cache()
            try:
                found = self._found(folder)
            except FileNotFoundError:
                return []
            return [self._info(info) for info in found.values()]

    def info(self, path: str) -> FileInfo | None:
        """Return size and time of a file; None when there is none."""
        with self._said("look at", path):
            if self.local:
                return self.local.info(path)
            self._fs.invalidate_cache()
            try:
                return self._info(self._ask("info", self._full(path)))
            except FileNotFoundError:
                return None

    # ---- writing

    def create(self, path: str, data: bytes | memoryview, *, sync: bool = False) -> bool:
        """Publish a new file; False when one of that name was there already, which stays.

        `sync`: it outlives a loss of power, for a file that nothing would find to be damaged.
        """
        with self._said("write", path):
            if self.local:
                return self.local.create(path, lambda file: _write_all(file, data), sync=sync)
            return self._exclusive(lambda: self._pipe(self._full(path), data, mode="create"))

    def create_named(
        self, folder: str, write: Callable[[BinaryIO], object], path_of: Callable[[], str]
    ) -> bool:
        """Publish a large new file in `folder`, named by `path_of` once `write` has written it."""
        with self._said("write", folder):
            if self.local:
                return self.local.create_named(folder, write, path_of)
            with tempfile.NamedTemporaryFile(prefix="daskflow-") as file:
                write(cast(BinaryIO, file))
                file.flush()
                full = self._full(path_of())
                if self.protocol == "memory":
                    data = Path(file.name).read_bytes()
                    return self._exclusive(lambda: self._pipe(full, data, mode="create"))
                within_s = self._transfer_s(file.tell())
                return self._exclusive(
                    lambda: self._ask("put_file", file.name, full, within_s=within_s, mode="create")
                )

    def replace(self, path: str, data: bytes | memoryview) -> None:
        """Publish a file over whatever was there, at once for every reader."""
        with self._said("write", path):
            if self.local:
                self.local.replace(path, lambda file: _write_all(file, data))
            else:
                self._pipe(self._full(path), data)

    def touch(self, path: str) -> None:
        """Mark a file as written now, so that a sweep spares it."""
        with self._said("write", path):
            if self.local:
                self.local.touch(path)
            elif self.protocol != "memory":
                # S3 refuses to copy an object onto itself unless something about it changes
                about = {"MetadataDirective": "REPLACE"} if self.protocol in _S3 else {}
                self._copy(path, path, **about)

    def delete(self, paths: Iterable[str]) -> None:
        """Delete files; those that are gone already are no error."""
        names = list(paths)
        with self._said("delete", names[0] if names else ""):
            if self.local:
                self.local.delete(names)
                return
            for path in names:
                try:
                    self._ask("rm_file", self._full(path))
                except FileNotFoundError:
                    continue

    def move(self, path: str, to: str) -> bool:
        """Move a file within the root, False when there is none; object stores copy and delete."""
        with self._said("move", path):
            try:
                if self.local:
                    self.local.move(path, to)
                    return True
                self._copy(path, to)
            except FileNotFoundError:
                return False
        if self.info(path) is None:  # deleted while it was copied: it was not to be moved any more
            self.delete([to])
            return False
        self.delete([path])
        return True

    # ---- inside

    def _full(self, path: str) -> str:
        if self.local:
            return path
        return f"{self._root}/{path}" if path else self._root

    def _found(self, folder: str) -> dict[str, dict[str, Any]]:
        above, _, name = folder.rpartition("/")
        if self.protocol in _S3 and name:
            # as a prefix: for an empty folder s3fs would otherwise ask twice more what it is
            where, more = self._full(above), {"prefix": f"{name}/"}
        else:
            where, more = self._full(folder), {}
        found = self._ask("find", where, within_s=self.timeout_s * _MANY, detail=True, **more)
        return dict(found)

    def _info(self, info: dict[str, Any]) -> FileInfo:
        modified = info.get("LastModified") or info.get("created") or info.get("mtime") or 0.0
        seconds = modified if isinstance(modified, int | float) else modified.timestamp()
        path = str(info["name"]).removeprefix(self._root).lstrip("/")
        return FileInfo(path, int(info.get("size") or 0), float(seconds))

    def _exclusive(self, put: Callable[[], object]) -> bool:
        for attempt in range(_CONFLICT_TRIES):
            try:
                put()
                return True
            except FileExistsError:
                return False
            except OSError as error:
                if status_of(error) == 412:
                    return False
                if status_of(error) != 409 or attempt == _CONFLICT_TRIES - 1:
                    raise
                # two writers at the same moment: one of them is through in a moment
                time.sleep(0.02 * 2**attempt)
        return False

    # ---- asking a server

    def _ask(self, name: str, *args: Any, within_s: float | None = None, **more: Any) -> Any:
        """Have the file system do something, in that time or not at all."""
        within_s = within_s or self.timeout_s
        coroutine = getattr(self._fs, f"_{name}", None)
        if inspect.iscoroutinefunction(coroutine):
            return sync(self._fs.loop, coroutine, *args, timeout=within_s, **more)
        call = getattr(self._fs, name)
        if self.protocol == "memory":
            return call(*args, **more)
        return abandoned_after(within_s, lambda: call(*args, **more))

    def _pipe(self, full: str, data: bytes | memoryview, **more: Any) -> None:
        within_s = self._transfer_s(len(data))
        self._ask("pipe_file", full, bytes(data), within_s=within_s, **more)

    def _copy(self, path: str, to: str, **more: Any) -> None:
        within_s = self.timeout_s * _MANY
        self._ask("cp_file", self._full(path), self._full(to), within_s=within_s, **more)

    def _transfer_s(self, size_bytes: int) -> float:
        return self.timeout_s + size_bytes / _BYTES_PER_S

    @contextmanager
    def _said(self, verb: str, path: str) -> Iterator[None]:
        """Turn what the file system says into a `StoreError` that says what to do."""
        if not self.local:
            self._ask_only_if_it_answers(verb, path)
        try:
            yield
            if not self.local:
                self._breaker.answered()
        except StoreError:
            raise
        except Exception as error:  # drivers raise classes of their own libraries
            if not (self.local or says_nothing_of_the_server(error)):
                self._breaker.failed(time.monotonic(), silent=is_silence(error))
            reason = reason_of(error, self.url, self.shown_url, self.options.secrets())
            # not `from error`: drivers quote URLs with what they hold, and a traceback shows causes
            raise StoreError(f"cannot {verb} {self._shown(path)!r}: {reason}") from None

    def _ask_only_if_it_answers(self, verb: str, path: str) -> None:
        now = time.monotonic()
        if left_s := self._breaker.left_alone_s(now):
            raise StoreError(
                f"cannot {verb} {self._shown(path)!r}: the storage gave no answer "
                f"{self._breaker.failed_ago_s(now):.0f} s ago and is left alone for "
                f"{left_s:.0f} s more; check that it can be reached"
            )

    def _shown(self, path: str) -> str:
        return f"{self.shown_url.rstrip('/')}/{path}".rstrip("/")


def _connect(url: str, protocol: str, options: dict[str, Any]) -> tuple[Any, str]:
    shown = without_credentials(url)
    # Listings must be true, not remembered: another writer may have published meanwhile.
    fresh = {} if protocol == "memory" else {"use_listings_cache": False}
    try:
        fs, root = fsspec.core.url_to_fs(url, **(fresh | options))
    except ImportError:
        driver = _DRIVERS.get(protocol, f"the fsspec driver for {protocol}://")
        raise UsageError(
            f"storage {shown!r} needs a driver that is not installed; install {driver}"
        ) from None
    except TypeError:
        raise UsageError(
            f"storage {shown!r} does not take all of the options {', '.join(options)}; see the "
            f"documentation of the fsspec driver for {protocol}://"
        ) from None
    except ValueError:
        raise UsageError(
            f"storage {shown!r} has a protocol that fsspec does not know; use a folder, file://, "
            "memory://, s3://, gs:// or abfs://"
        ) from None
    return fs, str(root).rstrip("/")


def _write_all(file: BinaryIO, data: bytes | memoryview) -> None:
    file.write(data)
