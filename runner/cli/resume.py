"""`daskflow runs resume` and `runs retry`: a flow run goes on, and says what it did not do again.

The flow function runs again under the same flow run, with the recorded parameters.  What the flow
was started from stands in the event that it has started.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

from daskflow.config import get_settings
from daskflow.errors import UsageError
from daskflow.runner.cli.account import print_account
from daskflow.runner.cli.exits import ExitCode
from daskflow.runner.cli.launch import (
    choose_exit_code,
    load_flow,
    run_watched,
    shown,
    tell,
)
from daskflow.runner.cli.output import print_json
from daskflow.runner.cli.record import opened_store
from daskflow.runner.cli.target import Target, parse_target, standing_as_main
from daskflow.runner.cli.text import printable
from daskflow.runner.core.states import (
    FINAL,
    FLOW_TRANSITIONS,
    RESUMABLE,
    RETRYING,
    RUNNING,
    SUCCESSFUL,
)

if TYPE_CHECKING:
    from daskflow.runner.earlier import Past

__all__ = ["ResumeAsk", "resume"]


class ResumeAsk(NamedTuple):
    """What the command line asks for."""

    ref: str
    target: str | None
    parameters: Mapping[str, Any]
    task_runner: str | None
    rerun_changed: bool
    failed_only: bool  # `retry --failed`: a flow run that has completed has something to do, too
    as_json: bool


def resume(ask: ResumeAsk) -> ExitCode:
    """Let a flow run go on and return the exit code of how it ended.

    Raises
    ------
    NotFoundError
        No such flow run.
    UsageError
        It goes on already, has nothing to do, or cannot be started from what is recorded.
    """
    get_settings()
    # the engine and the caching room: only what runs needs them
    from daskflow.runner.cache_plans import refreshing, uncached
    from daskflow.runner.earlier import read_past
    from daskflow.runner.resuming import Resumption
    from daskflow.runner.reuse import resuming
    from daskflow.runner.starting import check_parameters, restore_parameters
    from daskflow.runner.store.taking import take_over

    past, note = _read(ask)
    target = _target(ask, past, note)
    with ExitStack() as around:
        loaded = load_flow(target, around, ask.as_json)
        if loaded is None:
            return ExitCode.FAILED
        module, flow = loaded
        if note["main"]:
            around.enter_context(standing_as_main(module))
        runner = ask.task_runner
        if runner is None and flow.task_runner is None:
            runner = note["task_runner"]
        if runner is not None:
            flow = flow.with_options(task_runner=runner)
        args, parameters = restore_parameters(flow, note, ask.parameters)
        check_parameters(flow, args, parameters)
        around.enter_context(refreshing(note["refresh"]))
        if note["no_cache"]:
            around.enter_context(uncached())
        lease = take_over(get_settings().store.url, list(past.flow_runs()))
        with opened_store() as store:  # once more: nobody else writes to it now
            past = read_past(store, past.flow_run)
        resumption = Resumption(past, lease=lease, rerun_changed=ask.rerun_changed)
        around.enter_context(resuming(resumption))
        state, error, ending = run_watched(flow, args, parameters, past.flow_run.flow_run_id)
    tell(ending, error)
    account = resumption.account.as_dict()
    if ask.as_json:
        print_json({**shown(ending), "attempt": resumption.attempt, **account})
    else:
        print_account(account)
    return choose_exit_code(state, error)


def _read(ask: ResumeAsk) -> tuple[Past, dict[str, Any]]:
    """What is recorded of the flow run, if it can go on."""
    # the caching room and the engine
    from daskflow.runner.earlier import read_past
    from daskflow.runner.starting import STARTED
    from daskflow.runner.store.taking import check_not_held

    if not get_settings().store.record:
        raise UsageError("store.record is false, so nothing is recorded and nothing can go on")
    with opened_store() as store:
        run = store.find_flow_run(ask.ref)
        name = printable(run.name)
        if (root := store.root_of(run)) is not run:
            raise UsageError(
                f"flow run {name} is a subflow; let the flow run go on that called it: "
                f"{root.flow_run_id[:12]}"
            )
        past = read_past(store, run)
        story = store.transitions(run.flow_run_id, None)
        notes = store.events(run.flow_run_id, STARTED)
    check_not_held(run)
    if run.state in FINAL and run.state not in RESUMABLE:
        began = max((t.at for t in story if t.state in (RUNNING, RETRYING)), default=0.0)
        last = [row for row in past.task_runs if row.created_at >= began]
        bad = [row for row in last if row.state not in SUCCESSFUL]
        goes_on = RETRYING in FLOW_TRANSITIONS[run.state] and ask.failed_only and bad
        if not goes_on:
            raise UsageError(f"flow run {name} is {run.state}: there is nothing left to do")
    if not notes:
        raise UsageError(
            f"the record does not hold how flow run {name} was started: run the flow again"
        )
    return past, notes[-1].payload


def _target(ask: ResumeAsk, past: Past, note: Mapping[str, Any]) -> Target:
    """Where the flow is: what the command says, else what is recorded."""
    if ask.target is not None:
        target = parse_target(ask.target)
        return target if target.flow is not None else target._replace(flow=note["flow"])
    module = note["module"]
    if module and "." in module:  # of a package: by its file, its relative imports would fail
        if note["cwd"] not in sys.path:
            sys.path.insert(0, note["cwd"])
        return Target(module, note["flow"])
    if note["file"] is None:
        raise UsageError(
            f"flow run {printable(past.flow_run.name)} was started from no file: say where its "
            f"flow is now: daskflow runs resume {past.flow_run.flow_run_id[:12]} FILE:FLOW"
        )
    return Target(note["file"], note["flow"])
