"""Where things lie below a store's root: paths made of hex digests.

Nothing here touches a file.  A key or digest that is not lower-case hex is refused, so no text of
a user ever becomes part of a path.
"""

from __future__ import annotations

import re

from daskflow.errors import UsageError

__all__ = [
    "BLOBS",
    "CANDIDATE",
    "INDEX",
    "PACKS",
    "QUARANTINE",
    "blob_path",
    "check_key",
    "index_path",
    "key_of_path",
    "pack_path",
]

CANDIDATE = ".candidate"  # a pack that no reader looks at yet
INDEX, BLOBS, PACKS, QUARANTINE = "index", "blobs", "packs", "quarantine"
_HEX = re.compile(r"[0-9a-f]{8,128}\Z")


def check_key(key: str) -> str:
    """Return a key, or raise `UsageError` when it is no lower-case hex digest."""
    if not isinstance(key, str) or not _HEX.match(key):
        raise UsageError(f"a cache key is 8 to 128 lower-case hex digits, got {key!r}")
    return key


def index_path(key: str) -> str:
    """Return the path of the row of a key."""
    return f"{INDEX}/{key[:2]}/{check_key(key)}.parquet"


def blob_path(digest: str) -> str:
    """Return the path of a blob."""
    return f"{BLOBS}/{digest[:2]}/{check_key(digest)}.parquet"


def pack_path(created_unix: float, digest: str) -> str:
    """Return the path of a pack; by name, older packs come first."""
    return f"{PACKS}/{int(created_unix * 1000):013d}-{digest[:32]}.parquet"


def key_of_path(path: str) -> str | None:
    """Return the key or digest that a path is named after; None for temporary files."""
    name = path.rpartition("/")[2]
    stem, dot, suffix = name.partition(".")
    return stem if dot and suffix == "parquet" and _HEX.match(stem) else None
