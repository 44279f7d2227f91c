"""Async tasks overlap in one slot; async flows await their futures and subflows."""

from __future__ import annotations

import asyncio

import pytest

from daskflow import flow, get_run_logger, runtime, task
from daskflow.errors import FlowFailed, UsageError
from tests.gates import Gate

PARALLEL = pytest.mark.parametrize("where", ["processes", "threads", "external"], indirect=True)


@task
async def double(x):
    await asyncio.sleep(0)
    return x * 2


@task
async def refuse(x):
    await asyncio.sleep(0)
    raise ValueError(f"no {x}")


@task
def inc(x):
    return x + 1


def test_async_tasks_take_futures_raise_retry_and_return(where):
    @task(retries=2)
    async def flaky(x, folder):
        await asyncio.sleep(0)
        attempt = runtime.task_run.attempt
        if attempt < 3:
            raise ValueError("not yet")
        return x, attempt, runtime.task_run.name

    @task
    async def large(x):
        await asyncio.sleep(0)
        return b"x" * 100_000

    @flow(task_runner=where)
    def mixed():
        doubled = double.map([inc.submit(0), 2, 3])
        bad = refuse.submit(1)
        with pytest.raises(ValueError, match="no 1"):
            bad.result()
        chain = inc.submit(double.submit(double.submit(1)))
        return (
            doubled.result(),
            flaky.submit(5, None).result(),
            task(len).submit(large.submit(1)).result(),
            chain.result(),
        )

    assert mixed() == ([2, 4, 6], (5, 3, "flaky-0"), 100_000, 5)


@PARALLEL
def test_two_hundred_naps_overlap(where, client):
    @task
    async def nap():
        import time  # travels by value to the external workers

        began = time.time()
        await asyncio.sleep(0.2)
        return began, time.time()

    @flow(task_runner=where)
    def naps():
        return [future.result() for future in [nap.submit() for _ in range(200)]]

    spans = naps()
    moments = sorted([(began, 1) for began, _ in spans] + [(ended, -1) for _, ended in spans])
    now = most = 0
    for _, step in moments:
        now += step
        most = max(most, now)
    assert most >= 50
    assert moments[-1][0] - moments[0][0] < 200 * 0.2 / 4


@PARALLEL
def test_an_async_run_that_waits_leaves_its_slot_to_others(where, tmp_path):
    gate = Gate(tmp_path)

    @task
    async def waits(gate):
        await asyncio.to_thread(gate.wait)
        return "waited"

    @flow(task_runner=where)
    def beside():
        waiting = waits.submit(gate)
        assert inc.map(range(20)).result() == list(range(1, 21))
        assert not waiting.done()
        gate.open()
        return waiting.result()

    assert beside() == "waited"


def test_an_async_flow_awaits_futures_tasks_and_subflows(where):
    @flow
    async def inner(x: int):
        return await double(x)

    @flow
    def plain_inner(x: int):
        return inc.submit(x)

    @flow(task_runner=where)
    async def outer():
        future = inc.submit(1)
        first = await future
        both = await asyncio.gather(inc.submit(1), inc.submit(2))
        big = await task(lambda: b"x" * 100_000).submit()
        with pytest.raises(ValueError, match="no 2"):
            await refuse(2)
        bad = task(lambda: 1 / 0).submit()
        with pytest.raises(ZeroDivisionError):
            await bad
        subflows = await asyncio.gather(inner(1), inner(2))
        state = await inner(3, return_state=True)
        get_run_logger().info("from %s", runtime.flow_run.flow_name)
        return first, both, len(big), subflows, state.result(), plain_inner(4), future

    result = asyncio.run(outer())
    assert result == (2, [2, 3], 100_000, [2, 4], 6, 5, 2)


def test_async_flow_called_from_a_plain_one():
    @flow
    async def inner(x):
        return await double(x)

    @flow(task_runner="sync")
    def outer():
        return asyncio.run(inner(2))

    assert outer() == 4


@PARALLEL
def test_an_async_flow_fails_like_any_other(where):
    @flow(task_runner=where)
    async def careless():
        refuse.submit(1)

    @flow(task_runner=where)
    async def broken():
        raise KeyError("k")

    with pytest.raises(FlowFailed, match="no 1"):
        asyncio.run(careless())
    with pytest.raises(KeyError):
        asyncio.run(broken())
    state = asyncio.run(broken(return_state=True))
    assert (state.name, state.message) == ("Failed", "KeyError: 'k'")


@PARALLEL
def test_a_flow_does_not_block_the_event_loop_while_it_waits(where, tmp_path):
    gate = Gate(tmp_path)

    @task
    def wait_at(gate):
        gate.wait()

    @flow(task_runner=where)
    async def waiting():
        wait_at.submit(gate)  # settled by the end of the flow, off the loop

    async def beside():
        running = asyncio.ensure_future(waiting())
        await asyncio.to_thread(gate.open)
        await running

    asyncio.run(asyncio.wait_for(beside(), 30))


def test_a_cancelled_async_flow_is_cancelled():
    started = asyncio.Event()

    @flow(task_runner="sync")
    async def endless():
        started.set()
        await asyncio.Event().wait()

    states = []

    async def cancel():
        running = asyncio.ensure_future(endless(return_state=True))
        await started.wait()
        running.cancel()
        states.append(await running)

    asyncio.run(cancel())
    assert [(state.name, state.message) for state in states] == [
        ("Cancelled", "cancelled from outside")
    ]


def test_a_cancelled_call_of_a_task_is_not_retried():
    began = []

    @task(retries=3, retry_delay_seconds=60)
    async def endless():
        began.append(1)
        await asyncio.Event().wait()

    @task(retries=3, retry_delay_seconds=60)
    async def between():
        began.append(1)
        raise ValueError

    @flow(task_runner="sync")
    async def impatient(each):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(each(), 0.01)
        return len(began)

    assert asyncio.run(impatient(endless)) == 1
    assert asyncio.run(impatient(between)) == 2


def test_an_async_task_under_sync_cannot_be_submitted_where_a_loop_runs():
    @flow(task_runner="sync")
    async def inside():
        double.submit(1)

    with pytest.raises(UsageError, match="await the task directly, or use another task_runner"):
        asyncio.run(inside())
