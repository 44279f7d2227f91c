"""Flow processes that kill themselves at a named point, and are resumed.

Run as a script: ``resuming.py ROOT POINT …`` prints what came of each point as a line of JSON.
Children are forked, which costs milliseconds: what they need is imported before.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from daskflow.caching.hashing import content_digest
from daskflow.caching.store import ResultStore
from daskflow.config import reset_settings
from daskflow.runner import engine, resuming  # noqa: F401  (for the children)
from daskflow.runner.cli import resume as _resume  # noqa: F401  (likewise)
from daskflow.runner.cli.main import cli
from daskflow.runner.cluster import dispatch, local, session  # noqa: F401  (likewise)
from daskflow.runner.crash_points import CRASH_AT
from daskflow.runner.store import open_store
from tests.chaos import resumed_flow

COUNT = 6
EXPECTED = {"sum": sum(2 * n + 1 for n in range(COUNT)), "below": 2 * (100 + 101), "drawn": 3}


def in_a_child(act: Callable[[], int | None]) -> int:
    """Return how a child ended that did `act`, as `os.waitstatus_to_exitcode` says it."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            code = act() or 0
        finally:
            sys.stdout.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def executed(folder: Path) -> Counter[str]:
    """How often each body was executed with each number."""
    return Counter(path.name.rpartition("-")[0] for path in folder.iterdir())


def committed(home: Path) -> Counter[str]:
    """How many results of each body and number are in the result store."""
    if not (home / "results").exists():
        return Counter()
    numbers = {content_digest(n): n for n in [*range(COUNT), 7, 100, 101]}
    found: Counter[str] = Counter()
    for entry in ResultStore(str(home / "results")).entries():
        n = numbers.get(entry.parts.get("input n", ""))
        found[f"{entry.task}-{n}" if n is not None else entry.task] += 1
    return found


def start(folder: Path, runner: str, crash_at: str) -> int:
    os.environ[CRASH_AT] = crash_at
    result = resumed_flow.whole.with_options(task_runner=runner)(str(folder), COUNT)
    assert result == EXPECTED, result
    return 0


def resume(out: Path) -> int:
    os.environ.pop(CRASH_AT, None)
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            cli(["runs", "resume", "@last", "--json"], prog_name="daskflow")
    except SystemExit as end:
        out.write_text(printed.getvalue())
        return int(end.code or 0)
    return 98


def story(point: str, runner: str, root: Path) -> dict[str, Any]:
    """Kill a flow run at `point`, resume it, and tell what was executed when."""
    home, folder, out = root / "home", root / "ran", root / "account.json"
    folder.mkdir(parents=True)
    os.environ["DASKFLOW_HOME"] = str(home)
    reset_settings()
    died = in_a_child(lambda: start(folder, runner, point))
    before, kept = executed(folder), committed(home)
    with open_store(f"sqlite:///{home}/runs.db") as store:
        recorded = bool(store.flow_runs())
    if recorded:
        resumed = in_a_child(lambda: resume(out))
    else:  # killed before the record heard of it: it is a new run
        resumed = in_a_child(lambda: start(folder, runner, ""))
    with open_store(f"sqlite:///{home}/runs.db") as store:
        runs = store.flow_runs(limit=None)
        whole = [run for run in runs if run.parent_flow_run_id is None]
        states = [t.state for t in store.transitions(whole[0].flow_run_id, None)]
        open_rows = [
            row
            for run in runs
            for row in store.task_runs(run.flow_run_id)
            if row.state in ("Pending", "Running", "Retrying")
        ]
    return {
        "point": point,
        "runner": runner,
        "recorded": recorded,
        "died": died,
        "resumed": resumed,
        "before": before,
        "committed": kept,
        "after": executed(folder),
        "kept": committed(home),
        "runs": len(runs),
        "attempt": whole[0].attempt,
        "states": states,
        "open": len(open_rows),
        "account": json.loads(out.read_text()) if out.exists() else {},
    }


if __name__ == "__main__":
    for place, argument in enumerate(sys.argv[2:]):
        name, _, how = argument.partition("@")
        told = story(name, how or "sync", Path(sys.argv[1]) / str(place))
        print(json.dumps(told))
