"""`runs resume` and `runs retry`: what is committed is taken from the record, by its inputs."""

from __future__ import annotations

import json
import re
from collections import Counter

import pytest

from daskflow.config import get_settings
from daskflow.runner.store import open_store
from tests.cluster.resumed import PLAIN, account, last


def test_a_failed_run_goes_on_with_what_is_missing(failed):
    done = failed("runs", "resume", "@last")
    assert failed.ran() == {"clean2": 1, "loose": 4}
    assert done.stdout.splitlines() == [
        "3 task runs reused, 5 executed",
        "  reused    clean 3",
        "  executed  clean 1: nothing was committed for these inputs (before: 1 Failed)",
        "  executed  loose 4: results are not kept (persist_result=True keeps them) "
        "(before: 1 NotReady)",
    ]


def test_it_is_the_same_flow_run_in_a_new_attempt_and_shows_it(failed):
    before, _, _, rows_before = last()
    failed("runs", "resume", "@last")
    run, runs, story, rows = last()
    assert (run.flow_run_id, run.name, runs) == (before.flow_run_id, before.name, 1)
    assert (run.state, run.attempt, run.parameters) == ("Completed", 2, '{"count": 4}')
    assert story == [
        ("Pending", 0), ("Running", 1), ("Failed", 1), ("Retrying", 2), ("Completed", 2)
    ]  # fmt: skip
    assert rows[: len(rows_before)] == rows_before  # what was, stays
    shown = failed("runs", "show", "@last").stdout
    assert re.search(r"before +attempt 1 ended Failed: ", shown)
    assert re.search(r"resumed +3 task runs reused, 5 executed", shown)
    page = json.loads(failed("runs", "show", "@last", "--json").stdout)
    assert page["resumed"]["reused"] == {"clean": 3}
    assert [t["state"] for t in page["transitions"]] == [state for state, _ in story]


def test_the_report_of_a_resumed_run_is_written(failed):
    failed("runs", "resume", "@last")
    failed("runs", "report", "@last", "-o", failed.folder / "report.html")
    assert "clean" in (failed.folder / "report.html").read_text()


def test_json_has_the_account(failed):
    found = account(failed("runs", "resume", "@last", "--json"))
    assert (found["state"], found["attempt"], found["reused"]) == ("Completed", 2, {"clean": 3})
    assert found["executed"]["clean"] == {"nothing was committed for these inputs": 1}
    assert found["had_ended"] == {"clean": {"Failed": 1}, "loose": {"NotReady": 1}}


def test_retry_needs_to_be_told_what(failed):
    done = failed("runs", "retry", "@last", code=2)
    assert "--failed" in done.output
    failed("runs", "retry", "@last", "--failed")
    assert failed.ran() == {"clean2": 1, "loose": 4}


def test_a_completed_run_with_failed_task_runs_is_retried_and_not_resumed(script):
    text = PLAIN.replace("sum(loose.map(cleaned).result())", "len([f.wait() for f in cleaned])")
    text = text.replace("return len(", "[f.state for f in cleaned]; return len(")
    script.write(text)("run", script.path)
    script.mend().ran()
    done = script("runs", "resume", "@last", code=2)
    assert "there is nothing left to do" in done.stderr
    script("runs", "retry", "@last", "--failed")
    assert script.ran() == {"clean2": 1}
    for command in (["resume", "@last"], ["retry", "@last", "--failed"]):
        assert "nothing left to do" in script("runs", *command, code=2).stderr


def test_a_committed_run_whose_code_changed_is_reused_and_listed(failed):
    failed.write(PLAIN.replace("return 10 * n", "return 11 * n"))
    done = failed("runs", "resume", "@last")
    assert failed.ran() == {"clean2": 1, "loose": 4}
    assert re.search(r"reused +clean 3 \(3 although code .*clean.* changed; --rerun-", done.stdout)


def test_rerun_changed_runs_it_again(failed):
    failed.write(PLAIN.replace("return 10 * n", "return 11 * n"))
    found = account(failed("runs", "resume", "@last", "--rerun-changed", "--json"))
    assert failed.ran() == {"clean0": 1, "clean1": 1, "clean2": 1, "clean3": 1, "loose": 4}
    assert found["executed"]["clean"] == {
        "code has changed (--rerun-changed)": 3, "nothing was committed for these inputs": 1
    }  # fmt: skip


def test_calls_in_another_order_and_around_new_code_find_their_runs(failed):
    moved = PLAIN.replace("clean.map(range(count))", "clean.map(reversed(range(count)))")
    failed.write(moved.replace("@flow", "@task\ndef new(n):\n    return n\n\n@flow"))
    failed("runs", "resume", "@last")
    assert failed.ran() == {"clean2": 1, "loose": 4}


def test_a_run_can_be_resumed_more_than_once(failed):
    (failed.folder / "broken").touch()
    failed("runs", "resume", "@last", code=1)
    assert failed.ran() == {"clean2": 1, "loose": 3}
    failed.mend()("runs", "resume", "@last")
    assert failed.ran() == {"clean2": 1, "loose": 4}
    assert last()[0].attempt == 3


def test_results_that_only_persist_are_reused_one_by_one(script):
    script.write("""
@task(persist_result=True, cache_policy=NO_CACHE)
def draw(n):
    ran("draw")
    return uuid.uuid4().hex

@flow(task_runner=RUNNER)
def drawing():
    drawn = [draw(1), draw.submit(1).result(), draw(1), draw(2)]
    (HERE / ("first" if broken() else "second")).write_text(" ".join(drawn))
    assert not broken()
    assert len(set(drawn)) == 4
""")("run", script.path, code=1)
    assert script.ran() == {"draw": 4}
    script.mend()("runs", "resume", "@last")
    assert script.ran() == {}
    assert (script.folder / "first").read_text() == (script.folder / "second").read_text()


def test_changed_code_of_results_that_only_persist_runs_again_when_asked(script):
    text = """
@task(persist_result=True, cache_policy=NO_CACHE)
def draw(n):
    ran("draw")
    return n

@flow(task_runner=RUNNER)
def drawing():
    drawn = [draw(1), draw(1)]
    assert not broken()
    assert drawn == [1, 1]
"""
    script.write(text)("run", script.path, code=1)
    script.ran()
    script.mend().write(text.replace("return n", "return 2 * n").replace("[1, 1]", "[2, 2]"))
    script("runs", "resume", "@last", "--rerun-changed")
    assert script.ran() == {"draw": 2}


def test_subflows_reuse_theirs_under_the_same_run(script):
    both = """
@flow
def both():
    parts = [etl(3), etl(2), etl(3)]
    assert not broken()
    return parts
"""
    script.write(PLAIN.replace("n == 2 and broken()", "n > 2") + both)
    script("run", f"{script.path}:both", "--task-runner", "sync", code=1)
    assert script.ran() == {"clean0": 1, "clean1": 1, "clean2": 1, "loose": 8}
    script.mend()
    found = account(script("runs", "resume", "@last", "--json"))
    assert script.ran() == {"loose": 8}
    assert found["reused"] == {"clean": 8}
    with open_store(get_settings().store.url) as store:
        runs = store.flow_runs(limit=None)
        assert sorted((r.flow_name, r.attempt) for r in runs) == [
            ("both", 2), ("etl", 2), ("etl", 2), ("etl", 2)
        ]  # fmt: skip
        child = next(r for r in runs if r.flow_name == "etl")
        done = script("runs", "resume", child.flow_run_id, code=2)
        assert "is a subflow" in done.stderr


def test_an_async_flow_goes_on(script):
    script.write(PLAIN.replace("def etl", "async def etl"))("run", script.path, code=1)
    script.mend().ran()
    script("runs", "resume", "@last")
    assert script.ran() == {"clean2": 1, "loose": 4}


def test_results_that_are_gone_are_made_again_and_the_account_says_so(failed, home):
    for path in (home / "results").rglob("*.parquet"):
        path.unlink()
    found = account(failed("runs", "resume", "@last", "--json"))
    assert failed.ran() == {"clean0": 1, "clean1": 1, "clean2": 1, "clean3": 1, "loose": 4}
    assert found["executed"]["clean"]["stored results are gone or expired"] == 3


def test_flow_retries_begin_anew_and_keep_what_is_reused(script):
    script.write(PLAIN.replace("@flow(task", "@flow(retries=1, task"))("run", script.path, code=1)
    assert script.ran() == {"clean0": 1, "clean1": 1, "clean2": 2, "clean3": 1, "loose": 3}
    script("runs", "resume", "@last", code=1)
    assert script.ran() == {"clean2": 2, "loose": 3}
    assert [attempt for state, attempt in last()[2] if state == "Retrying"] == [2, 3, 4]


@pytest.mark.parametrize(
    ("runner", "size"), [("threads", 1), ("cluster", 1), ("cluster", 50_000)],
    ids=["threads", "here", "on a worker"],
)  # fmt: skip
def test_what_is_committed_below_results_that_are_not_kept_is_found_by_content(
    script, runner, size, request
):
    if runner == "cluster":
        runner = request.getfixturevalue("cluster").scheduler_address
    text = """
@task
def load(n):
    ran("load")
    return (n + 5, "x" * SIZE)

@task(persist_result=True)
def train(x):
    ran("train")
    return x[0] * 2

@task(persist_result=True, cache_policy=NO_CACHE)
def judge(x):
    ran("judge")
    return x[0] + 0.5

@flow(task_runner=RUNNER)
def both():
    loaded = load.map(range(3))
    trained, judged = train.map(loaded), judge.map(loaded)
    assert (trained.result(), judged.result()) == ([10, 12, 14], [5.5, 6.5, 7.5])
    assert not broken()
""".replace("SIZE", str(size))
    script.write(text)("run", script.path, "--task-runner", runner, code=1)
    assert script.ran() == {"load": 3, "train": 3, "judge": 3}
    script.mend().write(text.replace("return x[0] * 2", "return 2 * x[0]"))
    found = account(script("runs", "resume", "@last", "--task-runner", runner, "--json"))
    assert script.ran() == {"load": 3}
    kept = Counter(found["reused"]) + Counter(found["found_in_the_result_store"])
    assert kept == {"train": 3, "judge": 3}
