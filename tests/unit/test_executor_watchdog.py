"""The watchdog beside a long run: the rest goes back, news goes home, nothing is told twice."""

from __future__ import annotations

import gc
import threading
import weakref
from collections import deque
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from daskflow.runner.cluster.executor import watchdog
from daskflow.runner.cluster.executor.active import ActiveParcel
from daskflow.runner.cluster.protocol import BOUND_PLAIN, ENDED_WELL
from daskflow.runner.context import LogLine, get_run_logger
from tests.unit.parcels import (
    DEADLINE_S,
    FakeChannel,
    executed,
    executing,
    item,
    live_code,
    order_of,
)


def waits_for(event: threading.Event) -> Any:
    def body() -> str:
        assert event.wait(DEADLINE_S)
        return "waited"

    return live_code(body)


SHORT = live_code(lambda: "short")


def parcel_of(count: int, **options: Any) -> tuple[ActiveParcel, FakeChannel]:
    channel = FakeChannel()
    return ActiveParcel(
        order_of(SHORT, [item(n) for n in range(count)], **options), channel
    ), channel


def told(number: int, value: Any = 1) -> Any:
    return (number, ENDED_WELL, 1.0, 0.1, 0.1, None, BOUND_PLAIN, value, None)


def line(message: str) -> LogLine:
    return LogLine(1, 1, 1.0, 20, "logger", message)


def test_the_rest_of_a_parcel_goes_back_while_a_long_run_executes() -> None:
    go_on = threading.Event()
    items = [item(1), item(2, place=1), item(3), item(4)]
    with executing([SHORT, waits_for(go_on)], items, box_s=0.01) as channel:
        channel.wait_until(lambda c: c.handed_back == [3, 4])
        assert channel.numbers == [1]
        channel.wait_until(lambda c: c.running == [2])
        assert not any(report.final for report in channel.reports)
        go_on.set()
    assert channel.numbers == [1, 2]
    assert channel.handed_back == [3, 4]
    assert channel.result(2) == "waited"
    assert [report.final for report in channel.reports].count(True) == 1
    assert channel.reports[-1].final


def test_a_parcel_without_a_time_box_is_not_cut() -> None:
    go_on = threading.Event()
    with executing([waits_for(go_on), SHORT], [item(1), item(2, place=1)]) as channel:
        channel.wait_until(lambda c: c.running == [1])
        go_on.set()
    assert channel.numbers == [1, 2]
    assert channel.handed_back == []


def test_log_lines_go_home_while_their_run_executes() -> None:
    go_on = threading.Event()

    def body() -> None:
        get_run_logger().info("halfway")
        assert go_on.wait(DEADLINE_S)

    with executing(live_code(body), [item(1)]) as channel:
        channel.wait_until(lambda c: c.messages == ["halfway"])
        assert channel.told == []
        go_on.set()
    assert channel.messages == ["halfway"]


def test_outcomes_go_home_while_a_later_run_executes() -> None:
    go_on = threading.Event()
    with executing([SHORT, waits_for(go_on)], [item(1), item(2, place=1)]) as channel:
        channel.wait_until(lambda c: c.numbers == [1])
        go_on.set()
    assert channel.numbers == [1, 2]


def test_several_parcels_of_a_process_are_looked_after() -> None:
    go_on = threading.Event()
    items = [item(1), item(2, place=1)]
    with (
        executing([waits_for(go_on), SHORT], items, box_s=0.01) as one,
        executing([waits_for(go_on), SHORT], items, box_s=0.01) as other,
    ):
        for channel in (one, other):
            channel.wait_until(lambda c: c.handed_back == [2])
        go_on.set()
    assert one.numbers == other.numbers == [1]


def test_a_parcel_whose_way_home_is_broken_does_not_stop_the_watchdog(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parcels = [parcel_of(2, box_s=-1.0) for _ in range(3)]
    for parcel, _ in parcels:
        parcel.start_box()
        parcel.running = (parcel.pending.popleft()[0], parcel.now())
    for _, channel in parcels[:2]:
        channel.broken = OSError("no way home")
    monkeypatch.setattr(watchdog, "_parcels", {parcel for parcel, _ in parcels})
    assert watchdog._look_around()
    assert parcels[2][1].handed_back == [1]
    for _, channel in parcels[:2]:
        channel.broken = None
    assert watchdog._look_around()
    assert [channel.handed_back for _, channel in parcels] == [[1], [1], [1]]


def test_before_its_first_run_a_parcel_is_not_cut() -> None:
    parcel, channel = parcel_of(3, box_s=0.0)
    parcel.start_box()
    watchdog._look_after(parcel, parcel.now() + 1.0)
    assert channel.reports == []
    parcel.running = (parcel.pending.popleft()[0], parcel.now())
    watchdog._look_after(parcel, parcel.now() + 0.05)
    assert channel.handed_back == [1, 2]


def test_a_run_is_noted_once() -> None:
    parcel, channel = parcel_of(2)
    now = parcel.now()
    parcel.running = (0, now)
    parcel.overlapping = {5: now, 6: now + 0.15}
    for later in (0.05, 0.2, 0.2, 0.3, 0.4):
        watchdog._look_after(parcel, now + later)
    assert channel.running == [0, 5, 6]
    assert len(channel.reports) == 2


def test_what_could_not_be_sent_is_told_by_the_next_report() -> None:
    parcel, channel = parcel_of(3)
    parcel.told.extend([told(8), told(9)])
    parcel.sink(line("first"))
    parcel.cut()
    channel.broken = OSError("no way home")
    with pytest.raises(OSError, match="no way home"):
        parcel.report()
    channel.broken = None
    parcel.told.append(told(10))
    parcel.sink(line("second"))
    parcel.report(final=True)
    (report,) = channel.reports
    assert channel.numbers == [8, 9, 10]
    assert channel.messages == ["first", "second"]
    assert report.handed_back == [0, 1, 2]


def test_after_the_final_report_nothing_is_told() -> None:
    parcel, channel = parcel_of(2)
    parcel.report(final=True)
    parcel.sink(line("late"))
    parcel.told.append(told(1))
    parcel.cut()
    parcel.report(running=[(1, 1.0)])
    assert len(channel.reports) == 1
    assert not parcel.sink.lines


def test_a_run_that_ends_while_a_report_is_made_has_its_log_lines_told_no_later() -> None:
    parcel, channel = parcel_of(0)

    class Racing(deque[LogLine]):
        """While it is being emptied, the executor logs a line and notes an outcome."""

        def __len__(self) -> int:
            count = super().__len__()
            if not parcel.told:
                self.append(line("of run 9"))
                parcel.told.append(told(9))
            return count

    parcel.told.append(told(8))
    parcel.sink.lines = Racing([line("of run 8")])
    parcel.report()
    assert channel.numbers == [8]
    parcel.sink.lines = deque(parcel.sink.lines)
    parcel.report(final=True)
    assert channel.numbers == [8, 9]
    assert channel.messages == ["of run 8", "of run 9"]


def test_log_lines_come_no_later_than_their_outcome() -> None:
    parcel, channel = parcel_of(0)
    stop = threading.Event()

    def work() -> None:
        for number in range(3_000):
            parcel.sink(line(str(number)))
            parcel.told.append(told(number))
        stop.set()

    thread = threading.Thread(target=work)
    thread.start()
    while not stop.is_set():
        parcel.report()
    thread.join()
    parcel.report(final=True)
    seen: set[int] = set()
    for report in channel.reports:
        seen.update(int(each.message) for each in report.logs)
        assert all(each[0] in seen for each in report.told)
    assert channel.numbers == list(range(3_000))
    assert channel.messages == [str(number) for number in range(3_000)]


@given(st.integers(0, 300), st.integers(0, 300))
def test_each_run_is_executed_or_handed_back_however_cut_and_turns_fall(
    count: int, cut_after: int
) -> None:
    parcel, channel = parcel_of(count)
    executed_: list[int] = []
    reached = threading.Event()

    def work() -> None:
        for step in range(count + 1):
            if step == cut_after:
                reached.set()
            try:
                executed_.append(parcel.pending.popleft()[0])
            except IndexError:
                break
        reached.set()

    thread = threading.Thread(target=work)
    thread.start()
    assert reached.wait(DEADLINE_S)
    parcel.cut()
    parcel.report()
    thread.join()
    parcel.report(final=True)
    assert executed_ + channel.handed_back == list(range(count))


def test_the_watchdog_holds_no_finished_parcel() -> None:
    class Argument:
        pass

    argument = Argument()
    gone = weakref.ref(argument)
    go_on = threading.Event()

    def body(argument: Argument) -> None:
        assert go_on.wait(DEADLINE_S)

    channel = FakeChannel(live=True)
    thread = threading.Thread(
        target=lambda order: executed(order.codes, order.items, channel=channel),
        args=(order_of(live_code(body), [item(1, argument)]),),
        daemon=True,
    )
    thread.start()
    channel.wait_until(lambda c: c.running == [1])
    go_on.set()
    thread.join(DEADLINE_S)
    del argument
    thread._args = ()  # type: ignore[attr-defined]
    gc.collect()
    assert gone() is None
