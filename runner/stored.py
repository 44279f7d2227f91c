"""A result that is in a result store, as the driver and futures hold it.

It needs no worker.  Where the store has lost it, its run is executed again like one whose worker
is gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from daskflow.errors import ResultGone, StoreError
from daskflow.runner.cluster.executor.errors import KeyLost
from daskflow.runner.core.graph import Remote

if TYPE_CHECKING:
    from daskflow.caching.plans import StoredRef

__all__ = ["StoredValue"]


class StoredValue(Remote):
    """The value of a run, by reference."""

    __slots__ = ("ref",)

    def __init__(self, ref: StoredRef) -> None:
        self.ref = ref

    def load(self, timeout: float | None) -> Any:
        """Read the value; a fresh one at each call.

        Raises
        ------
        KeyLost
            When it is gone, damaged, or its storage cannot be reached.
        """
        try:
            # looked up here, or told of by a worker, which is believed in all else, too
            return self.ref.load(checked=True)
        except (ResultGone, StoreError) as error:
            raise KeyLost(self.ref.entry.key) from error
