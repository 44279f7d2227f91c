"""Runs that take too long are told as timed out, once, whatever their bodies do later."""

from __future__ import annotations

import asyncio
import signal
import threading
from typing import Any

import pytest

from daskflow.errors import TaskTimedOut
from daskflow.runner.alarms import call_within
from daskflow.runner.cluster.executor.timeouts import RanOut
from daskflow.runner.cluster.protocol import BOUND_LOCAL, ENDED_TIMED_OUT, ENDED_WELL
from tests.unit.parcels import DEADLINE_S, executed, executing, item, live_code

SHORT = live_code(lambda: "short")


def limited(body: Any, limit_s: float = 0.05, *, is_async: bool = False) -> Any:
    return live_code(body, is_async=is_async)._replace(timeout_s=limit_s)


def endings(channel: Any) -> dict[int, int]:
    return {told[0]: told[1] for told in channel.told}


def test_a_hanging_run_is_told_and_the_rest_goes_back_while_it_hangs() -> None:
    go_on = threading.Event()

    def hangs() -> str:
        assert go_on.wait(DEADLINE_S)
        return "too late"

    items = [item(1), item(2, place=1), item(3), item(4)]
    with executing([SHORT, limited(hangs)], items) as channel:
        channel.wait_until(lambda c: c.numbers == [1, 2])
        assert channel.handed_back == [3, 4]
        assert not any(report.final for report in channel.reports)
        with pytest.raises(TaskTimedOut, match=r"'body' ran longer than timeout_seconds=0.05"):
            channel.result(2)
        go_on.set()
    assert endings(channel) == {1: ENDED_WELL, 2: ENDED_TIMED_OUT}
    assert len(channel.told) == 2
    assert channel.reports[-1].final


def test_the_error_says_which_line_was_being_executed() -> None:
    go_on = threading.Event()

    def hangs() -> None:
        go_on.wait(DEADLINE_S)  # this line

    with executing(limited(hangs), [item(1)]) as channel:
        channel.wait_until(lambda c: c.numbers == [1])
        with pytest.raises(TaskTimedOut) as caught:
            channel.result(1)
        go_on.set()
    assert "go_on.wait(DEADLINE_S)  # this line" in "".join(caught.value.__notes__)
    assert "/cluster/executor/" not in "".join(caught.value.__notes__)


def test_what_a_late_body_raises_is_dropped() -> None:
    go_on = threading.Event()

    def hangs() -> None:
        assert go_on.wait(DEADLINE_S)
        raise ValueError("too late")

    with executing([limited(hangs), SHORT], [item(1), item(2, place=1)]) as channel:
        channel.wait_until(lambda c: c.handed_back == [2])
        go_on.set()
    assert endings(channel) == {1: ENDED_TIMED_OUT}


def test_runs_within_their_limit_are_told_as_ever() -> None:
    def fails() -> None:
        raise ValueError("own")

    codes = [limited(lambda: 5, 60.0), limited(fails, 60.0)]
    channel = executed(codes, [item(1), item(2, place=1), item(3)])
    assert channel.result(1) == channel.result(3) == 5
    with pytest.raises(ValueError, match="own"):
        channel.result(2)


def test_an_async_run_is_cancelled_and_its_neighbours_complete() -> None:
    seen = []

    async def hangs(x: int) -> int:
        if x == 2:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise
        return x

    code = limited(hangs, is_async=True)
    channel = executed(code, [item(n, n) for n in (1, 2, 3)])
    assert endings(channel) == {1: ENDED_WELL, 2: ENDED_TIMED_OUT, 3: ENDED_WELL}
    assert seen == ["cancelled"]


def test_an_async_run_that_catches_its_cancellation_has_timed_out_all_the_same() -> None:
    async def stubborn() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "I did it anyway"
        return "never"

    channel = executed(limited(stubborn, is_async=True), [item(1)])
    assert endings(channel) == {1: ENDED_TIMED_OUT}


def test_an_async_run_that_goes_on_after_its_cancellation_is_given_up() -> None:
    go_on = asyncio.Event()
    loops = []

    async def stubborn() -> str:
        loops.append(asyncio.get_running_loop())
        while not go_on.is_set():
            try:
                await go_on.wait()
            except asyncio.CancelledError:
                continue
        return "too late"

    async def takes(value: str) -> str:
        return value

    codes = [limited(stubborn, is_async=True), live_code(takes, is_async=True)]
    items = [item(1, kept=True), item(2, "x", place=1, bindings=[(BOUND_LOCAL, 1)])]
    with executing(codes, items) as channel:
        channel.wait_until(lambda c: c.numbers == [1] and c.handed_back == [2])
        loops[0].call_soon_threadsafe(go_on.set)
    assert endings(channel) == {1: ENDED_TIMED_OUT}


# ---- in this process


def test_the_main_thread_is_interrupted_and_its_alarm_is_left_as_it_was() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(RanOut) as caught:
        call_within(0.05, "me", lambda: threading.Event().wait(DEADLINE_S))
    assert caught.value.owner == "me"
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


@pytest.mark.parametrize(("outer_s", "inner_s"), [(0.05, 9.0), (9.0, 0.05)], ids=["outer", "inner"])
def test_of_two_limits_the_nearer_one_interrupts(outer_s: float, inner_s: float) -> None:
    def inside() -> None:
        call_within(inner_s, "inner", lambda: threading.Event().wait(DEADLINE_S))

    with pytest.raises(RanOut) as caught:
        call_within(outer_s, "outer", inside)
    assert caught.value.owner == ("outer" if outer_s < inner_s else "inner")


def test_the_limit_around_an_inner_one_still_counts_after_it() -> None:
    def inside() -> None:
        assert call_within(0.2, "inner", lambda: 1) == 1
        threading.Event().wait(DEADLINE_S)

    with pytest.raises(RanOut) as caught:
        call_within(0.3, "outer", inside)
    assert caught.value.owner == "outer"


def test_another_thread_runs_to_its_end_and_was_late_then() -> None:
    outcomes = []

    def in_thread() -> None:
        try:
            call_within(0.01, "me", lambda: outcomes.append(threading.Event().wait(0.05)))
        except RanOut as late:
            outcomes.append(late.owner)

    thread = threading.Thread(target=in_thread)
    thread.start()
    thread.join(DEADLINE_S)
    assert outcomes == [False, "me"]
