"""`daskflow runs`: what it prints of a real record, for people and for scripts."""

from __future__ import annotations

import json
import sys
from types import ModuleType

import pytest
from click.testing import CliRunner

from daskflow.config import get_settings
from daskflow.runner.cli.main import cli
from daskflow.runner.cli.summary import group_errors, summarize_stages
from daskflow.runner.cli.text import aligned, count_line, duration, one_line, printable
from daskflow.runner.store import open_writer
from daskflow.runner.store.rows import (
    EventRow,
    FlowRunRow,
    LogRow,
    TaskRow,
    TaskRunRow,
    TransitionRow,
)

FIRST, LAST, CHILD = "a" * 32, "b" * 32, "c" * 32


def flow_run(flow_run_id: str, name: str, state: str = "Completed", **columns) -> FlowRunRow:
    environment = {"python": "3.11.9", "argv": ["etl.py", "--fast"]}
    row = FlowRunRow(
        flow_run_id, name, "etl", "v2", state, None, '{"months": "[1, 2]"}', '["nightly"]',
        None, None, 1, 100.0, 100.0, 110.5, "etl.py:etl", "d1", json.dumps(environment),
        "processes, 2 workers", "box", 4711, 90.0, None,
    )  # fmt: skip
    return row._replace(**columns)


def task_run(number: int, state: str, message: str | None = None, **columns) -> TaskRunRow:
    task, index = divmod(number, 4)
    row = TaskRunRow(
        number, task, index, None, state, message, 1, 0, None, 100.0, 101.0, 102.0,
        1.0 + index, 0.0, 0.5, "tcp://w:1", 7, 10, None, None,
    )  # fmt: skip
    return row._replace(**columns)


@pytest.fixture
def record(home):
    """Two flow runs and a subflow run: three stages of work, some of it bad."""
    writer = open_writer(get_settings().store.url)
    writer.flow_run(flow_run(FIRST, "calm-otter", created_at=50.0))
    writer.flow_run(flow_run(LAST, "brave-fox", "Failed", message="2 task runs failed"))
    writer.flow_run(
        flow_run(CHILD, "small-hen", parent_flow_run_id=LAST, parent_task_run=1, created_at=99.0)
    )
    writer.tasks(
        LAST,
        [
            TaskRow(0, "extract", None, "[]", None, "{}"),
            TaskRow(1, "clean", None, "[]", None, "{}"),
        ],
    )
    writer.task_runs(
        LAST,
        [
            task_run(0, "Completed"),
            task_run(1, "Completed", attempt=3),
            task_run(2, "Cached"),
            task_run(3, "Completed", attempt=2, crashes=1),
            task_run(4, "Failed", "ValueError: bad row 17"),
            task_run(5, "Failed", "ValueError: bad row 99"),
            task_run(6, "NotReady", "extract-1 failed"),
            task_run(7, "Completed", name="special"),
        ],
    )
    writer.transitions(LAST, [TransitionRow(1, 101.0, "AwaitingRetry", "busy", 1, "tcp://w:1")])
    writer.logs(
        LAST,
        [
            LogRow(None, 1, 100.0, 20, "daskflow.flow_runs", "begin", None),
            LogRow(4, 1, 101.0, 30, "etl", "odd value in row 17", "tcp://w:1"),
            LogRow(0, 1, 102.0, 10, "etl", "read 5 files", "tcp://w:1"),
            LogRow(4, 1, 103.0, 40, "etl", "bad\x1b[2J row\nsecond line", "tcp://w:1"),
            LogRow(7, 1, 104.0, 20, "etl", "done", "tcp://w:1"),
        ],
    )
    lost = {"cause": "signal 9", "worker": "tcp://w:2"}
    writer.events(LAST, [EventRow(105.0, "daskflow.worker.lost", "tcp://w:2", 3, lost)])
    assert writer.flush(10)
    writer.close()


def invoke(*arguments: str):
    return CliRunner().invoke(cli, ["runs", *arguments], catch_exceptions=False)


def objects(*arguments: str) -> list[dict]:
    result = invoke(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


# ---- ls


def test_ls_of_a_store_that_is_not_there_yet_is_empty(home):
    result = invoke("ls")
    assert (result.exit_code, result.stdout) == (0, "")
    assert f"no flow runs to list in sqlite:///{home}/runs.db" in result.stderr
    assert not home.exists()


def test_ls_lists_newest_first_in_aligned_columns(record):
    lines = invoke("ls").stdout.splitlines()
    assert lines[0].split() == ["name", "flow", "state", "started", "took", "id"]
    assert [line.split()[0] for line in lines[1:]] == ["brave-fox", "small-hen", "calm-otter"]
    assert lines[1].endswith("10.5s  bbbbbbbbbbbb")
    assert len({line.index("etl") for line in lines[1:]}) == 1


@pytest.mark.parametrize(
    ("options", "names"),
    [
        pytest.param(["--state", "failed"], ["brave-fox"], id="state-in-any-case"),
        pytest.param(["--limit", "2"], ["brave-fox", "small-hen"], id="limit"),
        pytest.param(["--flow", "other"], [], id="flow"),
    ],
)
def test_ls_filters(record, options, names):
    assert [run["name"] for run in objects("ls", *options)] == names


def test_ls_as_json_has_read_its_json_columns(record):
    run = objects("ls", "--limit", "1")[0]
    assert run["parameters"] == {"months": "[1, 2]"}
    assert run["tags"] == ["nightly"]
    assert run["environment"]["python"] == "3.11.9"
    assert run["duration_s"] == 10.5


# ---- show


@pytest.mark.parametrize("ref", ["brave-fox", "@last", LAST, "bbbb"])
def test_show_finds_a_run_by_name_id_prefix_and_last(record, ref):
    assert objects("show", ref)[0]["flow_run"]["flow_run_id"] == LAST


def test_show_unknown_run_exits_with_3_and_names_the_nearest(record):
    result = invoke("show", "brave-fix")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "brave-fox" in result.stderr


def test_show_tells_what_happened(record):
    text = invoke("show", "brave-fox").stdout
    for said in (
        "brave-fox  Failed\n",
        "message      2 task runs failed",
        "flow         etl (version v2)",
        "took         10.5s",
        "parameters   months=[1, 2]",
        "task runs    4 completed · 2 failed · 1 not run · 1 cached · 1 worker lost",
        "2 × Failed  ValueError: bad row 17\n    clean-0, clean-1\n",
        "tcp://w:2  cause=signal 9, worker=tcp://w:2",
        "argv         etl.py --fast",
    ):
        assert said in text
    assert "small-hen" in text.split("SUBFLOWS")[1]


def test_show_counts_each_stage(record):
    page = objects("show", "brave-fox")[0]
    extract, clean = page["stages"]
    assert (extract["total"], extract["states"]) == (4, {"Completed": 3, "Cached": 1})
    assert (extract["retries"], extract["crashes"]) == (2, 1)
    assert (extract["p50_s"], extract["max_s"]) == (3.0, 4.0)
    assert clean["states"] == {"Failed": 2, "NotReady": 1, "Completed": 1}
    assert page["retries"] == 2
    assert [child["name"] for child in page["subflows"]] == ["small-hen"]


@pytest.mark.parametrize(
    ("task_run", "caller"),
    [pytest.param(1, f"{LAST}-1", id="by-a-task-run"), pytest.param(None, LAST, id="by-the-flow")],
)
def test_show_of_a_subflow_says_who_called_it(home, task_run, caller):
    parents = {"parent_flow_run_id": LAST, "parent_task_run": task_run}
    writer = open_writer(get_settings().store.url)
    writer.flow_run(flow_run(CHILD, "small-hen", **parents))
    writer.flush()
    assert f"called by    {caller}\n" in invoke("show", "small-hen").stdout


def test_show_leaves_out_sections_that_have_nothing_to_say(record):
    text = invoke("show", "calm-otter").stdout
    assert "no task runs" in text
    for section in ("STAGES", "ERRORS", "LOST WORKERS", "SUBFLOWS"):
        assert section not in text


def test_errors_that_differ_in_figures_are_one_cause():
    runs = [task_run(n, "Failed", f"KeyError: {n} at 0x{n:x}f") for n in range(4)]
    runs += [task_run(5, "Failed", "OSError: full"), task_run(6, "Crashed", "OSError: full")]
    groups = group_errors(runs, {run.number: f"t-{run.number}" for run in runs})
    assert [(g.size, g.state) for g in groups] == [(4, "Failed"), (1, "Failed"), (1, "Crashed")]
    assert groups[0].message == "KeyError: 0 at 0x0f"


def test_stage_without_a_finished_run_has_no_times():
    (stage,) = summarize_stages([TaskRow(0, "t", None, "[]", None, "{}")], [])
    assert (stage.total, stage.p50_s, stage.p95_s, stage.max_s) == (0, None, None, None)


# ---- logs


def test_logs_are_lines_in_order_that_cannot_move_the_cursor(record):
    lines = invoke("logs", "@last").stdout.splitlines()
    assert [line.split(" ", 1)[1] for line in lines if " | " in line] == [
        "INFO    flow | begin",
        "WARNING clean-0 | odd value in row 17",
        "DEBUG   extract-0 | read 5 files",
        "ERROR   clean-0 | bad\\x1b[2J row",
        "INFO    special | done",
    ]
    assert "second line" in lines


@pytest.mark.parametrize(
    ("options", "times"),
    [
        pytest.param(["--task", "clean"], [101, 103, 104], id="task"),
        pytest.param(["--task", "clean-0"], [101, 103], id="task-run"),
        pytest.param(["--task", "special"], [104], id="own-name"),
        pytest.param(["--task", "4"], [101, 103], id="number"),
        pytest.param(["--task", f"{LAST}-4"], [101, 103], id="id"),
        pytest.param(["--level", "warning"], [101, 103], id="level"),
        pytest.param(["--search", "ROW"], [101, 103], id="search"),
        pytest.param(["-n", "2"], [103, 104], id="tail"),
        pytest.param(["--task", "clean", "-n", "1", "--level", "ERROR"], [103], id="together"),
        pytest.param(["-n", "0"], [], id="none"),
    ],
)
def test_logs_filter(record, options, times):
    assert [line["at"] for line in objects("logs", "@last", *options)] == times


def test_logs_as_json_name_level_and_task_run(record):
    line = objects("logs", "@last", "--level", "ERROR")[0]
    assert (line["level"], line["task_run"]) == ("ERROR", "clean-0")
    assert line["message"] == "bad\x1b[2J row\nsecond line"


def test_logs_of_an_unknown_task_name_the_nearest(record):
    result = invoke("logs", "@last", "--task", "claen")
    assert result.exit_code == 3
    assert "no task or task run 'claen'; there are clean" in result.stderr


# ---- report


def test_report_is_written_by_the_dashboards_and_its_path_is_the_output(
    record, monkeypatch, tmp_path
):
    asked = []
    fake = ModuleType("daskflow.dashboards.report")
    fake.write_report = lambda store, run_id, path: asked.append(  # type: ignore[attr-defined]
        (store.find_flow_run("@last").name, run_id, path)
    )
    monkeypatch.setitem(sys.modules, "daskflow.dashboards.report", fake)
    result = invoke("report", "brave", "-o", str(tmp_path / "r.html"))
    assert result.exit_code == 3  # a beginning of a name is not a name
    result = invoke("report", "brave-fox", "-o", str(tmp_path / "r.html"))
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'r.html'}\n")
    assert asked == [("brave-fox", LAST, tmp_path / "r.html")]


# ---- a store that cannot answer


def test_store_that_is_no_database_exits_with_6(home):
    home.mkdir()
    (home / "runs.db").write_text("no database" * 100)
    result = invoke("ls")
    assert (result.exit_code, result.stdout) == (6, "")
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr


# ---- text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"), (-0.1, "0ms"), (0.085, "85ms"), (0.9999, "1.0s"), (4.24, "4.2s"),
        (59.96, "1m00s"), (403, "6m43s"), (3599.9, "1h00m"), (7500, "2h05m"),
    ],
)  # fmt: skip
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_count_line_reads_as_promised():
    counts = {"Cached": 4581, "Failed": 1, "Completed": 19_999, "Pending": 0, "Odd": 3}
    assert count_line(counts, lost_workers=2, seconds=403) == (
        "19,999 completed · 1 failed · 4,581 cached · 3 odd · 2 workers lost · 6m43s"
    )


def test_text_of_users_is_tamed():
    assert printable("a\x1b\x00\n\tü") == "a\\x1b\\x00\n\tü"
    assert one_line("  first\nsecond") == "first"
    assert one_line("x" * 50, 10) == "x" * 9 + "…"


def test_figures_are_aligned_to_the_right():
    assert aligned(("task", "n"), [("a", "5"), ("bcdef", "1,000")]) == [
        "task       n",
        "a          5",
        "bcdef  1,000",
    ]
