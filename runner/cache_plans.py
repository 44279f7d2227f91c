"""From the caching options of tasks, flows and settings to the plan that travels with a task.

A task caches when it asks for it: by `cache_policy`, `cache_key_fn`, `cache_expiration` or
`persist_result=True`, of its own or of its flow.
"""

from __future__ import annotations

import datetime
import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

from daskflow.caching.policy import DEFAULT, NO_CACHE, STRICT, CachePolicy
from daskflow.errors import Uncacheable, UsageError
from daskflow.results.storage_options import ResultStorage, StorageOptions
from daskflow.runner.cache_defaults import CacheDefaults, FlowCacheOptions
from daskflow.runner.context import FLOW_LOGGER, FlowInfo, current_task_run
from daskflow.runner.options import check_callable, check_switch

if TYPE_CHECKING:
    from daskflow.caching.code import CodeDigest
    from daskflow.caching.plans import CachePlan
    from daskflow.config import Settings
    from daskflow.runner.tasks import Task

__all__ = [
    "CACHE_OPTIONS",
    "CacheOptions",
    "FlowCacheOptions",
    "FlowCaching",
    "cache_overrides",
    "check_cache_options",
    "check_storage",
    "refreshing",
    "uncached",
]

CACHE_OPTIONS: dict[str, Any] = {
    "cache_policy": None,
    "cache_key_fn": None,
    "cache_expiration": None,
    "refresh_cache": None,
    "persist_result": None,
    "result_storage": None,
}

_logger = logging.getLogger(FLOW_LOGGER)
_off: ContextVar[bool] = ContextVar("daskflow_uncached", default=False)
_refreshing: ContextVar[frozenset[str]] = ContextVar("daskflow_refreshing", default=frozenset())


class CacheOptions(NamedTuple):
    """What one task says about caching, checked."""

    policy: CachePolicy | None
    key_fn: Callable[..., Any] | None
    expires_s: float | None
    refresh: bool | None
    persist: bool | None
    storage: ResultStorage | None

    @property
    def asks(self) -> bool:
        """Whether the task itself asks for caching."""
        if self.policy is not None:
            return self.policy.caches or bool(self.persist or self.key_fn)
        return bool(self.key_fn or self.expires_s or self.persist)


_NOTHING_SAID = FlowCacheOptions()


def check_cache_options(chosen: Mapping[str, Any]) -> CacheOptions:
    """The caching options among those of a task.

    Raises
    ------
    UsageError
        For a value that cannot be, and for options that contradict each other.
    """
    policy = chosen["cache_policy"]
    if policy is not None and not isinstance(policy, CachePolicy):
        raise UsageError(
            f"cache_policy={policy!r} must be a policy, such as INPUTS + TASK_SOURCE, or NO_CACHE"
        )
    key_fn = check_callable("cache_key_fn", chosen["cache_key_fn"])
    if policy == STRICT and key_fn is None:
        policy = DEFAULT + STRICT
    if key_fn is not None and policy not in (None, STRICT):
        raise UsageError(
            f"cache_key_fn= takes the place of a policy, and cache_policy={policy!r} is given "
            "too; leave one of them out"
        )
    options = CacheOptions(
        policy,
        key_fn,
        _seconds(chosen["cache_expiration"]),
        check_switch("refresh_cache", chosen["refresh_cache"]),
        check_switch("persist_result", chosen["persist_result"]),
        check_storage(chosen["result_storage"]),
    )
    if options.persist is False and options._replace(persist=None).asks:
        raise UsageError(
            "persist_result=False keeps no result, so there is nothing that caching could find; "
            "leave it out, or leave the caching options out"
        )
    return options


def _seconds(value: Any) -> float | None:
    if value is None:
        return None
    seconds = value.total_seconds() if isinstance(value, datetime.timedelta) else value
    number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if not number or not math.isfinite(seconds) or seconds <= 0:
        raise UsageError(
            f"cache_expiration={value!r} must be a timedelta or a number of seconds, above 0"
        )
    return float(seconds)


def check_storage(value: Any) -> ResultStorage | None:
    """What `result_storage` says: a folder, a URL, or a `ResultStorage` with options.

    Raises
    ------
    UsageError
    """
    if value is None or isinstance(value, ResultStorage):
        return value
    if not isinstance(value, str) or not value.strip():
        raise UsageError(
            f'result_storage={value!r} must be a folder or a URL, such as "s3://bucket/results", '
            "or a ResultStorage with options"
        )
    return ResultStorage(value)


@contextmanager
def refreshing(tasks: Iterable[str]) -> Iterator[None]:
    """Tasks of these names look nothing up in flow runs that start inside; ``"*"`` is all."""
    token = _refreshing.set(_refreshing.get() | frozenset(tasks))
    try:
        yield
    finally:
        _refreshing.reset(token)


@contextmanager
def uncached() -> Iterator[None]:
    """Flow runs that start inside neither look results up nor store them."""
    token = _off.set(True)
    try:
        yield
    finally:
        _off.reset(token)


def cache_overrides() -> dict[str, Any]:
    """What `refreshing` and `uncached` say here, for the record."""
    return {"refresh": sorted(_refreshing.get()), "no_cache": _off.get()}


class FlowCaching:
    """Makes the plans of one flow run.

    Parameters
    ----------
    defaults : CacheDefaults
        What holds for tasks that do not say.
    info : FlowInfo
    parameters : mapping or None
        Of the flow run; None where they are not known.
    """

    def __init__(
        self, defaults: CacheDefaults, info: FlowInfo, parameters: Mapping[str, Any] | None
    ) -> None:
        self.defaults = defaults
        self._info = info
        self._parameters = parameters
        self._warned: set[str] = set()
        self.places: dict[str, Iterator[int]] = {}  # of runs of equal inputs that persist

    @classmethod
    def here(
        cls,
        settings: Settings,
        info: FlowInfo,
        parameters: Mapping[str, Any] | None,
        options: FlowCacheOptions = _NOTHING_SAID,
    ) -> FlowCaching:
        """That of a flow run that starts here, by the settings of this process."""
        # asked here, where the flow starts: plans are made in other threads, too
        defaults = CacheDefaults.of(settings, options, _off.get(), _refreshing.get())
        return cls(defaults, info, parameters)

    def inside(
        self, info: FlowInfo, parameters: Mapping[str, Any], options: FlowCacheOptions
    ) -> FlowCaching:
        """That of a flow run inside of this one, wherever it starts."""
        defaults = self.defaults.inside(options, _off.get(), _refreshing.get())
        return FlowCaching(defaults, info, parameters)

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Of the flow run, as far as they are known here."""
        return self._parameters or {}

    def plan(self, task: Task[Any, Any]) -> CachePlan | None:
        """How the runs of `task` cache; None when they do not.

        Raises
        ------
        Uncacheable
            When its code, or the flow's parameters, cannot be hashed and the policy is strict.
        UsageError
            When there is a secret that the workers would not find, or the hash algorithm of the
            settings is not installed.
        """
        options, defaults = task.caching, self.defaults
        persist = options.persist
        if persist is None and options.policy != NO_CACHE:
            persist = defaults.keeps
        if not defaults.enabled or not (options.asks or persist):
            return None
        # only flows that cache pay for it
        from daskflow.caching.addresses import StoreAddress
        from daskflow.caching.plans import CachePlan
        from daskflow.caching.secret import SECRET_VARIABLE

        if defaults.sealed and not os.environ.get(SECRET_VARIABLE):
            raise UsageError(
                "results.secret is set, but workers read it from the environment only; set "
                f"{SECRET_VARIABLE} here and on every worker instead"
            )
        policy = options.policy
        if policy is None:
            policy = NO_CACHE if options.key_fn is not None else DEFAULT
        strict, names = defaults.strict or policy.strict, defaults.refreshing
        refresh = defaults.refresh if options.refresh is None else options.refresh
        url, storage_options = defaults.storage_for(options.storage)
        algorithm = self._algorithm(url, storage_options)
        return CachePlan(
            task.name,
            policy,
            self._code(task, policy, strict),
            _pickled(options.key_fn),
            self._info.id,
            self._flow_parameters(task, policy, strict, algorithm),
            options.expires_s,
            refresh or "*" in names or task.name in names,
            bool(persist),
            StoreAddress(
                *(url, defaults.allow_pickle, defaults.sealed, storage_options),
                *(defaults.timeout_s, algorithm, defaults.near),
            ),
            strict,
        )

    def _algorithm(self, url: str, options: StorageOptions) -> str:
        from daskflow.runner.hash_choice import chosen_algorithm, refuse_missing  # as above

        said, timeout_s = self.defaults.hash_algorithm, self.defaults.timeout_s
        algorithm = chosen_algorithm(self._info.id, url, options, timeout_s, said)
        if current_task_run.get() is None:  # on a worker such a run is not cached
            refuse_missing(algorithm)
        return algorithm

    def _code(self, task: Task[Any, Any], policy: CachePolicy, strict: bool) -> CodeDigest | None:
        if "TASK_SOURCE" not in policy.components:
            return None
        from daskflow.caching.plans import cannot_cache  # only flows that cache pay

        try:
            return task.code_digest
        except Uncacheable as error:
            if strict:
                raise cannot_cache(task.name, error) from error
            self.warn(task.name, str(error))
            return None

    def _flow_parameters(
        self, task: Task[Any, Any], policy: CachePolicy, strict: bool, algorithm: str
    ) -> dict[str, str] | None:
        if "FLOW_PARAMETERS" not in policy.components:
            return None
        from daskflow.caching.hashing import content_digest  # only flows that cache pay
        from daskflow.caching.plans import cannot_cache

        try:
            if self._parameters is None:
                raise UsageError("its policy counts the flow's parameters, not known here")
            return {
                name: content_digest(value, algorithm=algorithm, name=f"flow parameter {name}")
                for name, value in self._parameters.items()
            }
        except UsageError as error:  # Uncacheable, or parameters that did not travel
            if strict:
                raise cannot_cache(task.name, error) from error
            self.warn(task.name, str(error))
            return None

    def warn(self, task_name: str, why: str) -> None:
        """Say once per task why its runs are not cached."""
        if task_name not in self._warned:
            self._warned.add(task_name)
            _logger.warning("task %s runs uncached: %s", task_name, why)


def _pickled(key_fn: Callable[..., Any] | None) -> bytes | None:
    if key_fn is None:
        return None
    import cloudpickle  # heavy

    return cloudpickle.dumps(key_fn, 5)  # type: ignore[no-any-return]
