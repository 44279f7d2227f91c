"""The format file of a result store: its version, its hash algorithm, the name of its secret.

The file decides for its store: a store goes on with the algorithm that it was made with, whatever
the settings say, for digests of two algorithms have nothing to do with each other.  Loads no
pyarrow: a process that only makes keys imports this.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from daskflow.caching.hash_buffers import ALGORITHMS
from daskflow.errors import StoreError, StoreVersionError
from daskflow.results.storage import Storage

__all__ = ["FORMAT", "FORMAT_FILE", "StoreFormat", "algorithm_of_store"]

FORMAT = 2
FORMAT_FILE = "_format.json"


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
                f"{ours.hash_algorithm!r}; {_how_to_have(self.hash_algorithm)}, or name another "
                "storage"
            )
        if self.key_id is not None and self.key_id != ours.key_id:
            have = "no secret is set" if ours.key_id is None else "the secret set is another one"
            raise StoreError(
                f"the result store {shown_url!r} is sealed with a secret, and {have}; set the "
                "store's secret or name another storage"
            )


def algorithm_of_store(storage: Storage) -> str | None:
    """Return the hash algorithm that the store in `storage` was made with; None: there is no store.

    Raises
    ------
    StoreError
        When the storage cannot answer, or its format file is none of daskflow.
    """
    data = storage.read(FORMAT_FILE)
    if data is None:
        return None
    return StoreFormat.from_bytes(data, storage.shown_url).hash_algorithm


def _how_to_have(algorithm: str) -> str:
    if algorithm not in ALGORITHMS:
        return "upgrade daskflow"
    extra = "" if algorithm == "sha256" else f" (it needs daskflow[{algorithm}])"
    return f"set results.hash_algorithm = {algorithm!r}{extra}"
