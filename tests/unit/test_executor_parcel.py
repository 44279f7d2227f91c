"""A parcel of plain task runs on its worker: each is executed or handed back, and told once."""

from __future__ import annotations

import contextvars
import gc
import os
import pickle
import sys
import time
import weakref
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from daskflow.errors import TaskFailed
from daskflow.runner.cluster.executor import attempt, channel, turns
from daskflow.runner.cluster.executor.active import ActiveParcel
from daskflow.runner.cluster.executor.capture import remove_capture
from daskflow.runner.cluster.executor.channel import live_orders, receivers
from daskflow.runner.cluster.executor.parcel import execute, run_live_parcel
from daskflow.runner.cluster.protocol import (
    BOUND_ERROR,
    BOUND_INPUT,
    BOUND_LOCAL,
    BOUND_PICKLED,
    ENDED_BADLY,
    ENDED_PROCESS,
    ENDED_WELL,
    Report,
)
from daskflow.runner.context import current_task_run, get_run_logger
from tests.unit.parcels import FakeChannel, code_of, executed, item, live_code, order_of


def raising(error: BaseException) -> Callable[..., Any]:
    def body(*args: Any) -> Any:
        raise error

    return body


def test_runs_are_executed_in_turn_and_told_in_that_order() -> None:
    code = code_of(lambda x: (x, x))
    executed(code, [item(0, 0)])  # the first look at the size of a result imports Dask
    channel = executed(code, [item(n, n) for n in (3, 1, 2)])
    assert channel.numbers == [3, 1, 2]
    assert [channel.result(n) for n in (1, 2, 3)] == [(1, 1), (2, 2), (3, 3)]
    (report,) = channel.reports
    assert report.final
    assert report.peak_memory
    assert channel.handed_back == []


def test_times_are_told() -> None:
    before = time.time()
    channel = executed(code_of(lambda: sum(range(200_000))), [item(1), item(2)])
    after = time.time()
    starts = []
    for _, ended, started_at, run_s, cpu_s, *_ in channel.told:
        assert ended == ENDED_WELL
        assert run_s > 0
        assert cpu_s is not None
        assert 0 < cpu_s < run_s + 0.05
        starts.append((started_at, started_at + run_s))
    slack = 0.001
    assert before - slack <= starts[0][0] <= starts[0][1] <= starts[1][0] <= after + slack


@pytest.mark.parametrize(
    ("error", "how"),
    [
        (ValueError("wrong"), ENDED_BADLY),
        (RecursionError("deep"), ENDED_BADLY),
        (GeneratorExit(), ENDED_BADLY),
        (BaseExceptionGroup("several", [KeyboardInterrupt()]), ENDED_BADLY),
        (SystemExit(3), ENDED_PROCESS),
        (KeyboardInterrupt(), ENDED_PROCESS),
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_a_run_raises_the_next_one_is_executed(error: BaseException, how: int) -> None:
    codes = [live_code(raising(error)), code_of(lambda: "fine", "fine")]
    channel = executed(codes, [item(1), item(2, place=1)])
    assert channel.told[0][1] == how
    with pytest.raises(type(error)):
        channel.result(1)
    assert channel.result(2) == "fine"


def test_a_function_that_cannot_be_loaded_fails_each_of_its_runs_alike() -> None:
    codes = [code_of(b"cnot_a_module_at_all\nbody\n.", "broken"), code_of(lambda: 1, "fine")]
    channel = executed(codes, [item(n) for n in range(50)] + [item(99, place=1)])
    assert channel.result(99) == 1
    for number in (0, 49):
        with pytest.raises(ModuleNotFoundError, match="not_a_module_at_all") as caught:
            channel.result(number)
        assert caught.value.__notes__ == [
            "daskflow: the function of task 'broken' could not be loaded on this worker"
        ]
    sizes = [len(told[7]) for told in channel.told[:50]]
    assert max(sizes) - min(sizes) < 100


def test_dependents_ride_along() -> None:
    bindings = [(BOUND_LOCAL, 1)]
    payload = pickle.dumps(((_slot(0), 10), {}))
    channel = executed(
        code_of(lambda x, y: x + y),
        [item(1, 1, 2, kept=True), item(2, bindings=bindings, payload=payload)],
    )
    assert channel.result(2) == 13


class _Slot:
    def __init__(self, slot: int) -> None:
        self.slot = slot

    def __reduce__(self) -> Any:
        from daskflow.runner.cluster.executor.values import bound_value

        return bound_value, (self.slot,)


_slot = _Slot


def test_a_dependent_gets_a_copy_of_its_own_and_a_large_input_as_it_is() -> None:
    codes = [
        code_of(lambda size: list(range(size)), "make"),
        code_of(lambda x: x.append("mine") or len(x), "change"),
    ]
    payload = pickle.dumps(((_slot(0),), {}))
    for size, lengths in ((3, [4, 4]), (50_000, [50_001, 50_002])):
        channel = executed(
            codes,
            [
                item(1, size, kept=True),
                *(item(n, place=1, bindings=[(BOUND_LOCAL, 1)], payload=payload) for n in (2, 3)),
            ],
        )
        assert [channel.result(2), channel.result(3)] == lengths


def test_a_dependent_whose_input_failed_goes_back_unstarted() -> None:
    ran: list[int] = []
    codes = [code_of(raising(ValueError("no")), "raises"), live_code(ran.append)]
    channel = executed(
        codes,
        [item(1, kept=True), item(2, place=1, bindings=[(BOUND_LOCAL, 1)]), item(3, 3, place=1)],
    )
    assert channel.numbers == [1, 3]
    assert channel.handed_back == [2]
    assert ran == [3]


def test_inputs_that_dask_moved_here_are_bound() -> None:
    payload = pickle.dumps(((_slot(0), _slot(1)), {}))
    bindings = [(BOUND_INPUT, 0), (BOUND_PICKLED, pickle.dumps("small"))]
    channel = executed(
        code_of(lambda x, y: (len(x), y)),
        [item(1, bindings=bindings, payload=payload)],
        inputs=["x" * 100],
    )
    assert channel.result(1) == (100, "small")


def test_an_argument_that_cannot_be_loaded_fails_its_run() -> None:
    channel = executed(code_of(lambda x: x), [item(1, payload=b"junk"), item(2, 2)])
    assert channel.told[0][1] == ENDED_BADLY
    assert channel.result(2) == 2


def test_the_time_box_ends_the_parcel_between_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(turns, "perf_counter", lambda: now[0])
    monkeypatch.setattr(ActiveParcel, "now", lambda self: self.epoch + now[0])

    def body(seconds: float) -> int:
        now[0] += seconds
        return 1

    items = [item(n, 0.04) for n in range(6)]
    channel = executed(live_code(body), items, box_s=0.1)
    assert channel.numbers == [0, 1, 2]
    assert channel.handed_back == [3, 4, 5]
    channel = executed(live_code(body), [item(1, 5.0), item(2, 0.0)], box_s=0.1)
    assert (channel.numbers, channel.handed_back) == ([1], [2])
    channel = executed(live_code(body), items)
    assert channel.numbers == list(range(6))


def test_loading_functions_does_not_use_up_the_time_box(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a slow import would hand the parcel back for ever."""
    now = [100.0]
    monkeypatch.setattr(turns, "perf_counter", lambda: now[0])
    monkeypatch.setattr(ActiveParcel, "now", lambda self: self.epoch + now[0])
    monkeypatch.setattr(attempt, "function_of", lambda code: now.__setitem__(0, 200.0) or len)
    channel = executed(code_of(b""), [item(1, "a"), item(2, "bc")], box_s=0.1)
    assert [channel.result(1), channel.result(2)] == [1, 2]


def test_logs_and_prints_belong_to_their_run() -> None:
    def body(n: int) -> None:
        get_run_logger().info("log %d", n)
        print("print", n)

    channel = executed(code_of(body, log_prints=True), [item(1, 1), item(2, 2)])
    lines = [(line.number, line.message) for line in channel.logs]
    assert lines == [(1, "log 1"), (1, "print 1"), (2, "log 2"), (2, "print 2")]


def test_a_run_knows_itself_and_only_while_it_runs() -> None:
    def body() -> Any:
        context = current_task_run.get()
        assert context is not None
        return context.number, context.attempt, context.name

    channel = executed(live_code(body), [item(4), item(5)])
    assert channel.result(5) == (5, 1, "body-5")
    assert current_task_run.get() is None


def test_what_a_run_sets_in_its_context_does_not_reach_the_next_one() -> None:
    variable = contextvars.ContextVar("variable", default="clean")

    def body() -> str:
        before = variable.get()
        variable.set("dirty")
        return before

    channel = executed(live_code(body), [item(1), item(2)])
    assert [channel.result(1), channel.result(2)] == ["clean", "clean"]


def test_live_values_and_errors_are_the_objects_themselves() -> None:
    value, error = [object()], ValueError("mine")
    codes = [live_code(lambda: value), live_code(raising(error))]
    channel = executed(codes, [item(1), item(2, place=1)], channel=FakeChannel(live=True))
    assert channel.result(1) is value
    with pytest.raises(ValueError, match="mine") as caught:
        channel.result(2)
    assert caught.value is error


@pytest.mark.parametrize("fails", [True, False], ids=["raises", "returns"])
def test_nothing_of_a_finished_parcel_stays(fails: bool) -> None:
    """Not even where the user keeps an exception, and with it our frames in its traceback."""

    class Argument:
        pass

    def body(argument: Argument) -> None:
        del argument
        if fails:
            raise ValueError("kept by the user")

    arguments = [Argument(), Argument()]
    gone = [weakref.ref(argument) for argument in arguments]
    channel = FakeChannel(live=True)
    order = order_of(live_code(body), [item(n, arguments[n]) for n in range(2)])
    parcel = ActiveParcel(order, channel)
    del order
    arguments.clear()
    execute(parcel, ())
    del parcel
    remove_capture()
    assert channel.told[0][1] == (ENDED_BADLY if fails else ENDED_WELL)
    gc.collect()
    assert [ref() for ref in gone] == [None, None]


def test_a_parcel_that_cannot_report_is_not_final_and_raises() -> None:
    """The driver then hears of it through its key, and does not send it again for ever."""
    channel = FakeChannel()
    channel.broken = OSError("no way home")
    with pytest.raises(OSError, match="no way home"):
        executed(code_of(lambda: 1), [item(1)], channel=channel)
    assert channel.reports == []


def test_a_defect_of_the_executor_is_no_final_report(monkeypatch: pytest.MonkeyPatch) -> None:
    def defect(*args: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(turns, "tell_result", defect)
    channel = FakeChannel()
    with pytest.raises(MemoryError):
        executed(code_of(lambda x: x), [item(1, 1), item(2, "text"), item(3, 3)], channel=channel)
    (report,) = channel.reports
    assert not report.final
    assert channel.numbers == [1]


def test_a_parcel_in_a_thread_of_the_flow_process() -> None:
    reports: list[Report] = []
    receivers["topic-1"] = reports.append
    live_orders["topic-1", 7] = order_of(live_code(lambda x: x), [item(1, [2])])
    try:
        assert run_live_parcel("topic-1", 7) == 7
    finally:
        del receivers["topic-1"], live_orders["topic-1", 7]
        remove_capture()
    (report,) = reports
    assert report.final
    assert report.pid == os.getpid()
    assert report.told[0][7] == [2]


def test_a_worker_process_sends_reports_as_bytes_that_the_scheduler_need_not_read() -> None:
    events: list[tuple[str, Any]] = []

    class Worker:
        address = "tcp://w"

        def log_event(self, topic: str, message: Any) -> None:
            events.append((topic, message))

    topic = channel.TopicChannel(Worker(), "topic-1", "client")
    execute(ActiveParcel(order_of(code_of(lambda: {1, 2}), [item(1)]), topic), ())
    remove_capture()
    ((name, (parcel_id, blob)),) = events
    assert (name, parcel_id) == ("topic-1", 7)
    assert type(blob) is bytes
    assert Report(*pickle.loads(blob)).final


outcomes = st.sampled_from(["value", "error", "unpicklable", "exit", "large", "nested"])


@given(st.lists(outcomes, max_size=12), st.booleans())
def test_each_run_is_told_exactly_once(script: list[str], live: bool) -> None:
    def body(what: str) -> Any:
        if what == "error":
            raise ValueError(what)
        if what == "exit":
            sys.exit(1)
        return {
            "value": 1,
            "unpicklable": (n for n in ()),
            "large": "x" * 50_000,
            "nested": [[what]],
        }[what]

    channel = executed(
        live_code(body),
        [item(number, what) for number, what in enumerate(script)],
        channel=FakeChannel(live=live),
    )
    assert channel.numbers == list(range(len(script)))
    bad = {"error", "exit"} if live else {"error", "exit", "unpicklable"}
    for what, told in zip(script, channel.told, strict=True):
        assert (told[1] != ENDED_WELL) == (what in bad)
        assert live or (told[6] == BOUND_ERROR) == (what in bad)
    assert [report.final for report in channel.reports].count(True) == 1


def test_an_exception_that_cannot_travel_names_its_run() -> None:
    class Local(Exception):
        def __reduce__(self) -> Any:
            raise ValueError("no")

    channel = executed(live_code(raising(Local("text"))), [item(3)])
    with pytest.raises(TaskFailed, match=r"Local: text \(task run run-3\)|Local: text"):
        channel.result(3)
