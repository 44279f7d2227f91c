"""Flows where an event loop is running already: notebooks, threads, web handlers."""

from __future__ import annotations

import asyncio
import contextvars
import json
import threading

import pytest
from tornado.httpclient import AsyncHTTPClient
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application, RequestHandler

from daskflow import flow, task
from daskflow.errors import UsageError


@task
def double(number):
    return 2 * number


@task
async def triple(number):
    return 3 * number


def test_a_plain_flow_runs_inside_a_running_loop_as_in_a_notebook(cluster):
    @flow(task_runner=cluster)
    def plain(number: int):
        return double.submit(number).result(), triple.submit(number).result()

    async def cell():
        return plain(2)

    assert asyncio.run(cell()) == (4, 6)


def test_async_flows_are_awaited_side_by_side_in_one_loop(cluster):
    @flow(task_runner=cluster)
    async def awaited(number: int):
        return await double.submit(number), await triple(number)

    async def cell():
        return await asyncio.gather(*(awaited(number) for number in range(4)))

    assert asyncio.run(cell()) == [(2 * n, 3 * n) for n in range(4)]


def test_a_flow_runs_in_a_thread_without_a_loop(cluster):
    @flow(task_runner=cluster)
    def plain(number: int):
        return double.submit(number).result()

    results = []
    thread = threading.Thread(target=lambda: results.append(plain(21)))
    thread.start()
    thread.join(60)

    assert results == [42]


def test_a_thread_of_a_flow_submits_with_the_flows_context(cluster):
    @flow(task_runner=cluster)
    def with_a_thread():
        told, futures = [], []

        def without():
            try:
                double.submit(1)
            except UsageError as error:
                told.append(str(error))

        thread = threading.Thread(target=without)
        thread.start()
        thread.join(60)
        context = contextvars.copy_context()
        thread = threading.Thread(
            target=context.run, args=(lambda: futures.append(double.submit(4)),)
        )
        thread.start()
        thread.join(60)
        return told, futures[0].result()

    told, result = with_a_thread()

    assert result == 8
    assert len(told) == 1
    assert "copy_context" in told[0]


def test_web_handlers_await_flows_at_the_same_time(cluster):
    @flow(task_runner=cluster)
    async def answered(number: int):
        return await double.submit(number)

    class Handler(RequestHandler):
        async def get(self, number: str) -> None:
            self.write(json.dumps(await answered(int(number))))

    async def serve() -> list[int]:
        server = HTTPServer(Application([(r"/(\d+)", Handler)]))
        socket, port = bind_unused_port(address="127.0.0.1")
        server.add_socket(socket)
        client = AsyncHTTPClient(force_instance=True)
        try:
            requests = [client.fetch(f"http://127.0.0.1:{port}/{n}") for n in range(5)]
            return [json.loads(response.body) for response in await asyncio.gather(*requests)]
        finally:
            client.close()
            server.stop()
            await server.close_all_connections()

    assert asyncio.run(serve()) == [0, 2, 4, 6, 8]


def test_an_async_flow_that_is_not_awaited_says_so(cluster):
    @flow(task_runner=cluster)
    async def never():
        return 1

    with pytest.warns(RuntimeWarning, match="never awaited"):
        never()
