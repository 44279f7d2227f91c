"""Futures of another flow run as inputs: they are of use only on the cluster that answers them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from daskflow.errors import UsageError
from daskflow.runner.context import FlowInfo
from daskflow.runner.core.graph import Run, Scope

__all__ = ["check_inputs"]


def check_inputs(
    task_name: str, deps: Iterable[Run], mine: Scope, home: object, info: FlowInfo
) -> None:
    """Raise for a future that another cluster, or one that is gone, was to answer.

    Parameters
    ----------
    task_name : str
    deps : iterable of Run
        Inputs of a run of that task.
    mine : Scope
        Of the flow run that submits it.
    home : object
        Who executes its task runs.
    info : FlowInfo
        Of that flow run.

    Raises
    ------
    UsageError
    """
    for dep in deps:
        scope = dep.stage.scope
        if scope is mine or scope.tag is None:
            continue
        theirs: Any = scope.tag
        if theirs.home is not home:
            raise UsageError(
                f"task {task_name} got {dep.label}, a future of flow run {theirs.name} "
                f"({theirs.flow_run_id}), but runs in flow run {info.name} "
                f"({info.id}), which shares no cluster with it; pass its result instead: "
                "future.result()"
            )
