"""A flow that submits faster than its cluster works waits in `submit`."""

from __future__ import annotations

import contextvars
import os
import signal
import threading

import pytest

from daskflow import flow, task
from daskflow.runner import driving
from tests.foreign import eventually
from tests.gates import Gate

PARALLEL = pytest.mark.parametrize("where", ["processes", "threads", "external"], indirect=True)


@pytest.fixture
def limit(monkeypatch):
    """So many runs may be pending."""
    monkeypatch.setattr(driving, "PENDING_RUNS", 20)
    return 20


@task
def echo(x, behind=None):
    return x


@task
def pass_gate(gate):
    gate.wait()


@PARALLEL
def test_submit_waits_once_so_many_runs_are_pending(where, limit, tmp_path):
    gate = Gate(tmp_path)
    futures = []
    seen = []

    def opens():
        eventually(lambda: len(futures) >= limit - 1)
        seen.append(len(futures))
        gate.open()

    @flow(task_runner=where)
    def eager():
        opener = threading.Thread(target=opens)
        opener.start()
        blocker = pass_gate.submit(gate)
        for x in range(3 * limit):
            futures.append(echo.submit(x, blocker))
            assert sum(not future.done() for future in futures) <= limit + 1
        opener.join()
        return [future.result() for future in futures]

    assert eager() == list(range(3 * limit))
    assert seen == [limit - 1]


def test_a_done_callback_may_submit_however_many_are_pending(limit, tmp_path):
    first, second = Gate(tmp_path, "first"), Gate(tmp_path, "second")
    more = []
    called = threading.Event()

    @flow(task_runner="threads")
    def calls_back():
        blocker, other = pass_gate.submit(first), pass_gate.submit(second)
        context = contextvars.copy_context()  # the driver's thread is in no flow

        def submits(_):
            more.extend(context.run(echo.submit, x) for x in range(5))
            called.set()

        other.add_done_callback(submits)
        for x in range(limit - 2):
            echo.submit(x, blocker)
        second.open()
        told = called.wait(10)
        first.open()
        return told, [future.result() for future in more]

    assert calls_back() == (True, [0, 1, 2, 3, 4])


def test_an_interrupt_gets_through_to_a_waiting_submit(limit, tmp_path):
    started, gate = Gate(tmp_path, "started"), Gate(tmp_path)
    futures = []

    @task
    def blocks():
        started.wait()
        gate.wait()

    def interrupts():
        started.open()
        eventually(lambda: len(futures) >= limit - 1)
        os.kill(os.getpid(), signal.SIGINT)

    @flow(task_runner="threads")
    def interrupted():
        blocker = blocks.submit()
        threading.Thread(target=interrupts).start()
        try:
            futures.extend(echo.submit(x, blocker) for x in range(3 * limit))
        finally:
            threading.Thread(target=gate.open).start()

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(futures) == limit - 1


@PARALLEL
def test_a_task_that_submits_very_much_does_not_wait_for_its_own_slot(where, limit):
    @task
    def parent():
        return sum(future.result() for future in [echo.submit(x) for x in range(3 * limit)])

    @flow(task_runner=where)
    def nested():
        return parent.submit().result(timeout=60)

    assert nested() == sum(range(3 * limit))
