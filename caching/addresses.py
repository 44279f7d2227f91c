"""Where a result store is, as it travels: each process opens it with its own secret.

Loads no pyarrow: a process that only makes keys imports this.  The secret is in no pickle; options
of the file system travel as they were given, see `daskflow.results.storage_options`.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from daskflow.caching.secret import secret_here
from daskflow.results.storage_options import StorageOptions, without_credentials

if TYPE_CHECKING:
    from daskflow.caching.index import Entry
    from daskflow.caching.store import ResultStore
    from daskflow.caching.store_tiers import TieredStore

__all__ = ["StoreAddress", "StoredRef", "open_store"]

_OPEN = 8  # stores that a process keeps open


class StoreAddress(NamedTuple):
    """Where results are kept; opened in each process, with the secret of that process.

    Attributes
    ----------
    url : str
    allow_pickle : bool
    sealed : bool
        Entries carry an HMAC of the secret in ``DASKFLOW_RESULTS__SECRET``.
    options : StorageOptions
        Of the fsspec file system.
    timeout_s : float
        That one request may take (seconds).
    hash_algorithm : str
        Of the digests in there.
    near : str
        Folder of each machine that keeps what was read from or written to a store elsewhere;
        empty: none.
    """

    url: str
    allow_pickle: bool = True
    sealed: bool = False
    options: StorageOptions = StorageOptions()
    timeout_s: float = 30.0
    hash_algorithm: str = "sha256"
    near: str = ""

    def __repr__(self) -> str:
        return f"StoreAddress({without_credentials(self.url)!r}, {self.options!r})"


class StoredRef(NamedTuple):
    """A result in a store: where, and its index entry."""

    store: StoreAddress
    entry: Entry

    def load(self, *, checked: bool = False) -> Any:
        """Return the value, fresh; `checked`: this process has looked the entry up.

        Raises
        ------
        ResultGone
            When it is not there any more, or damaged.
        StoreError
            When the storage cannot answer.
        """
        return open_store(self.store).load(self.entry, checked=checked)


_Store: TypeAlias = "ResultStore | TieredStore"
_stores: OrderedDict[tuple[str, StoreAddress], _Store] = OrderedDict()
_lock = threading.Lock()


def open_store(address: StoreAddress, flow_run_id: str = "") -> _Store:
    """Return the store at `address`, one object per process and flow run.

    A store object remembers misses, so that of an earlier flow run would miss what came since.
    """
    key = flow_run_id, address
    with _lock:
        store = _stores.get(key)
        if store is None:
            store = _stores[key] = _new_store(address)
            while len(_stores) > _OPEN:
                _stores.popitem(last=False)
        else:
            _stores.move_to_end(key)
        return store


def _new_store(address: StoreAddress) -> _Store:
    from daskflow.caching.store import ResultStore  # loads pyarrow: only where results are cached

    far = ResultStore(
        address.url,
        secret=secret_here(address.url, address.sealed),
        allow_pickle=address.allow_pickle,
        hash_algorithm=address.hash_algorithm,
        options=address.options,
        timeout_s=address.timeout_s,
    )
    if not address.near or far.storage.local:
        return far
    from daskflow.caching.store_tiers import TieredStore  # as above

    secret = secret_here(address.near, address.sealed)
    algorithm = address.hash_algorithm
    # a store has digests of one kind, and the folder serves storages of both
    folder = address.near if algorithm == "sha256" else os.path.join(address.near, algorithm)
    near = ResultStore(
        folder, secret=secret, allow_pickle=address.allow_pickle, hash_algorithm=algorithm
    )
    return TieredStore(near, far)
