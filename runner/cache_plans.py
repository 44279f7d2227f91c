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

from daskflow.caching.policy import DEFAULT, NO_CACHE, CachePolicy
from daskflow.errors import Uncacheable, UsageError
from daskflow.runner.context import FLOW_LOGGER, FlowInfo
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
    storage: str | None

    @property
    def asks(self) -> bool:
        """Whether the task itself asks for caching."""
        if self.policy is not None:
            return self.policy.caches or bool(self.persist)
        return bool(self.key_fn or self.expires_s or self.persist)


class FlowCacheOptions(NamedTuple):
    """What one flow says about caching, checked."""

    persist: bool | None = None
    storage: str | None = None


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
    if key_fn is not None and policy is not None:
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


def check_storage(value: Any) -> str | None:
    """The URL of `result_storage`.

    Raises
    ------
    UsageError
    """
    if value is not None and (not isinstance(value, str) or not value.strip()):
        raise UsageError(
            f'result_storage={value!r} must be a folder or a URL, such as "s3://bucket/results"'
        )
    return value


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
    settings : Settings
    info : FlowInfo
    parameters : mapping
        Of the flow run.
    options : FlowCacheOptions, optional
        Of the flow.
    """

    def __init__(
        self,
        settings: Settings,
        info: FlowInfo,
        parameters: Mapping[str, Any],
        options: FlowCacheOptions = _NOTHING_SAID,
    ) -> None:
        self._settings = settings
        self._info = info
        self.parameters = parameters
        self._persist, self._storage = options
        # asked here, where the flow starts: plans are made in other threads, too
        self._off, self._refreshing = _off.get(), _refreshing.get()
        self._warned: set[str] = set()
        self.places: dict[str, Iterator[int]] = {}  # of runs of equal inputs that persist

    def inside(
        self, info: FlowInfo, parameters: Mapping[str, Any], options: FlowCacheOptions
    ) -> FlowCaching:
        """That of a flow run inside of this one, wherever it starts."""
        caching = FlowCaching(self._settings, info, parameters, options)
        caching._off |= self._off
        caching._refreshing |= self._refreshing
        return caching

    def plan(self, task: Task[Any, Any]) -> CachePlan | None:
        """How the runs of `task` cache; None when they do not."""
        options, results = task.caching, self._settings.results
        persist = options.persist
        if persist is None and options.policy != NO_CACHE:
            persist = self._persist
            if persist is None and results.persist_by_default:
                persist = True
        if self._off or not results.enabled or not (options.asks or persist):
            return None
        # only flows that cache pay for it
        from daskflow.caching.addresses import SECRET_VARIABLE, StoreAddress
        from daskflow.caching.plans import CachePlan

        if results.secret is not None and not os.environ.get(SECRET_VARIABLE):
            raise UsageError(
                "results.secret is set, but workers read it from the environment only; set "
                f"{SECRET_VARIABLE} here and on every worker instead"
            )
        policy = options.policy
        if policy is None:
            policy = NO_CACHE if options.key_fn is not None else DEFAULT
        names = self._refreshing
        refresh = options.refresh
        if refresh is None:
            refresh = self._settings.tasks.refresh_cache
        return CachePlan(
            task.name,
            policy,
            self._code(task, policy),
            _pickled(options.key_fn),
            self._info.id,
            self._flow_parameters(policy),
            options.expires_s,
            refresh or "*" in names or task.name in names,
            bool(persist),
            StoreAddress(
                options.storage or self._storage or results.storage,
                results.allow_pickle,
                results.secret is not None,
            ),
        )

    def _code(self, task: Task[Any, Any], policy: CachePolicy) -> CodeDigest | None:
        if "TASK_SOURCE" not in policy.components:
            return None
        try:
            return task.code_digest
        except Uncacheable as error:
            self.warn(task.name, str(error))
            return None

    def _flow_parameters(self, policy: CachePolicy) -> dict[str, str] | None:
        if "FLOW_PARAMETERS" not in policy.components:
            return None
        from daskflow.caching.hashing import content_digest  # only flows that cache pay

        try:
            return {
                name: content_digest(value, name=f"flow parameter {name}")
                for name, value in self.parameters.items()
            }
        except UsageError as error:  # Uncacheable, or parameters that did not travel
            self.warn("(all)", str(error))
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
