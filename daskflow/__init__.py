"""daskflow: Python workflows on a Dask cluster.

Everything is loaded at its first use, so that ``import daskflow`` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from daskflow.caching.policy import DEFAULT as DEFAULT
    from daskflow.caching.policy import FLOW_PARAMETERS as FLOW_PARAMETERS
    from daskflow.caching.policy import INPUTS as INPUTS
    from daskflow.caching.policy import NO_CACHE as NO_CACHE
    from daskflow.caching.policy import RUN_ID as RUN_ID
    from daskflow.caching.policy import STRICT as STRICT
    from daskflow.caching.policy import TASK_SOURCE as TASK_SOURCE
    from daskflow.caching.policy import CachePolicy as CachePolicy
    from daskflow.errors import DaskflowError as DaskflowError
    from daskflow.results.storage_options import ResultStorage as ResultStorage
    from daskflow.runner import runtime as runtime
    from daskflow.runner.backoff import exponential_backoff as exponential_backoff
    from daskflow.runner.client import get_client as get_client
    from daskflow.runner.cluster.providers import DaskTaskRunner as DaskTaskRunner
    from daskflow.runner.context import get_run_logger as get_run_logger
    from daskflow.runner.flows import Flow as Flow
    from daskflow.runner.flows import flow as flow
    from daskflow.runner.future_lists import FutureList as FutureList
    from daskflow.runner.future_lists import as_completed as as_completed
    from daskflow.runner.future_lists import wait as wait
    from daskflow.runner.futures import TaskFuture as TaskFuture
    from daskflow.runner.futures import allow_failure as allow_failure
    from daskflow.runner.futures import quote as quote
    from daskflow.runner.futures import unmapped as unmapped
    from daskflow.runner.state import State as State
    from daskflow.runner.tagging import tags as tags
    from daskflow.runner.tasks import Task as Task
    from daskflow.runner.tasks import task as task

_HOMES = {
    "CachePolicy": "daskflow.caching.policy",
    "DEFAULT": "daskflow.caching.policy",
    "FLOW_PARAMETERS": "daskflow.caching.policy",
    "INPUTS": "daskflow.caching.policy",
    "NO_CACHE": "daskflow.caching.policy",
    "RUN_ID": "daskflow.caching.policy",
    "STRICT": "daskflow.caching.policy",
    "TASK_SOURCE": "daskflow.caching.policy",
    "DaskTaskRunner": "daskflow.runner.cluster.providers",
    "DaskflowError": "daskflow.errors",
    "Flow": "daskflow.runner.flows",
    "FutureList": "daskflow.runner.future_lists",
    "ResultStorage": "daskflow.results.storage_options",
    "State": "daskflow.runner.state",
    "Task": "daskflow.runner.tasks",
    "TaskFuture": "daskflow.runner.futures",
    "allow_failure": "daskflow.runner.futures",
    "as_completed": "daskflow.runner.future_lists",
    "exponential_backoff": "daskflow.runner.backoff",
    "flow": "daskflow.runner.flows",
    "get_client": "daskflow.runner.client",
    "get_run_logger": "daskflow.runner.context",
    "quote": "daskflow.runner.futures",
    "runtime": "daskflow.runner.runtime",
    "tags": "daskflow.runner.tagging",
    "task": "daskflow.runner.tasks",
    "unmapped": "daskflow.runner.futures",
    "wait": "daskflow.runner.future_lists",
}

__all__ = [
    "DEFAULT",
    "FLOW_PARAMETERS",
    "INPUTS",
    "NO_CACHE",
    "RUN_ID",
    "STRICT",
    "TASK_SOURCE",
    "CachePolicy",
    "DaskTaskRunner",
    "DaskflowError",
    "Flow",
    "FutureList",
    "ResultStorage",
    "State",
    "Task",
    "TaskFuture",
    "allow_failure",
    "as_completed",
    "exponential_backoff",
    "flow",
    "get_client",
    "get_run_logger",
    "quote",
    "runtime",
    "tags",
    "task",
    "unmapped",
    "wait",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'daskflow' has no attribute {name!r}")
    found = import_module(home)
    if name != "runtime":
        found = getattr(found, name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
