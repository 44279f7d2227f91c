"""`daskflow cache …` over results of flows that ran in this thread."""

from __future__ import annotations

import json
import sys
import time

import pytest
from click.testing import CliRunner

from daskflow import flow, task
from daskflow.runner.cache_plans import refreshing
from daskflow.runner.cache_status import hit_status, miss_status, read_status
from daskflow.runner.cli.main import cli
from daskflow.runner.cli.sizes import AGE, SIZE, size_text


@task(persist_result=True)
def parse(text, base=10):
    return int(text, base)


@task(persist_result=True)
def double(number):
    return 2 * number


@task
def plain():
    return 0


@flow(task_runner="sync")
def doubled(text, base=10):
    plain.submit()
    return double.submit(parse.submit(text, base)).result()


def call(*args, code=0, **options):
    result = CliRunner().invoke(cli, ["cache", *args], **options)
    assert result.exit_code == code, result.output
    return result.output


def call_json(*args):
    return [json.loads(line) for line in call(*args, "--json").splitlines()]


def test_ls_and_show_tell_what_is_stored():
    doubled("7")
    found = call_json("ls")
    assert sorted(entry["task"] for entry in found) == ["double", "parse"]
    assert [entry["task"] for entry in call_json("ls", "--task", "parse")] == ["parse"]
    (entry,) = call_json("show", found[0]["key"][:10])
    assert entry == found[0]
    page = call("show", found[0]["key"])
    assert f"task         {found[0]['task']}" in page
    assert "test_cli_cache.py:" in page
    assert found[0]["key"][:12] in call("ls")


def test_a_key_that_nothing_or_too_much_begins_with_is_an_error():
    assert "no stored results in" in call("ls")
    for text in "12345678":
        doubled(text)
    assert "no stored result 'xyz'" in call("show", "xyz", code=3)
    assert "is the beginning of 16 keys" in call("show", "", code=2)


def test_stats_count_hits_and_what_they_saved():
    doubled("7")
    doubled("7")
    doubled("8")
    (told,) = call_json("stats")
    by_task = {each["task"]: each for each in told["tasks"]}
    assert (told["entries"], by_task["parse"]["entries"]) == (4, 2)
    assert (by_task["parse"]["hits"], by_task["parse"]["executed"]) == (1, 2)
    assert by_task["parse"]["hit_rate"] == pytest.approx(1 / 3)
    assert "33%" in call("stats")


def test_why_names_the_first_cause():
    doubled("7")
    (first,) = call_json("why", "@last", "double")
    assert first["verdict"] == "executed"
    assert first["because"] == ["no earlier result of this task is stored"]
    doubled("7")
    (hit,) = call_json("why", "@last", "double")
    assert hit["verdict"] == "hit"
    doubled("8")
    (why,) = call_json("why", "@last", "double-0")
    assert why["because"] == ["argument number changed"]
    assert [(up["task_run"], up["because"]) for up in why["upstream"]] == [
        ("parse-0", ["argument text changed"])
    ]
    assert call("why", "@last", "double").splitlines() == [
        "double-0: executed; argument number changed",
        "  parse-0: executed; argument text changed",
    ]


def test_why_knows_what_was_refreshed_what_is_gone_and_what_was_never_asked():
    doubled("7")
    with refreshing(["parse"]):
        doubled("7")
    assert "parse-0: executed; it was refreshed" in call("why", "@last", "parse")
    doubled("8")
    call("rm", "--task", "parse", "--yes")
    assert "not in the result store any more" in call("why", "@last", "parse")
    assert "does not ask for caching" in call("why", "@last", "plain")
    assert "no task or task run 'dobule'" in call("why", "@last", "dobule", code=3)


def test_why_tells_an_entry_that_expired_from_one_that_was_removed(monkeypatch):
    @task(cache_expiration=1000.0)
    def short():
        return 1

    @flow(task_runner="sync")
    def both():
        return parse.submit("7", 10).result(), short.submit().result()

    both()
    call("rm", "--task", "parse", "--yes")
    later = time.time() + 2000
    monkeypatch.setattr(time, "time", lambda: later)
    both()
    assert "parse-0: executed; its entry was missing: " in call("why", "@last", "parse")
    assert "had expired" in call("why", "@last", "short")


def test_why_compares_with_earlier_flow_runs_and_not_with_this_one():
    def above(threshold):
        @task(persist_result=True)
        def clean(x):
            return x > threshold

        @flow(task_runner="sync")
        def cleaning():
            return clean.map([1, 2, 3]).result()

        cleaning()
        return [told["because"] for told in call_json("why", "@last", "clean")]

    assert above(1) == [["no earlier result of this task is stored"]] * 3
    (changed, *others) = above(2)
    assert others == [changed] * 2
    assert "threshold" in changed[0]


def test_rm_removes_what_it_is_told_to_and_asks_before_much():
    for text in "123":
        doubled(text)
    key = call_json("ls", "--task", "parse")[0]["key"]
    assert "removed 1 results" in call("rm", key)
    assert call_json("rm", "--task", "parse", "--yes") == [{"removed": 2}]
    call("rm", "--all", code=1, input="n\n")
    assert len(call_json("ls")) == 3
    call("rm", "--all", input="y\n")
    assert call_json("ls") == []
    assert "one of the three" in call("rm", code=2)
    assert "no stored results of task 'zzz'" in call("rm", "--task", "zzz", code=3)


def test_gc_and_verify_say_what_they_found(tmp_path):
    doubled("7")
    assert "would remove 2 results" in call("gc", "--older-than", "0s", "--dry-run")
    assert "0 results, 0 B, stay" in call("gc", "--max-size", "0B")
    (told,) = call_json("verify")
    assert (told["entries"], told["damaged"], told["missing"]) == (0, [], [])
    assert "is no size" in call("gc", "--max-size", "much", code=2)
    assert call("ls", "--storage", str(tmp_path / "elsewhere"))


def test_a_run_with_no_cache_or_refresh_executes_everything(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from daskflow import flow, task\n"
        "@task(persist_result=True)\n"
        "def ran(x):\n"
        "    return x\n"
        "@flow(task_runner='sync')\n"
        "def runs():\n"
        "    return ran.submit(1).state.name\n"
    )

    def counts(*options):
        done = CliRunner().invoke(cli, ["run", str(script), "--json", *options])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)["counts"]

    assert counts() == {"Completed": 1}
    assert counts() == {"Cached": 1}
    assert counts("--refresh", "ran") == {"Completed": 1}
    assert counts("--refresh", "other") == {"Cached": 1}
    assert counts("--no-cache") == {"Completed": 1}
    shown = CliRunner().invoke(cli, ["runs", "show", "@last"]).output
    assert "which saved" not in shown


def test_runs_show_says_what_was_cached():
    doubled("7")
    doubled("7")
    shown = CliRunner().invoke(cli, ["runs", "show", "@last"]).output
    assert "cached       2 task runs, which saved" in shown


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (hit_status("ab" * 32, 1.5), (True, "ab" * 32, 1.5, None)),
        (miss_status("ab" * 32, None), (False, "ab" * 32, 0.0, None)),
        (miss_status("ab" * 32, "full disk"), (False, "ab" * 32, 0.0, "full disk")),
        (miss_status(None, "Uncacheable: x"), (False, None, 0.0, "Uncacheable: x")),
    ],
)
def test_the_record_says_what_the_cache_made_of_a_run(text, told):
    assert read_status(text) == told


def test_a_run_that_does_not_cache_has_no_status():
    assert read_status(None) is None


def test_sizes_and_ages_are_written_with_units():
    assert SIZE.convert("1.5GB", None, None) == 1.5e9
    assert SIZE.convert("2GiB", None, None) == 2 << 30
    assert AGE.convert("2w", None, None) == 14 * 86_400
    assert [size_text(size) for size in (0, 999, 1_500, 2e9, 3e12)] == [
        "0 B",
        "999 B",
        "1.5 kB",
        "2 GB",
        "3 TB",
    ]


def test_a_dry_run_says_which_known_calls_would_be_found(tmp_path):
    script = tmp_path / "dry.py"
    script.write_text(
        "from daskflow import flow, task\n"
        "def helper(x):\n"
        "    return x + 1\n"
        "@task(persist_result=True)\n"
        "def first(x):\n"
        "    return helper(x)\n"
        "@task(persist_result=True)\n"
        "def second(x):\n"
        "    return 2 * x\n"
        "@flow(task_runner='sync')\n"
        "def runs(n: int = 2):\n"
        "    return [second.submit(first.submit(x)).result() for x in range(n)]\n"
    )

    def run(*options, code=0):
        sys.modules.pop("dry", None)
        done = CliRunner().invoke(cli, ["run", str(script), *options])
        assert done.exit_code == code, done.output
        return done.stdout

    def predicted():
        lines = run("--dry-run", "--json").splitlines()
        return {each["task"]: each for each in map(json.loads, lines)}

    assert (
        "has looked results up" in CliRunner().invoke(cli, ["run", str(script), "--dry-run"]).output
    )
    run()
    assert {name: (each["known"], each["hit"]) for name, each in predicted().items()} == {
        "first": (2, 2),
        "second": (2, 2),
    }
    script.write_text(script.read_text().replace("x + 1", "x + 3"))
    changed = predicted()
    assert changed["first"]["because"] == {"code dry.py:helper changed": 2}
    assert (changed["first"]["executed"], changed["second"]["depends"]) == (2, 2)
    assert "calls that it did not make are not known" in run("--dry-run", "-p", "n=3")
    assert "it had other parameters" in run("--dry-run", "-p", "n=3")
    call("rm", "--task", "second", "--yes")
    assert predicted()["second"]["executed"] == 2
