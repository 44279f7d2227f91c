"""Where things lie below a store's root: paths made of hex digests, and the format file.

Nothing here touches a file.  A key or digest that is not lower-case hex is refused, so no text of
a user ever becomes part of a path.
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple

from daskflow.caching.index import FORMAT
from daskflow.errors import StoreError, StoreVersionError, UsageError

__all__ = [
    "BLOBS",
    "CANDIDATE",
    "FORMAT_FILE",
    "INDEX",
    "PACKS",
    "QUARANTINE",
    "StoreFormat",
    "blob_path",
    "check_key",
    "index_path",
    "key_of_path",
    "pack_path",
]

FORMAT_FILE = "_format.json"
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


class StoreFormat(NamedTuple):
    """What the format file says: version, hash algorithm of content digests, name of the secret."""

    version: int
    hash_algorithm: str
    key_id: str | None

    def to_bytes(self) -> bytes:
        """Return the format file's bytes."""
        said = {"format": self.version, "hash": self.hash_algorithm, "hmac_key_id": self.key_id}
        return json.dumps({"daskflow": "result store", **said}, indent=1).encode() + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes, shown_url: str) -> StoreFormat:
        """Read a format file; raise `StoreError` when it is none."""
        try:
            said = json.loads(data)
            return cls(int(said["format"]), str(said["hash"]), said.get("hmac_key_id"))
        except (ValueError, KeyError, TypeError):
            raise StoreError(
                f"{shown_url!r} has a {FORMAT_FILE} that is not one of daskflow; name another "
                "folder, or delete that file if the folder is a result store"
            ) from None

    def check(self, ours: StoreFormat, shown_url: str) -> None:
        """Raise when this store was made in a way that we cannot share."""
        if self.version > FORMAT:
            raise StoreVersionError(
                f"the result store {shown_url!r} has format {self.version}, this daskflow knows "
                f"up to {FORMAT}; upgrade daskflow or name another storage"
            )
        if self.hash_algorithm != ours.hash_algorithm:
            raise StoreError(
                f"the result store {shown_url!r} was made with hash {self.hash_algorithm!r}, not "
                f"{ours.hash_algorithm!r}; use that hash or name another storage"
            )
        if self.key_id is not None and self.key_id != ours.key_id:
            have = "no secret is set" if ours.key_id is None else "the secret set is another one"
            raise StoreError(
                f"the result store {shown_url!r} is sealed with a secret, and {have}; set the "
                "store's secret or name another storage"
            )
