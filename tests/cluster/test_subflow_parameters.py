"""Futures as parameters of subflows: they arrive as results, and are validated as such."""

from __future__ import annotations

import asyncio

import pytest

from daskflow import flow, task
from daskflow.errors import ParameterError


@task
def double(number):
    return 2 * number


@flow
def total(numbers: list[int], factor: int = 1) -> int:
    return factor * sum(numbers)


@flow
async def total_later(numbers: list[int], factor: int = 1) -> int:
    return factor * sum(numbers)


def test_futures_in_a_subflows_parameters_become_results(cluster):
    @flow(task_runner=cluster)
    def parent():
        return total([double.submit(1), 3, double.submit(2)], factor=double.submit(5))

    assert parent() == 90


def test_an_async_subflow_waits_beside_the_loop(cluster):
    @flow(task_runner=cluster)
    async def parent():
        ticks = 0

        async def ticking():
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        ticker = asyncio.create_task(ticking())
        result = await total_later([double.submit(1), 3])
        ticker.cancel()
        return result, ticks > 1

    assert asyncio.run(parent()) == (5, True)


def test_results_are_validated_as_parameters_are(cluster):
    @flow(task_runner=cluster)
    def parent():
        return total([double.submit("a")])

    with pytest.raises(ParameterError, match=r"numbers\.0.*'aa'"):
        parent()
