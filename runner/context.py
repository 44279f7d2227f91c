"""What a piece of user code can know of the run that it is part of.

Light on purpose: workers import this module, and it imports neither engine nor store nor Dask.
A context variable carries the current task run and the current flow run; `runtime` and
`get_run_logger` read them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from daskflow.errors import UsageError

if TYPE_CHECKING:
    from daskflow.runner.cache_defaults import CacheDefaults
    from daskflow.runner.deadlines import Deadline

__all__ = [
    "FLOW_LOGGER",
    "TASK_LOGGER",
    "FlowInfo",
    "FlowRunContext",
    "LogLine",
    "TaskInfo",
    "TaskRunContext",
    "current_flow_run",
    "current_parcel",
    "current_task_run",
    "get_run_logger",
]

FLOW_LOGGER = "daskflow.flow_runs"
TASK_LOGGER = "daskflow.task_runs"


class FlowInfo(NamedTuple):
    """What task runs know of their flow run."""

    id: str
    name: str
    flow_name: str
    tags: tuple[str, ...] = ()
    log_level: int = logging.INFO
    attempt: int = 1
    parameters: bytes | str = b""  # pickled, for workers; a text says why they did not travel
    caching: CacheDefaults | bytes | None = None  # for tasks that task runs call; see `defaults_of`


class TaskInfo(NamedTuple):
    """What the runs of one task share."""

    name: str
    tags: tuple[str, ...] = ()
    log_prints: bool = False


class LogLine(NamedTuple):
    """One record of `logging`, or one captured print, of a task run or a flow run."""

    number: int | None
    attempt: int
    at: float
    level: int
    logger: str
    message: str


class TaskRunContext:
    """The task run that the current code belongs to."""

    __slots__ = ("attempt", "flow", "index", "label", "number", "sink", "task")

    def __init__(
        self,
        flow: FlowInfo | None,
        task: TaskInfo,
        number: int,
        index: int,
        attempt: int,
        sink: Callable[[LogLine], object],
        label: str | None = None,
    ) -> None:
        self.flow = flow
        self.task = task
        self.number = number
        self.index = index
        self.attempt = attempt  # 1 for the first
        self.sink = sink
        self.label = label

    @property
    def id(self) -> str:
        """The id that users see."""
        return f"{self.flow.id}-{self.number}" if self.flow else f"-{self.number}"

    @property
    def name(self) -> str:
        """The name that users see."""
        return self.label or f"{self.task.name}-{self.index}"


class FlowRunContext(Protocol):
    """The flow run that the current code belongs to; the engine's object fits."""

    @property
    def info(self) -> FlowInfo: ...
    @property
    def attempt(self) -> int: ...
    @property
    def parameters(self) -> Mapping[str, Any]: ...
    @property
    def log_prints(self) -> bool: ...
    @property
    def deadline(self) -> Deadline | None: ...
    def log(self, line: LogLine) -> None: ...
    def subflow(self, flow: Any, bound: Any, /) -> Any: ...


current_task_run: ContextVar[TaskRunContext | None] = ContextVar("daskflow_task_run", default=None)
current_flow_run: ContextVar[FlowRunContext | None] = ContextVar("daskflow_flow_run", default=None)

# Returns the parcel that is being executed here, while it lives; an `ActiveParcel`.
current_parcel: ContextVar[Callable[[], Any] | None] = ContextVar("daskflow_parcel", default=None)


def get_run_logger() -> logging.Logger:
    """Return a logger whose records belong to the current task run or flow run.

    Records reach the run record and the terminal of the flow process, also from workers.

    Returns
    -------
    logging.Logger

    Raises
    ------
    UsageError
        Outside of a flow and of a task.
    """
    if current_task_run.get() is not None:
        return logging.getLogger(TASK_LOGGER)
    if current_flow_run.get() is not None:
        return logging.getLogger(FLOW_LOGGER)
    raise UsageError(
        "get_run_logger() was called outside of a run; call it inside a function under @flow or "
        "@task, or use logging.getLogger(__name__) here"
    )
