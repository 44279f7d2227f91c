"""What travels to workers and back: snapshots, once where it is large, or an error at the call."""

from __future__ import annotations

import threading

import pytest

from daskflow import flow, task, unmapped
from daskflow.errors import UsageError

ELSEWHERE = pytest.mark.parametrize("where", ["processes", "external"], indirect=True)


@task
def echo(*args, **kwargs):
    return args[0] if args and not kwargs else (args, kwargs)


@ELSEWHERE
def test_a_list_changed_after_submit_does_not_change_the_input(where):
    @flow(task_runner=where)
    def changing():
        numbers = [1, 2]
        futures = [echo.submit(numbers)]
        numbers.append(3)
        futures.append(echo.submit(numbers))
        return [future.result() for future in futures]

    assert changing() == [[1, 2], [1, 2, 3]]


@pytest.mark.parametrize(
    ("args", "kwargs", "named"),
    [
        pytest.param((1, threading.Lock()), {}, "argument 1 of echo", id="positional"),
        pytest.param((1,), {"key": [threading.Lock()]}, "argument 'key' of echo", id="nested"),
        pytest.param(((n for n in "ab"),), {}, "argument 0 of echo", id="generator"),
    ],
)
def test_an_argument_that_cannot_be_pickled_fails_at_submit(cluster, args, kwargs, named):
    @flow(task_runner=cluster)
    def lock():
        echo.submit(*args, **kwargs)

    with pytest.raises(UsageError, match=rf"{named} cannot be sent to a worker") as caught:
        lock()
    assert 'task_runner="threads"' in str(caught.value)


@pytest.mark.parametrize("where", ["threads", "sync"], indirect=True)
def test_what_cannot_be_pickled_is_no_matter_in_one_process(where):
    lock = threading.Lock()

    @task
    def use(given):
        with lock, given:
            return given

    @flow(task_runner=where)
    def locks():
        other = threading.Lock()
        return use.submit(other).result() is other

    assert locks()


def test_a_closure_that_captures_a_lock_is_named(cluster):
    lock = threading.Lock()

    @task
    def use():
        with lock:
            return 1

    @flow(task_runner=cluster)
    def locks():
        use.submit()

    with pytest.raises(UsageError, match="task 'use' uses 'lock', and a lock does not pickle"):
        locks()


def test_a_constant_that_cannot_be_pickled_fails_at_map(cluster):
    @flow(task_runner=cluster)
    def lock():
        echo.map([1], key=unmapped(threading.Lock()))

    with pytest.raises(UsageError, match=r"every run of echo\.map\(\) should get, a lock, cannot"):
        lock()


class Counted:
    """Large, and counts how often it is pickled."""

    pickled = 0

    def __init__(self, data=None):
        self.data = data

    def __reduce__(self):
        type(self).pickled += 1
        return Counted, (b"x" * 200_000,)


@task
def size(counted, item=None):
    return len(counted.data)


@ELSEWHERE
def test_a_large_constant_of_a_map_is_pickled_and_sent_once(where, client):
    Counted.pickled = 0
    sent = []

    @flow(task_runner=where)
    def large():
        futures = size.map(unmapped(Counted()), range(30))
        sent.append(Counted.pickled)
        return futures.result()

    assert large() == [200_000] * 30
    assert sent == [1]


@ELSEWHERE
def test_arrays_and_dataframes_are_constants_and_results_like_any_other(where):
    import numpy as np  # heavy: only here
    import pandas as pd

    frame = pd.DataFrame({"x": range(20_000), "text": "abc"})

    @task
    def total(data, times):
        return int(data["x"].sum()) * times

    @task
    def double(data):
        return data.assign(x=data["x"] * 2)

    @task
    def ones(n):
        return np.ones(n)

    @task
    def negative(array):
        return -array

    @flow(task_runner=where)
    def arrays():
        made = ones.submit(700_000)  # 5.6 MB
        return negative.submit(made), task(np.sum).submit(made)

    array, summed = arrays()
    assert (array.sum(), array.shape, summed) == (-700_000, (700_000,), 700_000)

    @flow(task_runner=where)
    def frames():
        totals = total.map(unmapped(frame), [1, 2])
        doubled = double.submit(double.submit(frame))
        return totals.result(), total.submit(doubled, 1).result(), doubled

    totals, four_times, doubled = frames()
    assert totals == [199_990_000, 399_980_000]
    assert four_times == 4 * 199_990_000
    assert doubled["x"].iloc[-1] == 4 * 19_999
