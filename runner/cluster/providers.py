"""Task runners: what a flow is told to run its tasks on, before anything is started.

Values that compare, print and pickle; `open_session` turns one into a running session.  A
mistake is a `UsageError` here, at the call that brought it.  Nothing of Dask is imported: a flow
may name its task runner in a program that never runs it.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal

from daskflow.errors import UsageError
from daskflow.runner.cluster.runner_checks import (
    check_workers,
    checked_address,
    checked_kwargs,
    filed_address,
    holds_keys,
    refuse_asynchronous,
    refuse_beside,
)

__all__ = [
    "DaskTaskRunner",
    "LocalTaskRunner",
    "SyncTaskRunner",
    "TaskRunner",
    "resolve_task_runner",
]

# Arguments of distributed.LocalCluster that are about more than its workers.
_LOCAL_CLUSTER_ONLY = frozenset(
    "name host ip scheduler_port silence_logs dashboard_address worker_dashboard_address services "
    "worker_services service_kwargs protocol blocked_handlers interface worker_class "
    "scheduler_kwargs scheduler_sync_interval loop start".split()
)
_ALLOWED = (
    '"processes", "threads", "sync", the address of a scheduler such as "tcp://host:8786", '
    "a Dask cluster or client, or a DaskTaskRunner"
)


@dataclass(frozen=True)
class SyncTaskRunner:
    """Run every task in the thread of the flow, without Dask: for debuggers and small tests."""

    in_process = True
    same_machine = True

    def duplicate(self) -> SyncTaskRunner:
        """Return a runner of the same configuration."""
        return SyncTaskRunner()


@dataclass(frozen=True)
class LocalTaskRunner:
    """Run tasks on this machine, in a cluster that lives as long as the flow.

    Parameters
    ----------
    kind : {"processes", "threads"}
        Worker processes, or threads of this process.
    workers : int, optional
        Number of worker processes; default: the setting `runner.workers`, else one a CPU.
    threads_per_worker : int, optional
        Default: the setting `runner.threads_per_worker`; with threads, the number of CPUs.
    worker_options : mapping, optional
        Further options of the worker processes, such as `memory_limit` or `resources`.
    """

    kind: Literal["processes", "threads"] = "processes"
    workers: int | None = None
    threads_per_worker: int | None = None
    worker_options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    same_machine = True  # its workers import what this process can import

    def __str__(self) -> str:
        # for the record of a flow that needs no worker; options may hold credentials
        return f"{self.kind}, not started"

    @property
    def in_process(self) -> bool:
        """Whether tasks run in this process, so that nothing has to be pickled."""
        return self.kind == "threads"

    def duplicate(self) -> LocalTaskRunner:
        """Return a runner of the same configuration."""
        return LocalTaskRunner(
            self.kind, self.workers, self.threads_per_worker, dict(self.worker_options)
        )


class DaskTaskRunner:
    """Run tasks on a Dask cluster: one that is there, or one to start for the flow.

    With `address` or `cluster` the cluster is used and left as it was found.  Otherwise one is
    started for the flow and ended with it: `cluster_class(**cluster_kwargs)`, or daskflow's own
    local worker processes when no class is named.

    Parameters
    ----------
    address : str, optional
        Address of a running scheduler, such as ``"tcp://10.0.0.1:8786"``.
    cluster : cluster or distributed.Client, optional
        A running cluster object, or a client that is connected to one.
    cluster_class : str or callable, optional
        What to start: a class or function, or its import path, such as
        ``"dask_kubernetes.operator.KubeCluster"``.
    cluster_kwargs : mapping, optional
        Arguments of `cluster_class`; without one: `n_workers`, `threads_per_worker`,
        `memory_limit` and other options of `distributed.LocalCluster`; with ``security=True``
        they talk TLS, by certificates that are made for the flow (the extra ``tls``).
    adapt_kwargs : mapping, optional
        The started cluster scales itself: arguments of its `adapt` method.
    client_kwargs : mapping, optional
        Arguments of `distributed.Client`, such as `security` or `timeout`; with `scheduler_file`
        the address is read from there.
    performance_report_path : str, optional
        Where to write Dask's performance report when the flow has ended.
    """

    def __init__(
        self,
        *,
        address: str | None = None,
        cluster: Any = None,
        cluster_class: str | Callable[..., Any] | None = None,
        cluster_kwargs: Mapping[str, Any] | None = None,
        adapt_kwargs: Mapping[str, Any] | None = None,
        client_kwargs: Mapping[str, Any] | None = None,
        performance_report_path: str | None = None,
    ) -> None:
        given = {
            "cluster": cluster,
            "cluster_class": cluster_class,
            "cluster_kwargs": cluster_kwargs,
            "adapt_kwargs": adapt_kwargs,
        }
        if address is not None:
            address = checked_address(address)
            refuse_beside("address", given)
        elif cluster is not None:
            if not is_cluster(cluster) and not is_client(cluster):
                raise UsageError(
                    f"cluster={cluster!r} is no Dask cluster or client: it has no "
                    "scheduler_address; a class goes into cluster_class="
                )
            refuse_asynchronous(cluster)
            refuse_beside("cluster", {name: given[name] for name in given if name != "cluster"})
        if cluster_class is not None and not isinstance(cluster_class, str):
            if not callable(cluster_class):
                raise UsageError(
                    f"cluster_class={cluster_class!r} is neither a class or function nor an "
                    "import path; a running cluster goes into cluster="
                )
        self.address, self.cluster, self.cluster_class = address, cluster, cluster_class
        self.cluster_kwargs = checked_kwargs("cluster_kwargs", cluster_kwargs)
        self.adapt_kwargs = checked_kwargs("adapt_kwargs", adapt_kwargs)
        self.client_kwargs = checked_kwargs("client_kwargs", client_kwargs)
        self.performance_report_path = performance_report_path
        if "scheduler_file" in self.client_kwargs:
            refuse_beside("client_kwargs' scheduler_file", {**given, "address": address})
            self.address = checked_address(filed_address(self.client_kwargs))
        if cluster_class is None:
            check_workers(self.cluster_kwargs)
        if self.cluster_kwargs.get("asynchronous") or self.client_kwargs.get("asynchronous"):
            raise UsageError("asynchronous=True is not possible: daskflow needs a synchronous one")
        if "set_as_default" in self.client_kwargs:
            raise UsageError("set_as_default is not possible: daskflow's client is its own")

    def duplicate(self) -> DaskTaskRunner:
        """Return a runner of the same configuration."""
        return DaskTaskRunner(**self._fields())

    def _local(self) -> LocalTaskRunner | None:
        connects = self.address is not None or self.cluster is not None
        return None if connects else self.as_local()

    @property
    def in_process(self) -> bool:
        """Whether tasks run in this process, so that nothing has to be pickled."""
        if self.address is not None or self.cluster is not None:
            return (self.address or _address_of(self.cluster)).startswith("inproc://")
        local = self._local()
        return local is not None and local.in_process

    @property
    def same_machine(self) -> bool:
        """Whether the workers are processes of ours that import what this process can import."""
        return self._local() is not None

    def as_local(self) -> LocalTaskRunner | None:
        """Return what daskflow starts itself, None if a cluster class is needed or named."""
        options = dict(self.cluster_kwargs)
        if self.cluster_class is not None or not _LOCAL_CLUSTER_ONLY.isdisjoint(options):
            return None
        workers, threads = options.pop("n_workers", None), options.pop("threads_per_worker", None)
        if options.pop("processes", True):
            return LocalTaskRunner("processes", workers, threads, options)
        return LocalTaskRunner("threads", None, threads and threads * (workers or 1))

    def imported_cluster_class(self) -> Callable[..., Any]:
        """Import `cluster_class` if it is a path; `UsageError` when there is no such thing."""
        if self.cluster_class is not None and not isinstance(self.cluster_class, str):
            return self.cluster_class
        path = self.cluster_class or "distributed.LocalCluster"
        module, _, name = path.replace(":", ".").rpartition(".")
        try:
            found: Callable[..., Any] = getattr(import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise UsageError(
                f"cluster_class={self.cluster_class!r} cannot be imported ({error}); it is the "
                'path of an installed class, such as "distributed.LocalCluster"'
            ) from error
        return found

    def _fields(self) -> dict[str, Any]:
        return {
            "address": self.address,
            "cluster": self.cluster,
            "cluster_class": self.cluster_class,
            "cluster_kwargs": self.cluster_kwargs or None,
            "adapt_kwargs": self.adapt_kwargs or None,
            "client_kwargs": self.client_kwargs or None,
            "performance_report_path": self.performance_report_path,
        }

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._fields() == other._fields()

    def __hash__(self) -> int:
        return hash((self.address, id(self.cluster), self.performance_report_path))

    def __repr__(self) -> str:
        # Values of keyword arguments may be credentials: only their names are shown.
        shown = {name: value for name, value in self._fields().items() if value is not None}
        parts = [
            f"{name}=<{', '.join(value)}>" if name.endswith("_kwargs") else f"{name}={value!r}"
            for name, value in shown.items()
        ]
        return f"DaskTaskRunner({', '.join(parts)})"

    def __getstate__(self) -> dict[str, Any]:
        if self.cluster is not None:
            raise UsageError(
                "A DaskTaskRunner with a live cluster object cannot be pickled; "
                "give it address=cluster.scheduler_address instead"
            )
        for name, kwargs in (("cluster", self.cluster_kwargs), ("client", self.client_kwargs)):
            if holds_keys(kwargs.get("security")):
                raise UsageError(
                    f"A DaskTaskRunner whose {name}_kwargs hold TLS keys in memory is not pickled, "
                    "so that they go nowhere; give the paths of files, or security=True"
                )
        return self.__dict__


TaskRunner = LocalTaskRunner | SyncTaskRunner | DaskTaskRunner


def resolve_task_runner(value: Any) -> TaskRunner:
    """Turn what the user gave as `task_runner` into a task runner.

    Parameters
    ----------
    value : object
        ``"processes"``, ``"threads"``, ``"sync"``, an address, a Dask cluster, a
        `distributed.Client`, a `DaskTaskRunner` (class or instance), or None for the setting
        `runner.task_runner`.

    Raises
    ------
    UsageError
        Anything else, with what is allowed.
    """
    if value is None:
        from daskflow.config import get_settings  # heavy: pydantic

        value = get_settings().runner.task_runner
    if isinstance(value, TaskRunner):
        return value
    if isinstance(value, str):
        return _named(value)
    if isinstance(value, type) and issubclass(
        value, LocalTaskRunner | SyncTaskRunner | DaskTaskRunner
    ):
        return value()
    if is_cluster(value) or is_client(value):
        return DaskTaskRunner(cluster=value)
    raise UsageError(f"task_runner={value!r} is not possible; it can be {_ALLOWED}")


def is_cluster(value: object) -> bool:
    """Say whether `value` is a Dask cluster object, the way `distributed.Client` does."""
    return not isinstance(value, type) and isinstance(
        getattr(value, "scheduler_address", None), str
    )


def _address_of(cluster: Any) -> str:
    return str(cluster.scheduler.address if is_client(cluster) else cluster.scheduler_address)


def is_client(value: object) -> bool:
    """Say whether `value` is a `distributed.Client`, without importing distributed."""
    distributed = sys.modules.get("distributed")
    return distributed is not None and isinstance(value, distributed.Client)


def _named(name: str) -> TaskRunner:
    if name in ("processes", "threads"):
        return LocalTaskRunner(name)  # type: ignore[arg-type]  # mypy does not narrow by `in`
    if name == "sync":
        return SyncTaskRunner()
    if ":" in name:
        return DaskTaskRunner(address=name)
    near = difflib.get_close_matches(name.lower(), ["processes", "threads", "sync"], n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise UsageError(f"task_runner={name!r} is not known{hint}; it can be {_ALLOWED}")
