"""Logs and prints of flows and tasks: captured where they are made, in order, before the end."""

from __future__ import annotations

import logging

import pytest

from daskflow import flow, get_run_logger, runtime, task
from daskflow.config import get_settings
from daskflow.errors import UsageError
from daskflow.runner.store import open_store

PARALLEL = pytest.mark.parametrize("where", ["processes", "threads", "external"], indirect=True)


def lines(**filters):
    """Lines of the newest flow run that is no subflow: number, attempt, level, logger, message."""
    with open_store(get_settings().store.url) as store:
        roots = [row for row in store.flow_runs() if row.parent_flow_run_id is None]
        return [
            (row.number, row.attempt, row.level, row.logger, row.message)
            for row in store.logs(roots[0].flow_run_id, **filters)
        ]


@task
def chatty(x):
    logger = get_run_logger()
    logger.info("info %s", x)
    logging.getLogger("some.library").warning("warning %s", x)
    logger.debug("not at this level")
    print("print", x, sep="-")
    print("second\nline", end="")


def test_a_task_and_a_flow_are_logged_in_order(where):
    @flow(task_runner=where, log_prints=True)
    def talks():
        get_run_logger().info("begins")
        chatty.submit(1).wait()
        print("flow", "prints")
        logging.getLogger("mine").error("ends")

    talks()
    assert lines(number=0) == [
        (0, 1, 20, "daskflow.task_runs", "info 1"),
        (0, 1, 30, "some.library", "warning 1"),
        (0, 1, 20, "print", "print-1"),
        (0, 1, 20, "print", "second\nline"),
    ]
    own = [(logger, message) for number, _, _, logger, message in lines() if number is None]
    assert own == [
        ("daskflow.flow_runs", "begins"),
        ("print", "flow prints"),
        ("mine", "ends"),
    ]


def test_lines_of_many_runs_keep_their_order_within_each(where):
    @task
    def counts(x):
        for n in range(20):
            get_run_logger().info("%d", n)

    @flow(task_runner=where)
    def many():
        counts.map(range(10)).result()

    many()
    by_run: dict[int, list[str]] = {}
    for number, *_, message in lines():
        by_run.setdefault(number, []).append(message)
    assert by_run == {number: [str(n) for n in range(20)] for number in range(10)}


def test_each_attempt_has_its_lines_and_exceptions_their_traceback(where):
    @task(retries=1)
    def flaky():
        try:
            raise KeyError("inner")
        except KeyError:
            get_run_logger().exception("attempt %d", runtime.task_run.attempt)
        if runtime.task_run.attempt == 1:
            raise ValueError

    @flow(task_runner=where)
    def retried():
        flaky.submit().result()

    retried()
    logged = [line for line in lines(number=0) if line[3] == "daskflow.task_runs"]
    assert [line[1] for line in logged] == [1, 2]
    assert "attempt 1\nTraceback" in logged[0][4]
    assert "KeyError: 'inner'" in logged[0][4]


def test_prints_are_lines_where_asked_for_only(where, capfd):
    @task(log_prints=True)
    def asked():
        print("captured")

    @task(log_prints=False)
    def refused():
        print("plain")

    @task
    def inherits():
        print("inherited")

    @flow
    def child():
        inherits.submit().wait()

    def body():
        for each in (asked, refused, inherits):
            each.submit().wait()
        print("of the flow", file=None)
        child()

    flow(body, name="on", task_runner=where, log_prints=True)()
    assert [line[4] for line in lines()] == ["captured", "inherited", "of the flow"]
    flow(body, name="off", task_runner=where)()
    assert [line[4] for line in lines()] == ["captured"]


def test_a_task_called_by_a_task_logs_for_it(where):
    @task(log_prints=True)
    def inner():
        get_run_logger().info("inner %s", runtime.task_run.task_name)
        print("printed")
        return runtime.task_run.id

    @task
    def outer():
        get_run_logger().info("before")
        called = inner()
        get_run_logger().info("after")
        return called == runtime.task_run.id

    @flow(task_runner=where)
    def calls():
        return outer.submit().result()

    assert calls()
    assert [line[4] for line in lines(number=0)] == ["before", "inner inner", "printed", "after"]


@PARALLEL
def test_lines_are_stored_before_the_final_row(where):
    seen = []

    @task
    def talks():
        get_run_logger().info("from inside")

    @flow(task_runner=where)
    def looks():
        talks.submit().result()
        flow_run = runtime.flow_run.id
        with open_store(get_settings().store.url) as store:
            while not any(row.state == "Completed" for row in store.task_runs(flow_run)):
                talks.submit().wait(0.01)
            seen.extend(row.message for row in store.logs(flow_run, number=0))

    looks()
    assert seen == ["from inside"]


def test_runtime_tells_about_the_current_runs(where):
    @task(tags=["b", "a"], task_run_name="ask-{x}")
    def ask(x):
        task_run, flow_run = runtime.task_run, runtime.flow_run
        return {
            "task": (task_run.name, task_run.task_name, task_run.attempt, task_run.tags),
            "ids": (task_run.id, task_run.idempotency_key),
            "flow": (flow_run.id, flow_run.name, flow_run.flow_name),
        }

    @flow(task_runner=where, name="asking", flow_run_name="run-{n}")
    def asks(n: int):
        mine = (runtime.flow_run.id, runtime.flow_run.name, runtime.flow_run.flow_name)
        assert runtime.task_run.id is None
        assert runtime.flow_run.parameters == {"n": 3}
        assert runtime.flow_run.attempt == 1
        return ask.submit(5).result(), mine, ask(6)

    remote, mine, local = asks(3)
    assert remote["task"] == ("ask-5", "ask", 1, ("a", "b"))
    assert remote["ids"] == (f"{mine[0]}-0", f"{mine[0]}-0")
    assert local["ids"][0] == f"{mine[0]}-1"
    assert remote["flow"] == local["flow"] == mine
    assert mine[1:] == ("run-3", "asking")


def test_outside_of_runs_there_is_nothing_to_tell():
    assert runtime.task_run.id is None
    assert runtime.flow_run.id is None
    assert runtime.flow_run.parameters == {}
    with pytest.raises(UsageError, match=r"get_run_logger\(\) was called outside of a run"):
        get_run_logger()
