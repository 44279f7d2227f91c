"""What Dask tells of workers and of the keys of parcels, in the driver's terms."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["ParcelNews", "WorkerNews"]


class WorkerNews(NamedTuple):
    """A worker came or went, is kept busy by a body that was given up, or ends for it."""

    action: str  # "add-worker", "remove-worker", `RECYCLED` or `BUSY`
    worker: str
    expected: bool
    task_run: str = ""  # that keeps a slot busy


class ParcelNews(NamedTuple):
    """What became of a parcel's Dask key without a final report."""

    parcel_id: int
    status: str  # "lost", "error" or "finished"
    reason: str
    worker: str | None
    exception: BaseException | None
