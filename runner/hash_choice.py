"""Which hash algorithm the digests of a task's results are made with.

An existing store says it in its format file, which is read once per flow run and process; a new
one gets what the settings say.  A setting that differs from the store's own is told once.  A flow
waits for this where it submits: storage far away is not asked where the setting is the usual one,
and the check of the format says then what to set.
"""

from __future__ import annotations

import functools
import logging

from daskflow.caching.hash_buffers import ALGORITHMS, raw_hash
from daskflow.caching.store_format import algorithm_of_store
from daskflow.errors import DaskflowError, UsageError
from daskflow.results.storage import Storage
from daskflow.results.storage_options import ResultStorage, StorageOptions, without_credentials
from daskflow.runner.context import FLOW_LOGGER, current_task_run

__all__ = ["chosen_algorithm", "is_here", "refuse_missing"]

_logger = logging.getLogger(FLOW_LOGGER)
_USUAL, _NEAR = "sha256", ("file", "local", "memory")
_told: set[tuple[str, str]] = set()


def chosen_algorithm(
    flow_run_id: str, url: str, options: StorageOptions, timeout_s: float, setting: str
) -> str:
    """Return the hash algorithm for results below `url`.

    Parameters
    ----------
    flow_run_id : str
        One answer holds for all of it.
    url : str
    options : StorageOptions
    timeout_s : float
        That asking the storage may take (seconds).
    setting : str
        What ``results.hash_algorithm`` says, for a store that is new.  Also where the store is not
        asked or does not answer, or has an algorithm that is not installed here: opening it
        says so then.
    """
    if setting == _USUAL and ResultStorage(url).protocol not in _NEAR:
        return setting
    try:
        found = _found(flow_run_id, url, options, timeout_s)
    except DaskflowError:  # told by who looks something up
        return setting
    if found is None or found == setting or not is_here(found):
        return setting
    # a task that calls tasks: the flow has told it, whose workers ask the same
    if current_task_run.get() is None and (url, setting) not in _told:
        _told.add((url, setting))
        _logger.warning(
            "the result store %r was made with hash %s, and results.hash_algorithm is %s: %s is "
            "used there; set results.hash_algorithm = %r, or name another storage for new results",
            *(without_credentials(url), found, setting, found, found),
        )
    return found


@functools.lru_cache(maxsize=64)
def _found(flow_run_id: str, url: str, options: StorageOptions, timeout_s: float) -> str | None:
    return algorithm_of_store(Storage(url, options, timeout_s))


def is_here(algorithm: str) -> bool:
    """Whether this process can hash with `algorithm`."""
    try:
        return algorithm in ALGORITHMS and callable(raw_hash(algorithm))
    except UsageError:
        return False


def refuse_missing(algorithm: str) -> None:
    """Refuse an algorithm of the settings whose package is not installed.

    Raises
    ------
    UsageError
    """
    if not is_here(algorithm):
        raise UsageError(
            f"results.hash_algorithm is {algorithm!r}, which is not installed here: run "
            f"`pip install 'daskflow[{algorithm}]'`, here and on every worker, or set it to "
            "'sha256'"
        )
