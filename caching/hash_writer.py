"""The writer: turns a value into an unambiguous stream of bytes, type by type.

Every value is written as one self-delimiting item: an exact atom as `marshal` writes it, anything
else as a tag (first byte 0xFF, which marshal never uses) and what its handler writes.  Cycles and
shared parts are dealt with in `ContentWriter.nest`.  Handlers live in the `hash_*` modules and are
found by exact type; the module of a library is imported when its first value turns up.
"""

from __future__ import annotations

import marshal
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from daskflow.caching.hash_buffers import Buffer, ByteTree, Leaves, raw_hash

__all__ = ["ATOMS", "ContentWriter", "Handler", "NoContent", "handlers", "tag", "type_name"]

Handler: TypeAlias = "Callable[[ContentWriter, Any], None]"

# Exact types that marshal writes the same way in every process and version of Python.  Without
# the check for exact types marshal would take a numpy array for bytes.
ATOMS = frozenset({int, float, str, bool, type(None), bytes, complex})

dumps = marshal.dumps
_INLINE_BYTES = 4096
# An item that is longer is replaced by its digest, so shared parts never multiply the stream.
_PIECE_BYTES = 1024
_BACK, _DIGEST = b"\xfe", b"\xfd"
_NO_DEPTH = 1 << 60
# A graph whose cycles interlock is walked path by path; beyond this it is refused, not walked on.
_MOST_REPEATS = 10_000
_MOST_HANDLERS = 8192

handlers: dict[type, Handler] = {}


class NoContent(Exception):
    """Inside the hash only: a part of the value has no content; `steps` leads to it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.steps: list[str] = []

    def within(self, step: str) -> NoContent:
        """Add the step that leads from the container to the part, outermost first."""
        self.steps.insert(0, step)
        return self


def tag(name: str) -> bytes:
    """Return the bytes that open an item of the kind `name`."""
    raw = name.encode("utf-8", "surrogatepass")
    return b"\xff" + len(raw).to_bytes(2, "little") + raw


def type_name(kind: type) -> str:
    """Return ``module:qualified name``, which stands for a type in digests."""
    return f"{kind.__module__}:{kind.__qualname__}"


class ContentWriter:
    """One walk over one value; `out` holds the stream so far.

    Attributes
    ----------
    out : list of bytes
        What was written; handlers append to it, in pieces as they like.
    kinds : set of type, optional
        When set, collects the types that were met: their code may count too.
    """

    __slots__ = (
        *("_depth", "_low", "_memo", "_open", "_repeats"),
        *("_leaves", "_threads", "kinds", "out", "raw", "resolve"),
    )

    def __init__(
        self, resolve: Callable[[type], Handler], algorithm: str, threads: int | None
    ) -> None:
        self.resolve = resolve
        self.out: list[bytes] = []
        self.raw = raw_hash(algorithm)
        self._threads = threads
        self._leaves: Leaves | None = None
        self.kinds: set[type] | None = None
        # id -> depth while the object is being written, (object, its item) once it is complete;
        # holding the object keeps its id from being given to another one.
        self._memo: dict[int, int | tuple[Any, bytes]] = {}
        self._depth = 0
        self._low = _NO_DEPTH
        self._open: set[int] | None = None
        self._repeats = 0

    @property
    def leaves(self) -> Leaves:
        """What hashes large buffers; made when the first one comes."""
        if self._leaves is None:
            self._leaves = Leaves(self.raw, self._threads)
        return self._leaves

    def close(self) -> None:
        """End the threads, if any were started."""
        if self._leaves is not None:
            self._leaves.close()

    def put(self, value: Any) -> None:
        """Write one value as one item.

        Raises
        ------
        NoContent
            When the value, or a part of it, has no content.
        """
        kind = type(value)
        if kind in ATOMS:
            if (kind is str or kind is bytes) and len(value) > _INLINE_BYTES:
                self._large_text(value)
            else:
                self.out.append(dumps(value, 2))
            return
        handler = handlers.get(kind)
        if handler is None:
            if len(handlers) > _MOST_HANDLERS:
                # Classes made at run time would otherwise be kept for ever.
                handlers.clear()
            handler = self.resolve(kind)
            handlers[kind] = handler
        if self.kinds is not None:
            self.kinds.add(kind)
        handler(self, value)

    def _large_text(self, value: str | bytes) -> None:
        if isinstance(value, str):
            self.out.append(tag("str"))
            self.buffer(value.encode("utf-8", "surrogatepass"))
        else:
            self.out.append(tag("bytes"))
            self.buffer(value)

    def buffer(self, data: Buffer) -> None:
        """Write bytes: their size, then themselves or, when there are many, their digest."""
        size = memoryview(data).nbytes
        self.out.append(size.to_bytes(8, "little"))
        self.out.append(bytes(data) if size <= _INLINE_BYTES else self.leaves.tree(data))

    def tree(self, pieces: Iterable[Buffer]) -> bytes:
        """Return the digest of the bytes of many pieces, as of one buffer."""
        tree = ByteTree(self.leaves)
        for piece in pieces:
            tree.update(piece)
        return tree.digest()

    def item(self, value: Any) -> bytes:
        """Return one value's item instead of writing it: what sets and dicts sort by."""
        out, self.out = self.out, []
        try:
            self.put(value)
            return b"".join(self.out)
        finally:
            self.out = out

    def nest(self, value: Any, write: Handler) -> None:
        """Write a value that may contain others, each object once, cycles as the way back.

        What is written depends on the value alone, not on which equal parts are one object:
        a part that is met again is written again, from memory.
        """
        me = id(value)
        known = self._memo.get(me)
        if known is not None:
            if isinstance(known, tuple):
                self.out.append(known[1])
            else:
                self.out.append(_BACK + (self._depth - known).to_bytes(4, "little"))
                self._low = min(self._low, known)
            return
        depth = self._depth
        self._memo[me] = depth
        self._depth = depth + 1
        out, low = self.out, self._low
        self.out, self._low = [], _NO_DEPTH
        try:
            write(self, value)
            piece = b"".join(self.out)
            if len(piece) > _PIECE_BYTES:
                piece = _DIGEST + self.raw(piece)
        except BaseException:
            del self._memo[me]
            self._low = low
            raise
        finally:
            self.out, self._depth = out, depth
        out.append(piece)
        if self._low >= depth:
            self._memo[me] = (value, piece)
            self._low = low
        else:
            del self._memo[me]
            self._low = min(self._low, low)
            self._count_repeat(me)

    def _count_repeat(self, me: int) -> None:
        if self._open is None:
            self._open = set()
        if me in self._open:
            self._repeats += 1
            if self._repeats > _MOST_REPEATS:
                raise NoContent("is part of too many cycles to be hashed")
        self._open.add(me)

    def digest(self, opening: bytes) -> bytes:
        """Return the digest of everything written, after `opening`."""
        return self.raw(opening + b"".join(self.out))
