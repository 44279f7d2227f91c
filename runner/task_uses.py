"""A task as used in one flow run: what its calls and its submissions share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from daskflow.runner.core.graph import Stage
from daskflow.runner.core.retries import RetryPolicy

if TYPE_CHECKING:
    from daskflow.caching.plans import CachePlan
    from daskflow.runner.tasks import Task

__all__ = ["TaskUse", "told_options"]


class TaskUse:
    """A task as used in this flow run; calls and submissions share its number and names."""

    __slots__ = ("hooked", "inline", "next_index", "number", "plan", "policy", "stage", "tags")

    def __init__(
        self,
        number: int,
        policy: RetryPolicy,
        next_index: Callable[[], int],
        tags: tuple[str, ...],
    ) -> None:
        self.number = number
        self.tags = tags
        self.hooked = False  # its runs are told to hooks
        self.plan: CachePlan | None = None
        self.policy = policy
        self.next_index = next_index
        self.stage: Stage | None = None  # of submitted runs: the driver's thread counts them
        self.inline: Stage | None = None  # of direct calls: the caller's thread does


def told_options(task: Task[Any, Any], policy: RetryPolicy) -> dict[str, Any]:
    """The options of a task that the record keeps."""
    options: dict[str, Any] = {
        "retries": policy.retries,
        "retry_delay_seconds": list(policy.delays_s),
        "crash_retries": policy.crash_retries,
    }
    for key in ("timeout_seconds", "resources", "priority", "workers"):
        if task.options[key]:
            options[key] = task.options[key]
    if task.hard:
        options["timeout_mode"] = "hard"
    return options
