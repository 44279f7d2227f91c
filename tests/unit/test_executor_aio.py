"""Async task runs of a parcel overlap on one loop, and nothing that they do reaches the others."""

from __future__ import annotations

import asyncio
import logging
import pickle
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from daskflow.runner.cluster.executor import aio, attempt
from daskflow.runner.cluster.protocol import (
    BOUND_LOCAL,
    ENDED_BADLY,
    ENDED_PROCESS,
    ENDED_WELL,
    INLINE_LIMIT,
)
from daskflow.runner.context import current_task_run, get_run_logger
from tests.unit.parcels import DEADLINE_S, FakeChannel, executed, item, live_code


def coded(body: Callable[..., Any]) -> Any:
    return live_code(body, is_async=True)


async def fine() -> str:
    await asyncio.sleep(0)
    return "fine"


def test_runs_overlap_and_the_slot_is_given_back() -> None:
    meeting: list[int] = []
    all_here = asyncio.Event()

    async def body(number: int) -> int:
        meeting.append(number)
        if len(meeting) == 50:
            all_here.set()
        await all_here.wait()
        return number

    channel = executed(coded(body), [item(n, n) for n in range(50)])
    assert sorted(channel.numbers) == list(range(50))
    assert channel.result(49) == 49
    assert channel.seceded.is_set()
    assert [report.final for report in channel.reports].count(True) == 1


def test_each_run_knows_itself() -> None:
    async def body() -> Any:
        before = current_task_run.get()
        await asyncio.sleep(0)
        get_run_logger().warning("here")
        after = current_task_run.get()
        inner = await asyncio.to_thread(lambda: current_task_run.get())
        assert before is after is inner
        assert before is not None
        return before.number

    channel = executed(coded(body), [item(n) for n in range(5)])
    assert [channel.result(n) for n in range(5)] == list(range(5))
    assert sorted(line.number for line in channel.logs if line.number is not None) == list(range(5))


async def exits() -> None:
    sys.exit(3)


async def exits_inside() -> None:
    await asyncio.gather(asyncio.create_task(exits()))


async def interrupts() -> None:
    raise KeyboardInterrupt


async def cancels_itself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(DEADLINE_S)


async def awaits_cancelled() -> None:
    inner = asyncio.ensure_future(asyncio.sleep(DEADLINE_S))
    inner.cancel()
    await inner


async def raises() -> None:
    raise ValueError("wrong")


async def stops_the_loop() -> None:
    asyncio.get_running_loop().stop()


@pytest.mark.parametrize(
    ("body", "ended"),
    [
        (exits, ENDED_PROCESS),
        (exits_inside, ENDED_PROCESS),
        (interrupts, ENDED_PROCESS),
        (cancels_itself, ENDED_BADLY),
        (awaits_cancelled, ENDED_BADLY),
        (raises, ENDED_BADLY),
        (stops_the_loop, ENDED_WELL),
    ],
)
def test_how_a_run_ends_is_its_own_affair(body: Any, ended: int) -> None:
    logging.getLogger("asyncio").disabled = True  # it is told of what nobody awaited, and may be
    try:
        items = [item(1), *(item(n, place=1) for n in range(2, 10))]
        channel = executed([coded(body), coded(fine)], items)
    finally:
        logging.getLogger("asyncio").disabled = False
    assert sorted(channel.numbers) == list(range(1, 10))
    assert {told[0]: told[1] for told in channel.told}[1] == ended
    assert [channel.result(n) for n in range(2, 10)] == ["fine"] * 8
    assert executed(coded(fine), [item(1)]).result(1) == "fine"


def test_a_run_that_cancels_everything_on_the_loop_loses_no_outcome() -> None:
    async def cancels_all() -> None:
        for task in asyncio.all_tasks():
            task.cancel()
        await asyncio.sleep(DEADLINE_S)

    async def patient() -> None:
        await asyncio.sleep(DEADLINE_S)

    codes = [coded(patient), coded(cancels_all)]
    channel = executed(codes, [item(1), item(2, place=1), item(3)])
    assert sorted(channel.numbers) == [1, 2, 3]
    for number in (1, 2, 3):
        with pytest.raises(asyncio.CancelledError):
            channel.result(number)


def test_a_run_cancelled_on_its_last_step_still_tells_a_large_result() -> None:
    async def body() -> list[int]:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        return list(range(INLINE_LIMIT))

    channel = executed(coded(body), [item(1)])
    assert len(channel.result(1)) == INLINE_LIMIT


def test_dependents_wait_for_their_inputs_and_ride_along() -> None:
    async def number(n: int) -> int:
        await asyncio.sleep(0)
        return n

    async def add(a: int, b: int) -> int:
        return a + b

    bindings = [(BOUND_LOCAL, 1), (BOUND_LOCAL, 2)]
    payload = pickle.dumps(((_Ref(0), _Ref(1)), {}))
    items = [
        item(1, 3, kept=True),
        item(2, 4, kept=True),
        item(3, place=1, bindings=bindings, payload=payload),
    ]
    assert executed([coded(number), coded(add)], items).result(3) == 7


class _Ref:
    def __init__(self, slot: int) -> None:
        self.slot = slot

    def __reduce__(self) -> Any:
        from daskflow.runner.cluster.executor.values import bound_value

        return bound_value, (self.slot,)


@pytest.mark.parametrize("body", [raises, exits, cancels_itself])
def test_dependents_of_a_run_that_ended_badly_go_back(body: Any) -> None:
    bindings = [(BOUND_LOCAL, 1)]
    items = [item(1, kept=True), *(item(n, place=1, bindings=bindings) for n in range(2, 40))]
    channel = executed([coded(body), coded(fine)], items)
    assert channel.numbers == [1]
    assert sorted(channel.handed_back) == list(range(2, 40))
    assert len(channel.reports) <= 3


def test_large_results_stay_here_and_small_ones_are_told_in_bounded_messages() -> None:
    async def body(size: int) -> list[str]:
        return ["x" * size]

    channel = executed(coded(body), [item(1, 100_000), *(item(n, 30_000) for n in range(2, 32))])
    assert len(channel.result(1)[0]) == 100_000
    assert len(channel.values) == 1
    assert max(len(report.told) for report in channel.reports) <= (
        attempt.REPORT_BYTES // 30_000 + 2
    )


def test_a_result_that_cannot_be_pickled_fails_its_run() -> None:
    async def body() -> Any:
        return threading.Lock()

    with pytest.raises(TypeError, match="cannot pickle"):
        executed(coded(body), [item(1)]).result(1)


def test_a_function_that_is_not_async_after_all_fails_its_run() -> None:
    channel = executed([coded(lambda: 1), coded(fine)], [item(1), item(2, place=1)])
    with pytest.raises(TypeError, match="await"):
        channel.result(1)
    assert channel.result(2) == "fine"


def test_a_slot_that_cannot_be_given_back_changes_nothing() -> None:
    channel = FakeChannel()
    channel.no_secede = ValueError("no worker")
    assert executed(coded(fine), [item(1)], channel=channel).result(1) == "fine"


def test_runs_that_last_are_reported_while_they_execute() -> None:
    channel = FakeChannel()
    go_on = threading.Event()

    async def body() -> None:
        await asyncio.to_thread(go_on.wait, DEADLINE_S)

    thread = threading.Thread(
        target=executed, args=(coded(body), [item(1), item(2)]), kwargs={"channel": channel}
    )
    thread.start()
    channel.wait_until(lambda c: sorted(c.running) == [1, 2])
    go_on.set()
    thread.join(DEADLINE_S)
    assert sorted(channel.numbers) == [1, 2]


def test_one_loop_serves_the_process() -> None:
    loop = aio.event_loop()
    executed(coded(exits), [item(1)])
    assert aio.event_loop() is loop
    assert loop.is_running()
