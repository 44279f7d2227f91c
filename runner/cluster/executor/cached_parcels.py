"""Whether a parcel has runs that are cached, before anything of the caching room is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from daskflow.runner.cluster.executor.active import ActiveParcel

if TYPE_CHECKING:
    from daskflow.runner.cluster.executor.committing import Committing

__all__ = ["committing_of"]


def committing_of(parcel: ActiveParcel, functions: Sequence[Any]) -> Committing | None:
    """What runs of the parcel that are cached go through; None when none is."""
    if all(code.cache is None for code in parcel.order.codes):
        return None
    from daskflow.runner.cluster.executor.committing import Committing  # loads the caching room

    return Committing(parcel, functions)
