"""The row of a flow run in the record: what never changes of it, and what does.

The facts may have been gathered on a worker; the row is always made in the flow process, whose
identity it carries: when that process is gone, so is every flow run that its driver looks after.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from daskflow.runner.context import FlowInfo
from daskflow.runner.environment import environment_json
from daskflow.runner.record import as_json
from daskflow.runner.store.process import this_process
from daskflow.runner.store.rows import FlowRunRow

if TYPE_CHECKING:
    from daskflow.runner.flows import Flow

__all__ = ["FlowFacts", "flow_run_row"]


class FlowFacts(NamedTuple):
    """What is known of a flow run when it begins."""

    id: str
    name: str
    flow_name: str
    version: str | None
    parameters: str
    tags: str
    parent_id: str | None
    parent_number: int | None
    created_at: float
    entrypoint: str | None
    code_digest: str | None

    @classmethod
    def of(
        cls,
        flow: Flow[Any, Any],
        arguments: Mapping[str, Any],
        info: FlowInfo,
        parent_id: str | None,
        parent_number: int | None,
    ) -> FlowFacts:
        """Gather them, where the flow is called."""
        return cls(
            info.id,
            info.name,
            info.flow_name,
            flow.version,
            as_json(dict(arguments)),
            as_json(list(info.tags)),
            parent_id,
            parent_number,
            time.time(),
            flow.entrypoint,
            flow.code_digest,
        )


def flow_run_row(
    facts: FlowFacts,
    state: str,
    message: str | None,
    attempt: int,
    started_at: float | None,
    ended_at: float | None,
    runner: str,
) -> FlowRunRow:
    """The row as it is now."""
    process = this_process()
    return FlowRunRow(
        facts.id,
        facts.name,
        facts.flow_name,
        facts.version,
        state,
        message,
        facts.parameters,
        facts.tags,
        facts.parent_id,
        facts.parent_number,
        attempt,
        facts.created_at,
        started_at,
        ended_at,
        facts.entrypoint,
        facts.code_digest,
        environment_json(),
        runner,
        process.host,
        os.getpid(),
        process.process_started_at,
        process.boot_id,
    )
