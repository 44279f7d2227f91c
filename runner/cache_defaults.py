"""What settings, a flow and the command line say about caching, as it travels with task runs.

Light: workers import this.  A task that is called inside of a task, in whatever process, caches as
its flow run does, not as the settings of that process say.
"""

from __future__ import annotations

import functools
import pickle
from typing import TYPE_CHECKING, NamedTuple

from daskflow.results.storage_options import ResultStorage, StorageOptions

if TYPE_CHECKING:
    from daskflow.config import Settings
    from daskflow.runner.context import FlowInfo

__all__ = ["CacheDefaults", "FlowCacheOptions", "chosen_storage", "defaults_of"]


class FlowCacheOptions(NamedTuple):
    """What one flow says about caching, checked."""

    persist: bool | None = None
    storage: ResultStorage | None = None


class CacheDefaults(NamedTuple):
    """What holds for the tasks of a flow run that do not say.

    Attributes
    ----------
    storage : ResultStorage
        Of the settings; its options are for other URLs of the same protocol, too.
    enabled : bool
        False: nothing is looked up or stored.
    persist : bool or None
        None: tasks that do not say keep no result.
    strict : bool
    allow_pickle : bool
    sealed : bool
        The store is sealed with the secret of each process.
    timeout_s : float
        That a request to the storage may take (seconds).
    hash_algorithm : str
        Of new stores; an existing one has its own.
    near : str
        Folder of each machine that keeps results of a storage elsewhere; empty: none.
    refresh : bool
        Of tasks that do not say.
    refreshing : frozenset of str
        Names of tasks that look nothing up; ``"*"`` is all.
    flow : FlowCacheOptions
    """

    storage: ResultStorage
    enabled: bool
    persist: bool | None
    strict: bool
    allow_pickle: bool
    sealed: bool
    timeout_s: float
    hash_algorithm: str
    near: str
    refresh: bool
    refreshing: frozenset[str]
    flow: FlowCacheOptions

    @classmethod
    def of(
        cls, settings: Settings, flow: FlowCacheOptions, off: bool, refreshing: frozenset[str]
    ) -> CacheDefaults:
        """Those of a flow run that starts here."""
        results = settings.results
        return cls(
            ResultStorage(results.storage, results.storage_options),
            results.enabled and not off,
            True if results.persist_by_default else None,
            results.strict,
            results.allow_pickle,
            results.secret is not None,
            results.timeout_seconds,
            results.hash_algorithm,
            results.local_cache or "",
            settings.tasks.refresh_cache,
            refreshing,
            flow,
        )

    @property
    def keeps(self) -> bool | None:
        """Whether tasks that do not say keep their results; None: nobody says."""
        return self.persist if self.flow.persist is None else self.flow.persist

    def inside(
        self, flow: FlowCacheOptions, off: bool = False, refreshing: frozenset[str] = frozenset()
    ) -> CacheDefaults:
        """Those of a flow run inside of this one."""
        enabled, names = self.enabled and not off, self.refreshing | refreshing
        return self._replace(enabled=enabled, refreshing=names, flow=flow)

    def storage_for(self, asked: ResultStorage | None) -> tuple[str, StorageOptions]:
        """The URL and options of a task's results, by what the task itself says."""
        return chosen_storage(asked or self.flow.storage or self.storage, self.storage)


def defaults_of(flow: FlowInfo) -> CacheDefaults | None:
    """Those of the flow run that the current task run belongs to; None outside of any.

    They go along with every parcel, so they travel as bytes that are made once.
    """
    said = flow.caching
    return _unpickled(said) if isinstance(said, bytes) else said


@functools.lru_cache(maxsize=64)
def _unpickled(sent: bytes) -> CacheDefaults:
    defaults: CacheDefaults = pickle.loads(sent)
    return defaults


def chosen_storage(chosen: ResultStorage, settings: ResultStorage) -> tuple[str, StorageOptions]:
    """A URL, and its own options or those of the settings for its protocol."""
    options = chosen.options
    if options is None and chosen.protocol == settings.protocol:
        options = settings.options
    return chosen.url, options or StorageOptions()
