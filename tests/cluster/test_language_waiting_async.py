"""Async flows whose event loop goes on, whatever they wait for; flow timeouts in other threads."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import itertools
import logging
import threading
import time

import pytest

from daskflow import as_completed, flow, task, unmapped
from daskflow.runner import driving
from tests.gates import Gate

PARALLEL = pytest.mark.parametrize("where", ["processes", "threads"], indirect=True)


@task
def double(x, behind=None):
    return 2 * x


@task
def pass_gate(gate):
    gate.wait()


@contextlib.asynccontextmanager
async def opened_by_the_loop(gate):
    """Open `gate` from a coroutine: only a loop that goes on can let its task end."""

    async def open_it():
        await asyncio.sleep(0)
        await asyncio.to_thread(gate.open)

    opening = asyncio.create_task(open_it())
    yield
    await opening


@PARALLEL
def test_a_map_with_a_limit_does_not_hold_up_the_loop(where, tmp_path):
    gate = Gate(tmp_path)

    @task
    def first_waits(number):
        if number == 0:
            gate.wait()
        return number

    @flow(task_runner=where)
    async def bounded():
        async with opened_by_the_loop(gate):
            futures = first_waits.map(range(4), max_in_flight=1)
            return [await future for future in futures]

    assert asyncio.run(asyncio.wait_for(bounded(), 20)) == [0, 1, 2, 3]


@PARALLEL
def test_async_for_takes_items_as_there_is_room(where, tmp_path):
    gate = Gate(tmp_path)
    taken = []

    def numbers():
        for number in itertools.count():
            taken.append(number)
            yield number

    @flow(task_runner=where)
    async def endless():
        blocker = pass_gate.submit(gate)
        most = 0
        async with opened_by_the_loop(gate):
            futures = []
            async for future in double.map(numbers(), unmapped(blocker), max_in_flight=5):
                futures.append(future)
                most = max(most, sum(not each.done() for each in futures))
                if len(futures) == 20:
                    break
            results = [await future for future in futures]
        return results, most

    results, most = asyncio.run(asyncio.wait_for(endless(), 20))
    assert results == [2 * x for x in range(20)]
    assert most <= 5
    assert len(taken) <= 26


def test_async_for_ends_with_its_items(where):
    @flow(task_runner=where)
    async def all_of_them():
        return [future.result() async for future in double.map(iter(range(3)), max_in_flight=2)]

    assert asyncio.run(all_of_them()) == [0, 2, 4]


def test_submit_in_a_loop_warns_once_instead_of_waiting(monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(driving, "PENDING_RUNS", 10)
    gate = Gate(tmp_path)

    @flow(task_runner="threads")
    async def eager():
        blocker = pass_gate.submit(gate)
        async with opened_by_the_loop(gate):
            futures = [double.submit(x, blocker) for x in range(40)]
            return [await future for future in futures]

    with caplog.at_level(logging.WARNING):
        assert asyncio.run(asyncio.wait_for(eager(), 20)) == [2 * x for x in range(40)]
    told = [record.message for record in caplog.records if "async for" in record.message]
    assert len(told) == 1


@pytest.mark.parametrize("lazy", [False, True])
def test_as_completed_in_another_thread_ends_with_the_flows_time(lazy, tmp_path):
    gate = Gate(tmp_path)
    caught = []

    @flow(task_runner="threads", timeout_seconds=0.3)
    def limited():
        gates = [gate]
        for _ in as_completed(pass_gate.map(iter(gates) if lazy else gates)):
            pass

    def elsewhere():
        began = time.monotonic()
        try:
            limited()
        except TimeoutError as error:
            caught.append((error, time.monotonic() - began))

    thread = threading.Thread(target=contextvars.copy_context().run, args=(elsewhere,))
    thread.start()
    thread.join(5)
    late = thread.is_alive()
    gate.open()
    thread.join()
    assert not late
    assert "timeout_seconds=0.3" in str(caught[0][0])
