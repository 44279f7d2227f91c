"""`get_client`: the Dask client of the cluster that the current run's tasks execute on.

Light, for workers import it: nothing of Dask is loaded before there is a cluster.
"""

from __future__ import annotations

from typing import Any

from daskflow.errors import UsageError
from daskflow.runner.asynchronous import loop_runs_here
from daskflow.runner.context import current_flow_run, current_parcel, current_task_run

__all__ = ["get_client"]


def get_client(asynchronous: bool | None = None) -> Any:
    """Return the Dask client of this flow's cluster, for work that is Dask's own.

    In plain code it is a `distributed.Client`, ready to use.  As a context manager it is also the
    client that Dask collections compute with: ``with get_client(): frame.compute()``.  In async
    code use ``async with get_client() as client:`` and await its methods.  The cluster is the
    flow's own or its parent's; in a flow it is started if no task has been submitted yet.

    In a plain task the slot is given back from here on, so that what is computed finds room also
    where there is but one.

    Parameters
    ----------
    asynchronous : bool, optional
        Which of the two kinds; default: what the current flow or task is.

    Raises
    ------
    UsageError
        Outside of a run, where tasks execute without Dask (``task_runner="sync"``), and for a
        kind of client that cannot be used here.
    ClusterError
        When the flow's cluster does not start or cannot be reached.

    Examples
    --------
    >>> from daskflow import get_client, task
    >>> @task
    ... def total(frame):
    ...     with get_client():
    ...         return frame["distance"].sum().compute()
    """
    parcel: Any = None
    flow_run: Any = current_flow_run.get()
    if current_task_run.get() is not None and (handle := current_parcel.get()) is not None:
        parcel = handle()
    if parcel is None and flow_run is None:
        raise UsageError(_nowhere())
    in_async_code = flow_run.is_async if parcel is None else parcel.order.codes[0].is_async
    asynchronous = _checked(asynchronous, in_async_code, plain_inside=parcel is None)
    if parcel is None:
        parcel = flow_run.parcel  # of a flow that a task has called on its worker
    if parcel is not None and not parcel.channel.live:
        from daskflow.runner.cluster import clients  # distributed is loaded on a worker

        worker = parcel.channel.dask_worker
        if asynchronous:
            return clients.AsyncClient(lambda: clients.place_of_worker(worker))
        client = clients.of_worker(worker)
        parcel.make_way()
        return client
    shell = flow_run.shell
    if shell.runner is None:
        raise UsageError(
            f'flow run {flow_run.info.name} executes its tasks with task_runner="sync", without '
            'Dask, so there is no Dask client; use "threads" or "processes"'
        )
    from daskflow.runner.cluster import clients  # loads Dask, which the session does anyway

    if asynchronous:
        return clients.AsyncClient(lambda: clients.place_of_client(shell.connect().client))
    if parcel is not None:
        parcel.make_way()
    return clients.SharedClient.of(shell.connect().client)


def _checked(asynchronous: bool | None, in_async_code: bool, *, plain_inside: bool) -> bool:
    """Which kind of client it is, if that can be used here."""
    running = loop_runs_here()
    if asynchronous is None:
        return bool(in_async_code) and running
    if asynchronous and not running:
        raise UsageError(
            "get_client(asynchronous=True) needs a running event loop, and this is plain code; "
            "leave asynchronous out, or make the function async"
        )
    if not asynchronous and in_async_code and running:
        # a plain task that an async flow calls directly blocks the loop by being called
        if not (plain_inside and current_task_run.get() is not None):
            raise UsageError(
                "get_client(asynchronous=False) would block the event loop of this async code; "
                "use `async with get_client() as client:`"
            )
    return asynchronous


def _nowhere() -> str:
    if current_task_run.get() is not None:
        return (
            "get_client() was called in a task that was called outside of a flow, so there is no "
            "cluster; call the task in a flow, with .submit() or .map()"
        )
    return (
        "get_client() was called outside of a run; call it inside a function under @flow or @task. "
        "A thread that you start knows of the run only if you start it with "
        "contextvars.copy_context().run"
    )
