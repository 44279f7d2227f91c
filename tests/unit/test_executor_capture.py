"""Logs and prints: each line finds its run, at the level of its flow, and nothing else changes."""

from __future__ import annotations

import builtins
import enum
import io
import logging
import pickle
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from daskflow.runner.cluster.executor.capture import REPLAYED, install_capture, remove_capture
from daskflow.runner.context import (
    TASK_LOGGER,
    FlowInfo,
    LogLine,
    TaskInfo,
    TaskRunContext,
    current_task_run,
    get_run_logger,
)


@pytest.fixture(autouse=True)
def _removed() -> Iterator[None]:
    yield
    remove_capture()


@contextmanager
def run(level: int = logging.INFO, *, log_prints: bool = False) -> Iterator[list[LogLine]]:
    """A task run of a flow that captures from `level` on; the lines that it got."""
    lines: list[LogLine] = []
    flow = FlowInfo("flow", "name", "flow-name", log_level=level)
    task = TaskInfo("body", log_prints=log_prints)
    token = current_task_run.set(TaskRunContext(flow, task, 3, 0, 2, lines.append))
    try:
        yield lines
    finally:
        current_task_run.reset(token)


def messages(lines: list[LogLine]) -> list[str]:
    return [line.message for line in lines]


def test_a_record_finds_its_run() -> None:
    install_capture(logging.INFO)
    with run() as lines:
        get_run_logger().info("one %s", 1)
        logging.getLogger("a.library").warning("two")
    ((number, attempt, _, level, logger, message), second) = lines
    assert (number, attempt, level, logger, message) == (3, 2, logging.INFO, TASK_LOGGER, "one 1")
    assert second.logger == "a.library"


def test_outside_of_a_run_nothing_is_captured() -> None:
    install_capture(logging.INFO)
    with run() as lines:
        pass
    logging.getLogger(TASK_LOGGER).error("late")
    print("late")
    assert lines == []


def test_runs_of_different_threads_do_not_mix() -> None:
    install_capture(logging.INFO)
    found: dict[int, list[str]] = {}
    ready = threading.Barrier(4)

    def work(number: int) -> None:
        with run(log_prints=True) as lines:
            ready.wait(10)
            for step in range(50):
                get_run_logger().info("%d-%d", number, step)
                print(f"{number}-{step}")
        found[number] = messages(lines)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    for number in range(4):
        assert found[number] == [f"{number}-{step}" for step in range(50) for _ in "ab"]


@pytest.mark.parametrize("order", [(10, 30), (30, 10)], ids=["low-first", "high-first"])
def test_flows_with_different_levels_share_a_process(order: tuple[int, int]) -> None:
    for level in order:
        install_capture(level)
    with run(logging.DEBUG) as low, run(logging.WARNING) as high:
        pass
    for level, lines in ((logging.DEBUG, low), (logging.WARNING, high)):
        with run(level) as lines:
            logger = get_run_logger()
            logger.debug("debug")
            logger.info("info")
            logger.warning("warning")
        wanted = ["debug", "info", "warning"] if level == logging.DEBUG else ["warning"]
        assert messages(lines) == wanted


def test_removed_means_as_it_was_before() -> None:
    handlers, plain = list(logging.getLogger().handlers), builtins.print
    level = logging.getLogger(TASK_LOGGER).level
    install_capture(logging.DEBUG)
    assert builtins.print is not plain
    remove_capture()
    assert list(logging.getLogger().handlers) == handlers
    assert builtins.print is plain
    assert logging.getLogger(TASK_LOGGER).level == level


def test_after_removal_a_higher_level_holds() -> None:
    install_capture(logging.DEBUG)
    remove_capture()
    install_capture(logging.ERROR)
    assert logging.getLogger(TASK_LOGGER).level == logging.ERROR


def test_installing_again_repairs_what_user_code_took_away() -> None:
    install_capture(logging.INFO)
    root = logging.getLogger()
    before = list(root.handlers)
    root.handlers.clear()
    install_capture(logging.INFO)
    with run() as lines:
        get_run_logger().info("still here")
    root.handlers[:] = before
    assert messages(lines) == ["still here"]


def test_a_print_is_a_line_where_the_task_wants_it(capsys: pytest.CaptureFixture[str]) -> None:
    install_capture(logging.INFO)
    with run(log_prints=True) as lines:
        print("a", 1, sep="-")
        print("no newline", end="")
        print("to stderr", file=sys.stderr, flush=True)
        print()
    assert messages(lines) == ["a-1", "no newline", "to stderr", ""]
    assert {line.logger for line in lines} == {"print"}
    with run(log_prints=False) as lines:
        print("shown")
    assert lines == []
    assert capsys.readouterr().out == "shown\n"


def test_a_print_into_a_file_goes_there() -> None:
    install_capture(logging.INFO)
    file = io.StringIO()
    with run(log_prints=True) as lines:
        print("into a file", file=file)
    assert file.getvalue() == "into a file\n"
    assert lines == []


def test_a_traceback_is_part_of_the_message() -> None:
    install_capture(logging.INFO)
    with run() as lines:
        try:
            raise ValueError("wrong")
        except ValueError:
            get_run_logger().exception("it failed")
    (message,) = messages(lines)
    assert message.startswith("it failed\nTraceback")
    assert message.endswith("ValueError: wrong")


def test_a_wrong_format_does_not_stop_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    install_capture(logging.INFO)
    with run() as lines:
        get_run_logger().info("%d", "no number")
        get_run_logger().info("after")
    assert messages(lines) == ["after"]


def test_a_record_that_came_from_a_worker_is_not_captured_again() -> None:
    install_capture(logging.INFO)
    with run() as lines:
        get_run_logger().info("shown here", extra={REPLAYED: True})
    assert lines == []


def test_a_line_needs_nothing_of_the_user_where_it_is_read() -> None:
    class Level(enum.IntEnum):
        LOUD = 35

    class Text(str):
        def __str__(self) -> str:
            return self

    install_capture(logging.INFO)
    with run() as lines:
        get_run_logger().log(Level.LOUD, Text("text"))
    (line,) = lines
    assert type(line.level) is int
    assert type(line.message) is str
    assert pickle.loads(pickle.dumps(tuple(line)))[-1] == "text"


def test_a_huge_message_is_cut_and_says_so() -> None:
    install_capture(logging.INFO)
    with run(log_prints=True) as lines:
        get_run_logger().info("x" * 5_000_000)
        print("y" * 5_000_000)
    for message in messages(lines):
        assert len(message) < 110_000
        assert message.endswith("4900000 characters left out]")


def test_a_value_that_cannot_be_printed_raises_where_it_is_printed() -> None:
    class Unprintable:
        def __str__(self) -> Any:
            raise ValueError("no text")

    install_capture(logging.INFO)
    with run(log_prints=True) as lines, pytest.raises(ValueError, match="no text"):
        print(Unprintable())
    assert lines == []
