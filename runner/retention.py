"""Retention by itself: at the end of a flow run old results go, as the settings say.

Once an hour and home folder, by the flow process, after all task runs have ended.  A store that
cannot be swept, or Ctrl-C meanwhile, costs a line of log; a flow run tries again an hour later.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from daskflow.errors import DaskflowError
from daskflow.runner.context import FLOW_LOGGER

if TYPE_CHECKING:
    from daskflow.config import Settings

__all__ = ["apply_retention"]

EVERY_S = 3600.0
_DAY_S = 86_400.0
_GB = 10**9

_logger = logging.getLogger(FLOW_LOGGER)


def apply_retention(settings: Settings, now: float) -> None:
    """Remove results that are older, or more, than the settings allow; nothing if they allow all.

    Parameters
    ----------
    settings : Settings
        Its `results.retention_days` and `results.max_size_gb` count, for `results.storage`
        and `results.local_cache`, each.
    now : float
        Unix seconds.
    """
    results = settings.results
    if (results.retention_days is None and results.max_size_gb is None) or not results.enabled:
        return
    try:
        for url in filter(None, (results.storage, results.local_cache)):
            if _is_due(settings.home, url, now):
                _sweep(settings, url, now)
    except (DaskflowError, OSError) as error:
        _logger.warning("old results are not removed: %s", error)
    except KeyboardInterrupt:
        _logger.warning("interrupted while old results are removed; a later flow run goes on")


def _is_due(home: Path, storage: str, now: float) -> bool:
    """Whether nobody with this home folder has done it for an hour; from now on, we have."""
    name = hashlib.sha256(storage.encode()).hexdigest()[:16]
    marker = home / "retention" / name
    try:
        if 0.0 <= now - float(marker.read_text()) < EVERY_S:
            return False
    except (FileNotFoundError, ValueError):
        pass  # never done, or cut when the machine lost power
    marker.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    marker.write_text(f"{now:.3f}")
    return True


def _sweep(settings: Settings, url: str, now: float) -> None:
    from daskflow.caching.store import ResultStore  # loads pyarrow: only where this is asked for

    results = settings.results
    days, most = results.retention_days, results.max_size_gb
    store = ResultStore(
        url,
        secret=results.secret.get_secret_value().encode() if results.secret else None,
        allow_pickle=results.allow_pickle,
        options=results.storage_options if url == results.storage else None,
        timeout_s=results.timeout_seconds,
    )
    report = store.gc(
        older_than_s=None if days is None else days * _DAY_S,
        max_size_bytes=None if most is None else int(most * _GB),
        now=now,
    )
    if report.entries or report.blobs:
        _logger.info(
            "removed %d old results and %d blobs from %s, %.1f MB; %d results stay",
            *(len(report.entries), report.blobs, store.storage.shown_url),
            *(report.freed_bytes / 1e6, report.kept_entries),
        )
