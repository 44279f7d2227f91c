"""A script with a flow that is run and resumed by commands, in this process."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter

from click.testing import CliRunner

from daskflow.config import get_settings
from daskflow.runner.cli.main import cli
from daskflow.runner.store import open_store

__all__ = ["PLAIN", "Script", "account", "last", "module_name"]

HEAD = """
import os, pathlib, uuid
from datetime import date
from daskflow import NO_CACHE, INPUTS, flow, task, unmapped

HERE = pathlib.Path(__file__).parent
RUNNER = "sync"

def ran(name):
    (HERE / f"{name}-{uuid.uuid4().hex}.ran").touch()

def broken():
    return (HERE / "broken").exists()
"""
PLAIN = """
@task(persist_result=True)
def clean(n):
    ran(f"clean{n}")
    if n == 2 and broken():
        raise ValueError("no")
    return 10 * n

@task
def loose(n):
    ran("loose")
    return n

@flow(task_runner=RUNNER)
def etl(count: int = 4):
    cleaned = clean.map(range(count))
    return sum(loose.map(cleaned).result())
"""


class Script:
    """A script with a flow, its executions and the commands that are run on it."""

    def __init__(self, folder, name):
        self.folder, self.path = folder, folder / f"{name}.py"
        (folder / "broken").touch()

    def write(self, text):
        sys.modules.pop(self.path.stem, None)
        self.path.write_text(HEAD + text)
        return self

    def mend(self):
        (self.folder / "broken").unlink()
        return self

    def ran(self):
        """What was executed since the last call."""
        found = list(self.folder.glob("*.ran"))
        for path in found:
            path.unlink()
        return dict(Counter(path.name.split("-")[0] for path in found))

    def __call__(self, *command, code=0):
        sys.modules.pop(self.path.stem, None)
        done = CliRunner().invoke(cli, [str(part) for part in command])
        assert done.exit_code == code, done.output
        return done


def module_name(test):
    """A name that no other script of this process has."""
    return "resumed_" + re.sub(r"\W", "_", test)[:40]


def last():
    with open_store(get_settings().store.url) as store:
        run = store.find_flow_run("@last")
        runs = [r for r in store.flow_runs(limit=None) if r.parent_flow_run_id is None]
        story = [(t.state, t.attempt) for t in store.transitions(run.flow_run_id, None)]
        return run, len(runs), story, store.task_runs(run.flow_run_id)


def account(done):
    return json.loads(done.stdout)
