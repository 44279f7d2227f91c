"""Running a flow for the command line: load, run under a progress view, tell how it ended.

stdout belongs to the flow, or with ``--json`` to one object: then what the flow prints goes to
stderr.  An exception of the flow is told as its traceback; one of daskflow as its message.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, redirect_stdout, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from daskflow.config import get_settings
from daskflow.errors import (
    ClusterError,
    DaskflowError,
    FlowCancelled,
    FlowFailed,
    NotFoundError,
    StoreError,
    TaskError,
)
from daskflow.runner.cli.exits import ExitCode, exit_code_of_error, exit_code_of_state
from daskflow.runner.cli.failure import describe_exception
from daskflow.runner.cli.output import print_json, styled
from daskflow.runner.cli.progress import PlainView, ProgressView, wants_live_view, watch
from daskflow.runner.cli.summary import lost_workers
from daskflow.runner.cli.target import Target, calls_held_back, find_flow, load_module
from daskflow.runner.cli.text import count_line, one_line, printable
from daskflow.runner.signals import terminated_as_interrupted

if TYPE_CHECKING:
    from types import ModuleType

    from daskflow import Flow
    from daskflow.runner.store import RunStore
    from daskflow.runner.store.rows import FlowRunRow

__all__ = [
    "Ending",
    "choose_exit_code",
    "launch",
    "load_flow",
    "run_watched",
    "shown",
    "tell",
]


class Ending(NamedTuple):
    """How a flow run ended, for the last line and for ``--json``."""

    id: str | None  # None where nothing is recorded
    name: str | None
    ref: str | None  # the shortest thing that names this run and no other
    state: str
    message: str | None
    counts: dict[str, int]
    lost_workers: int
    duration_s: float


def launch(
    target: Target,
    parameters: Mapping[str, Any],
    *,
    task_runner: str | None,
    name: str | None,
    as_json: bool,
    refresh: Sequence[str] = (),
    no_cache: bool = False,
    dry: bool = False,
) -> ExitCode:
    """Run the flow of `target` and return the exit code of how it ended.

    Raises
    ------
    DaskflowError
        The flow was never started: wrong settings, no such file or flow, wrong parameters.
    """
    get_settings()  # what does not fit is said before any code of the user runs
    with ExitStack() as around:
        loaded = load_flow(target, around, as_json)
        if loaded is None:
            return ExitCode.FAILED
        module, flow = loaded
        if dry:
            from daskflow.runner.cli.dry_run import dry_run  # loads the caching room

            around.close()  # what is told is for stdout
            dry_run(flow, module, parameters, as_json)
            return ExitCode.COMPLETED
        # loaded by now, with the flow
        from daskflow.runner.cache_plans import refreshing, uncached

        around.enter_context(refreshing(refresh))
        if no_cache:
            around.enter_context(uncached())
        options = {"task_runner": task_runner, "flow_run_name": name}
        flow = flow.with_options(**{k: v for k, v in options.items() if v is not None})
        state, error, ending = run_watched(flow, (), parameters)
    tell(ending, error)
    if as_json:
        print_json(shown(ending))
    return choose_exit_code(state, error)


def load_flow(
    target: Target, around: ExitStack, as_json: bool
) -> tuple[ModuleType, Flow[..., Any]] | None:
    """Load a script and find its flow; None when the script raised, which is told.

    Parameters
    ----------
    target : Target
    around : ExitStack
        Until it ends, SIGTERM is as Ctrl-C, and with `as_json` prints go to stderr.
    as_json : bool

    Raises
    ------
    DaskflowError
        No such file or flow.
    """
    # the engine: only a run needs it, and the script is about to load it anyway
    from daskflow import Flow

    if as_json:
        around.enter_context(redirect_stdout(sys.stderr))
    around.enter_context(terminated_as_interrupted())
    try:
        with calls_held_back(Flow, _tell_held_back):
            module = load_module(target)
    except DaskflowError:
        raise
    except Exception as raised:
        click.echo(describe_exception(raised), err=True)
        return None
    return module, find_flow(module, target, Flow)


def shown(ending: Ending) -> dict[str, Any]:
    """An ending as ``--json`` prints it."""
    values = ending._asdict()
    del values["ref"]
    return values


def choose_exit_code(state: str, error: BaseException | None) -> ExitCode:
    """Return the exit code for a flow that ended in `state` and raised `error`, if it did.

    The state decides; a failure says more where daskflow itself raised: a store or a cluster
    that cannot be reached is not the flow's fault.  Ctrl-C is no outcome of the flow at all.
    """
    if isinstance(error, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    code = exit_code_of_state(state)
    if code is ExitCode.FAILED and isinstance(error, DaskflowError):
        return exit_code_of_error(error)
    return code


def run_watched(
    flow: Flow[..., Any],
    args: tuple[Any, ...],
    parameters: Mapping[str, Any],
    flow_run_id: str | None = None,
) -> tuple[str, BaseException | None, Ending]:
    """Run a flow under a progress view; returns its state, its error and how it ended.

    Parameters
    ----------
    flow : Flow
    args, parameters
        Positional and named.
    flow_run_id : str, optional
        Of the flow run that goes on; else it is a new one.
    """
    began, began_unix = time.monotonic(), time.time()
    with watch(_view()):
        state = flow(*args, **parameters, return_state=True)
        if inspect.iscoroutine(state):
            state = asyncio.run(state)
    took = time.monotonic() - began
    error = None if state.is_completed() else state.error
    return state.name, error, _ending(flow.name, state, began_unix, took, flow_run_id)


def _view() -> ProgressView:
    if wants_live_view(sys.stderr):
        # rich: for a terminal only
        from rich.console import Console

        # loads rich as well
        from daskflow.runner.cli.live import LiveView

        return LiveView(Console(stderr=True))
    return PlainView(sys.stderr)


def _ending(
    flow_name: str, state: Any, began_unix: float, took: float, flow_run_id: str | None
) -> Ending:
    blank = Ending(None, None, None, state.name, state.message, {}, 0, round(took, 3))
    if not get_settings().store.record:
        return blank
    # the store: after the run, so that a flow never waits for its import
    from daskflow.runner.cli.record import opened_store

    try:
        with opened_store() as store:
            if flow_run_id is not None:
                mine = [store.find_flow_run(flow_run_id)]
            else:
                runs = store.flow_runs(flow=flow_name, limit=1000)
                mine = [r for r in runs if r.pid == os.getpid() and r.created_at >= began_unix - 1]
                mine = [r for r in mine if r.parent_flow_run_id is None]
            if not mine:
                return blank
            run = mine[0]
            return blank._replace(
                id=run.flow_run_id,
                name=run.name,
                ref=_ref(store, run),
                counts=store.counts(run.flow_run_id),
                lost_workers=len(lost_workers(store.events(run.flow_run_id))),
            )
    except (StoreError, NotFoundError):
        return blank  # the engine has warned already; the flow's outcome stands


def _tell_held_back(flow_name: str) -> None:
    click.echo(
        f"flow {printable(flow_name)!r} is called by its script; not run by that call, but by "
        "`daskflow run`, with the parameters given to it",
        err=True,
    )


def tell(ending: Ending, error: BaseException | None) -> None:
    """Say how a flow run ended."""
    if (own := _own_exception(error)) is not None:
        click.echo(describe_exception(own), err=True)
    if exit_code_of_state(ending.state) is not ExitCode.COMPLETED:
        who = printable(ending.name or "flow run")
        message = one_line(ending.message or "", 300)
        click.echo(f"{who} {styled(ending.state)}{': ' if message else ''}{message}", err=True)
        if ending.ref:
            click.echo(f"look closer: daskflow runs show {ending.ref}", err=True)
    line = count_line(ending.counts, lost_workers=ending.lost_workers, seconds=ending.duration_s)
    who = f"{printable(ending.name)}: " if ending.name else ""
    click.echo(f"{who}{line}", err=True)


def _own_exception(error: BaseException | None) -> BaseException | None:
    """Return what the user's code raised: the error itself, or what caused one of ours."""
    if isinstance(error, KeyboardInterrupt | FlowCancelled | ClusterError | StoreError):
        return None  # whose message says it all
    return error.__cause__ if isinstance(error, FlowFailed | TaskError) else error


def _ref(store: RunStore, run: FlowRunRow) -> str:
    with suppress(NotFoundError):  # several runs of one name
        store.find_flow_run(run.name)
        return shlex.quote(run.name)
    return run.flow_run_id[:12]
