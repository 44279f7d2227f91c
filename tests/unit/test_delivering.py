"""Answers reach each worker in order, whatever becomes of the others."""

from __future__ import annotations

import asyncio
import pickle
from collections import defaultdict
from types import SimpleNamespace

import pytest

from daskflow.runner.cluster import delivering
from daskflow.runner.cluster.answers import Answer
from daskflow.runner.cluster.delivering import Deliverer
from daskflow.runner.cluster.loop import LoopThread
from tests.foreign import eventually


def answer(token):
    return Answer(token, "", token, "Completed", None, None, None)


class Workers:
    """What a client reaches: workers that are frozen, cut off, or take what comes."""

    def __init__(self):
        self.frozen, self.unreachable, self.broken = set(), set(), set()
        self.thawed = asyncio.Event()
        self.got = defaultdict(list)
        self.tried = 0

    async def run(self, call, blob, workers):
        self.tried += 1
        (worker,) = workers
        if worker in self.frozen:
            await self.thawed.wait()
        if worker in self.unreachable:
            raise OSError(f"timed out trying to connect to {worker}")
        self.got[worker] += [each.token for each in pickle.loads(blob)]
        if worker in self.broken:
            raise ValueError("raised over there")


@pytest.fixture
def workers():
    return Workers()


@pytest.fixture
def deliverer(workers, monkeypatch):
    monkeypatch.setattr(delivering, "_AGAIN_S", 0.001)
    thread = LoopThread()
    deliverer = Deliverer(SimpleNamespace(client=workers, loop=thread.loop))
    yield deliverer
    deliverer.close()
    thread.stop()


def test_a_frozen_worker_holds_up_no_other_and_gets_its_answers_when_it_is_back(workers, deliverer):
    workers.frozen.add("a")
    for token in "123":
        deliverer.send("a", [answer(token)])
    deliverer.send("b", [answer("4")])
    eventually(lambda: workers.got["b"] == ["4"])
    assert workers.got["a"] == []
    workers.frozen.clear()
    deliverer._loop.add_callback(workers.thawed.set)
    eventually(lambda: workers.got["a"] == ["1", "2", "3"])


def test_what_could_not_be_delivered_is_sent_again(workers, deliverer):
    workers.unreachable.add("a")
    deliverer.send("a", [answer("1")])
    eventually(lambda: workers.tried >= 3)
    workers.unreachable.clear()
    eventually(lambda: workers.got["a"] == ["1"])


def test_nothing_is_sent_to_a_worker_that_has_gone_until_one_comes_there(workers, deliverer):
    workers.unreachable.add("a")
    deliverer.send("a", [answer("1")])
    eventually(lambda: workers.tried)
    deliverer.worker("a", came=False)
    deliverer.send("a", [answer("2")])
    deliverer._loop.add_callback(workers.unreachable.clear)  # after the loop knows that it is gone
    deliverer.worker("a", came=True)
    deliverer.send("a", [answer("3")])
    eventually(lambda: workers.got["a"])
    assert workers.got["a"] == ["3"]


def test_what_raises_on_the_worker_has_arrived(workers, deliverer, caplog):
    workers.broken.add("a")
    deliverer.send("a", [answer("1")])
    deliverer.send("a", [answer("2")])
    eventually(lambda: workers.got["a"] == ["1", "2"])
    eventually(lambda: "could not be taken there" in caplog.text)
