"""Hash algorithms and the tree hash of large buffers.

A buffer of more than one leaf (1 MiB) is hashed leaf by leaf, then once over the digests of its
leaves.  The leaf size is part of the format, so a digest depends neither on the number of threads
nor on the pieces in which the bytes arrive.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any, TypeAlias

from daskflow.errors import UsageError

__all__ = ["ALGORITHMS", "Buffer", "ByteTree", "Leaves", "raw_hash"]

Buffer: TypeAlias = bytes | bytearray | memoryview
RawHash: TypeAlias = Callable[[Buffer], bytes]

LEAF_BYTES = 1 << 20
# Below this many leaves a pool costs more than it brings: its threads start in about 0.1 ms.
_LEAVES_FOR_THREADS = 4


def _sha256(data: Buffer) -> bytes:
    return hashlib.sha256(data).digest()


def _blake3() -> RawHash:
    try:
        blake3: Any = import_module("blake3").blake3
    except ImportError:
        raise UsageError(
            "the hash algorithm 'blake3' is not installed; install 'daskflow[blake3]'"
        ) from None

    def digest(data: Buffer) -> bytes:
        found: bytes = blake3(data).digest()
        return found

    return digest


ALGORITHMS: dict[str, Callable[[], RawHash]] = {"sha256": lambda: _sha256, "blake3": _blake3}
_ready: dict[str, RawHash] = {"sha256": _sha256}


def raw_hash(algorithm: str) -> RawHash:
    """Return the function that hashes bytes with `algorithm` in one go.

    Raises
    ------
    UsageError
        When there is no such algorithm, or when its package is not installed.
    """
    found = _ready.get(algorithm)
    if found is None:
        if algorithm not in ALGORITHMS:
            raise UsageError(f"no hash algorithm {algorithm!r}; have {', '.join(ALGORITHMS)}")
        found = _ready[algorithm] = ALGORITHMS[algorithm]()
    return found


class Leaves:
    """Digests of leaves, with threads once there is enough to do; `close` ends the threads."""

    __slots__ = ("_pool", "_threads", "raw")

    def __init__(self, raw: RawHash, threads: int | None = None) -> None:
        self.raw = raw
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None

    def digests(self, data: memoryview) -> Iterator[bytes]:
        """Yield the digest of each whole or last leaf of `data`, in order."""
        leaves = [data[at : at + LEAF_BYTES] for at in range(0, data.nbytes, LEAF_BYTES)]
        if len(leaves) < _LEAVES_FOR_THREADS or self.threads() == 1:
            return map(self.raw, leaves)
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.threads(), "daskflow-hash")
        return self._pool.map(self.raw, leaves)

    def threads(self) -> int:
        if self._threads is None:
            affinity = getattr(os, "sched_getaffinity", None)
            self._threads = len(affinity(0)) if affinity else os.cpu_count() or 1
        return self._threads

    def close(self) -> None:
        """End the threads, if any were started."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None

    def tree(self, data: Buffer) -> bytes:
        """Return the digest of one buffer."""
        view = memoryview(data)
        if view.nbytes <= LEAF_BYTES:
            return self.raw(view)
        if view.format != "B" or view.ndim != 1:
            view = view.cast("B")
        return self._root(view.nbytes, b"".join(self.digests(view)))

    def _root(self, size: int, digests: bytes) -> bytes:
        return self.raw(b"tree" + size.to_bytes(8, "little") + digests)


class ByteTree:
    """The digest that `Leaves.tree` gives, of bytes that arrive in pieces of any size."""

    __slots__ = ("_digests", "_leaves", "_rest", "size")

    def __init__(self, leaves: Leaves) -> None:
        self._leaves = leaves
        self._rest = bytearray()
        self._digests = bytearray()
        self.size = 0

    def update(self, data: Buffer) -> None:
        """Add bytes; `data` may be changed or freed as soon as this returns."""
        view = memoryview(data)
        if view.format != "B" or view.ndim != 1:
            view = view.cast("B")
        self.size += view.nbytes
        if self._rest:
            missing = LEAF_BYTES - len(self._rest)
            self._rest += view[:missing]
            view = view[missing:]
            if len(self._rest) < LEAF_BYTES:
                return
            self._digests += self._leaves.raw(self._rest)
            self._rest = bytearray()
        whole = view.nbytes // LEAF_BYTES * LEAF_BYTES
        for digest in self._leaves.digests(view[:whole]):
            self._digests += digest
        self._rest += view[whole:]

    def digest(self) -> bytes:
        """Return the digest of all bytes so far; nothing may be added afterwards."""
        if self.size <= LEAF_BYTES:
            return bytes(self._digests) or self._leaves.raw(self._rest)
        if self._rest:
            self._digests += self._leaves.raw(self._rest)
        return self._leaves._root(self.size, bytes(self._digests))
