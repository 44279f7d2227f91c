"""Who a flow run is, and its row in the record, as the engine sees the run."""

from __future__ import annotations

import json
import logging
import os
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from daskflow.runner.context import FlowInfo
from daskflow.runner.environment import environment_json
from daskflow.runner.inline import InlineShell
from daskflow.runner.record import as_json
from daskflow.runner.store import this_process
from daskflow.runner.store.rows import FlowRunRow
from daskflow.runner.tagging import current_tags

if TYPE_CHECKING:
    from daskflow.runner.engine import FlowRun
    from daskflow.runner.flows import Flow
    from daskflow.runner.resuming import Resumption

__all__ = ["flow_info", "flow_run_row"]


def flow_info(
    flow: Flow[Any, Any],
    arguments: Mapping[str, Any],
    log_level: str,
    resumption: Resumption | None,
) -> FlowInfo:
    """Return who a new flow run is, or the one that goes on.

    Parameters
    ----------
    flow : Flow
    arguments : mapping
        Its parameters.
    log_level : str
    resumption : Resumption or None
        Of the flow run that goes on.
    """
    tags, level = current_tags.get(), logging.getLevelNamesMapping()[log_level]
    if resumption is None:
        name = flow.run_name(arguments)
        return FlowInfo(uuid.uuid4().hex, name, flow.name, tuple(sorted(tags)), level)
    row = resumption.flow_run
    kept = tuple(sorted(tags.union(json.loads(row.tags or "[]"))))
    return FlowInfo(row.flow_run_id, row.name, flow.name, kept, level)


def flow_run_row(run: FlowRun, message: str | None, ended_at: float | None) -> FlowRunRow:
    """Return the row of `run` in its present state.

    Parameters
    ----------
    run : FlowRun
    message : str or None
        Of the state.
    ended_at : float or None
        Unix seconds; None while it goes on.
    """
    process = this_process()
    return FlowRunRow(
        run.info.id,
        run.info.name,
        run.info.flow_name,
        run.flow.version,
        run.state,
        message,
        as_json(dict(run.bound.arguments)),
        as_json(list(run.info.tags)),
        run.parent.info.id if run.parent else None,
        run.parent_number,
        run.attempt,
        run.created_at,
        run.started_at,
        ended_at,
        run.flow.entrypoint,
        run.flow.code_digest,
        environment_json(),
        _runner_text(run),
        process.host,
        os.getpid(),
        process.process_started_at,
        process.boot_id,
    )


def _runner_text(run: FlowRun) -> str:
    shell = run.shell
    if isinstance(shell, InlineShell):
        return "sync"
    return shell.session.description if shell.session else str(shell.runner)
