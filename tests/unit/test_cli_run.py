"""`daskflow run` from end to end over a stand-in for the engine: who prints what, and where."""

from __future__ import annotations

import json
import os
import signal
import sys
from types import ModuleType

import pytest
from click.testing import CliRunner

import daskflow
from daskflow.config import get_settings
from daskflow.errors import ClusterError, FlowFailed, ParameterError
from daskflow.runner.cli.main import cli
from daskflow.runner.state import State
from daskflow.runner.store import open_writer
from daskflow.runner.store.rows import EventRow, FlowRunRow, TaskRow, TaskRunRow

RUN = "d" * 32
SCRIPT = """
import daskflow

def body(months=(), name="x"):
    print("the flow prints", months, name)
    {body}

etl = daskflow.Flow(body)
{after}
"""


class StandIn:
    """Calls its function, records the run and returns its state, as the engine does."""

    def __init__(self, fn, **options):
        self.fn, self.name, self.options = fn, "etl", options

    def with_options(self, **options):
        return StandIn(self.fn, **options)

    def __call__(self, return_state=False, **parameters):
        assert return_state
        try:
            self.fn(**parameters)
            state = State("Completed")
        except ParameterError:
            raise
        except ClusterError as error:
            state = State("Crashed", str(error), error=error)
        except Exception as error:
            state = State("Failed", f"{type(error).__name__}: {error}", error=error)
        self.record(state)
        return state

    def record(self, state):
        name = self.options.get("flow_run_name", "brave-fox")
        runner = self.options.get("task_runner", "processes")
        writer = open_writer(get_settings().store.url)
        writer.flow_run(
            FlowRunRow(
                RUN, name, "etl", None, state.name, state.message, "{}", "[]", None, None, 1,
                9e9, 9e9, 9e9, None, None, "{}", runner, "box", os.getpid(), 1.0, None,
            )
        )  # fmt: skip
        writer.tasks(RUN, [TaskRow(0, "clean", None, "[]", None, "{}")])
        done = "Completed" if state.name == "Completed" else "Failed"
        writer.task_runs(
            RUN,
            [
                TaskRunRow(
                    n, 0, n, None, end, None, 1, 0, None, 1.0, 1.0, 1.0, 0.1, None, None, None,
                    None, None, None, None,
                )
                for n, end in enumerate(["Completed", done])
            ],
        )  # fmt: skip
        writer.events(RUN, [EventRow(1.0, "daskflow.worker.lost", "tcp://w:1", None, {})])
        assert writer.flush(10)
        writer.close()


@pytest.fixture
def run(tmp_path, monkeypatch, request):
    """Run a script over the stand-in: ``run(body, *options)``."""
    progress = ModuleType("daskflow.runner.progress")
    progress.snapshot = lambda: [("clean", 2, 2, 0, 1, 0, 0)]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "daskflow.runner.progress", progress)
    monkeypatch.setattr(daskflow, "Flow", StandIn, raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def invoke(body="pass", *options, after=""):
        path = tmp_path / "script_run.py"
        path.write_text(SCRIPT.format(body=body, after=after))
        sys.modules.pop("script_run", None)
        return CliRunner().invoke(cli, ["run", str(path), *options], catch_exceptions=False)

    yield invoke
    sys.modules.pop("script_run", None)


def test_completed_flow_prints_its_own_on_stdout_and_the_rest_on_stderr(run):
    result = run("pass", "-p", "months=[1, 2]", "-p", "name=may")
    assert result.exit_code == 0
    assert result.stdout == "the flow prints [1, 2] may\n"
    progress, last = result.stderr.splitlines()
    assert progress == "clean: 2/2 · 1 cached"
    assert last.startswith("brave-fox: 2 completed · 1 worker lost · ")


def test_json_is_all_of_stdout(run):
    result = run("pass", "--json", "--name", "nightly", "--task-runner", "threads")
    assert result.exit_code == 0
    (line,) = result.stdout.splitlines()
    ending = json.loads(line)
    assert ending.pop("duration_s") >= 0
    assert ending == {
        "id": RUN,
        "name": "nightly",
        "state": "Completed",
        "message": None,
        "counts": {"Completed": 2},
        "lost_workers": 1,
    }
    assert "the flow prints" in result.stderr


def test_options_reach_the_flow(run):
    run("pass", "--task-runner", "tcp://127.0.0.1:8786")
    shown = CliRunner().invoke(cli, ["runs", "show", "@last"])
    assert "tcp://127.0.0.1:8786" in shown.stdout


def test_own_exception_is_told_with_the_users_lines_and_what_helps(run):
    result = run("raise ValueError('bad month')")
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    assert "raise ValueError('bad month')" in result.stderr
    assert "test_cli_run.py" in result.stderr  # of the stand-in: not a frame of the engine
    assert "daskflow/runner" not in result.stderr
    assert lines[-3:-1] == [
        "brave-fox Failed: ValueError: bad month",
        "look closer: daskflow runs show brave-fox",
    ]
    assert lines[-1].startswith("brave-fox: 1 completed · 1 failed · ")


def test_failures_left_behind_are_told_without_a_traceback(run):
    assert FlowFailed("r", "1 task run failed").message == "1 task run failed"
    result = run("from daskflow.errors import FlowFailed; raise FlowFailed('r', '1 failed')")
    assert result.exit_code == 1
    assert "Traceback" not in result.stderr
    assert "brave-fox Failed: FlowFailed: 1 failed" in result.stderr


def test_failure_left_behind_is_told_with_the_lines_of_the_task(run):
    result = run(
        "from daskflow.errors import FlowFailed\n"
        "    raise FlowFailed('r', '1 failed') from ValueError('disk full')"
    )
    assert result.exit_code == 1
    assert result.stderr.splitlines()[1] == "ValueError: disk full"
    assert "brave-fox Failed: FlowFailed: 1 failed" in result.stderr


def test_interrupted_flow_is_cancelled_on_record_and_130_for_the_shell(run, monkeypatch):
    def interrupted(self, return_state=False, **parameters):
        state = State("Cancelled", "interrupted", error=KeyboardInterrupt())
        self.record(state)
        return state

    monkeypatch.setattr(StandIn, "__call__", interrupted)
    result = run("pass")
    assert result.exit_code == 130
    assert "Traceback" not in result.stderr
    assert "brave-fox Cancelled: interrupted" in result.stderr


def test_name_that_several_runs_share_is_told_as_id(run):
    run("pass")
    writer = open_writer(get_settings().store.url)
    writer.flow_run(
        FlowRunRow(
            "e" * 32, "brave-fox", "old", None, "Completed", None, "{}", "[]", None, None, 1,
            1.0, 1.0, 1.0, None, None, "{}", "sync", "box", 1, 1.0, None,
        )
    )  # fmt: skip
    assert writer.flush(10)
    writer.close()
    assert "daskflow runs show dddddddddddd\n" in run("1 / 0").stderr


def test_wrong_parameters_of_the_flow_are_a_usage_error(run):
    body = "from daskflow.errors import ParameterError; raise ParameterError('months: no list')"
    result = run(body)
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (2, "error: months: no list")


def test_crashed_flow_exits_with_5(run):
    result = run("from daskflow.errors import ClusterError; raise ClusterError('gone')")
    assert result.exit_code == 5


def test_script_that_cannot_be_loaded_is_told_from_its_own_line(run):
    result = run("pass", after="undefined_name")
    assert result.exit_code == 1
    assert "NameError: name 'undefined_name' is not defined" in result.stderr
    assert "target.py" not in result.stderr
    assert "importlib" not in result.stderr


def test_script_with_a_syntax_error_is_told_with_its_line(run):
    result = run("pass", after="def broken(:")
    assert result.exit_code == 1
    assert "SyntaxError" in result.stderr


def test_flow_that_its_script_calls_runs_once_with_the_given_parameters(run):
    result = run("pass", "-p", "name=given", after="etl(name='at top level')")
    assert result.exit_code == 0
    assert result.stdout == "the flow prints () given\n"
    assert "flow 'etl' is called by its script" in result.stderr


def test_store_that_cannot_be_read_does_not_change_how_the_flow_ended(run, monkeypatch, tmp_path):
    (tmp_path / "broken.db").write_text("no database" * 100)
    monkeypatch.setenv("DASKFLOW_STORE__URL", f"sqlite:///{tmp_path}/broken.db")
    monkeypatch.setattr(StandIn, "record", lambda self, state: None)
    result = run("pass", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["id"] is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_interrupts_the_flow(run, number):
    before = signal.getsignal(signal.SIGTERM)
    result = run(f"import os; os.kill(os.getpid(), {number.value})\n    while True: pass")
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1] == "interrupted"
    assert signal.getsignal(signal.SIGTERM) is before


def test_missing_file_exits_with_3(run):
    result = CliRunner().invoke(cli, ["run", "no/such/file.py"])
    assert result.exit_code == 3
    assert "error: no file 'no/such/file.py'" in result.stderr
