"""`persist_result` on a storage that hangs, is slow or is gone: Failed, in time, and says where.

The server is one of the test's own; botocore tries again as often as it does by default.
"""

from __future__ import annotations

import os
import time

import pytest

from daskflow import flow, task
from daskflow.results.breaker import forget_failures

pytestmark = pytest.mark.chaos
LIMIT_S = 1.0
LONG_S = 20.0  # past the limit, for a busy machine; botocore itself would wait for minutes


@pytest.fixture
def stores(s3_of_its_own, told):
    """A flow that stores a result, lets a fault happen, and stores another one."""
    url = f"s3://{s3_of_its_own.new_bucket()}/results"

    @task(persist_result=True)
    def blob(size):
        told(f"blob{size}")
        return os.urandom(size)

    def end(future):
        future.wait()
        error = future.result(raise_on_failure=False)
        return future.state.name, error if future.state.is_failed() else len(error)

    @flow(task_runner="threads", result_storage=url)
    def stores(fault=lambda: None):
        first = end(blob.submit(10))
        fault()
        began = time.monotonic()
        return first, end(blob.submit(200_000)), time.monotonic() - began

    stores.url = url
    return stores


@pytest.mark.parametrize("fault", ["stopped", "slow", "gone"])
def test_a_server_without_an_answer_fails_runs_in_time(
    s3_of_its_own, stores, told, limit, figure, fault
):
    def happens():
        limit(LIMIT_S)
        forget_failures()
        if fault == "stopped":
            s3_of_its_own.stop()
        elif fault == "slow":
            s3_of_its_own.answer_after(60.0)
        else:
            s3_of_its_own.close()

    limit(LIMIT_S)
    first, (state, error), took = stores(happens)
    figure(f"{took:.2f} s of {LIMIT_S} s: {error}")
    assert (first, state) == (("Completed", 10), "Failed")
    assert f"the result of task 'blob' cannot be stored: cannot write '{stores.url}/" in str(error)
    assert "no answer" in str(error)
    assert took < LONG_S
    assert told.take() == ["blob10", "blob200000"]
    if fault == "stopped":
        limit(30.0)
        s3_of_its_own.go_on()
        forget_failures()  # as another process, or this one after the minute of its pause
        (found, made), again = zip(*stores()[:2], strict=True)
        assert (found, made, again) == ("Cached", "Completed", (10, 200_000))
        assert told.take() == ["blob200000"]


def test_a_slow_server_is_waited_for(s3_of_its_own, stores, told):
    first, second, _ = stores(lambda: s3_of_its_own.answer_after(0.05))
    assert (first, second) == (("Completed", 10), ("Completed", 200_000))
    assert [each[0] for each in stores()[:2]] == ["Cached", "Cached"]
    assert told.take() == ["blob10", "blob200000"]
