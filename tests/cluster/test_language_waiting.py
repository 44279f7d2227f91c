"""Futures: waiting for one or several, in which order they come, what they tell."""

from __future__ import annotations

import threading

import pytest

from daskflow import as_completed, flow, task, wait
from daskflow.errors import FlowFailed, UsageError
from tests.gates import Gate

PARALLEL = pytest.mark.parametrize("where", ["processes", "threads", "external"], indirect=True)


@task
def echo(x):
    return x


@task
def odd(x):
    if x % 2 == 0:
        raise ValueError(f"{x} is even")
    return x


@task
def pass_gate(gate, value):
    gate.wait()
    return value


def test_a_list_of_futures_tells_what_went_well(where):
    @flow(task_runner=where)
    def lists():
        futures = odd.map(range(5))
        with pytest.raises(ValueError, match="0 is even"):
            futures.result()
        return (
            [f.result() for f in futures.ok],
            [str(f.result(raise_on_failure=False)) for f in futures.failed],
            [str(x) for x in futures.result(raise_on_failure=False)],
            [f.state.name for f in futures],
            [f.name for f in futures],
        )

    ok, failed, both, states, names = lists()
    assert ok == [1, 3]
    assert failed == ["0 is even", "2 is even", "4 is even"]
    assert both == ["0 is even", "1", "2 is even", "3", "4 is even"]
    assert states == ["Failed", "Completed", "Failed", "Completed", "Failed"]
    assert names == ["odd-0", "odd-1", "odd-2", "odd-3", "odd-4"]


@PARALLEL
def test_as_completed_yields_what_is_done_while_another_runs(where, tmp_path):
    gate = Gate(tmp_path)

    @flow(task_runner=where)
    def streaming():
        slow, quick = pass_gate.submit(gate, "slow"), echo.submit("quick")
        seen = []
        for future in as_completed([slow, quick]):
            seen.append(future.result())
            if future is quick:
                assert not slow.done()
                gate.open()
        return seen

    assert streaming() == ["quick", "slow"]


def test_as_completed_gives_each_future_once(where):
    @flow(task_runner=where)
    def all_of_them():
        futures = odd.map(range(6))
        seen = list(as_completed(iter(futures)))
        again = list(as_completed(futures))
        return len(seen), set(seen) == set(futures) == set(again), [f.state for f in seen]

    count, same, _ = all_of_them()
    assert count == 6
    assert same


@PARALLEL
def test_waiting_has_a_deadline_and_the_run_goes_on(where, tmp_path):
    gate = Gate(tmp_path)

    @flow(task_runner=where)
    def deadlines():
        slow, quick = pass_gate.submit(gate, "slow"), echo.submit("quick")
        quick.wait()
        with pytest.raises(TimeoutError, match=r"pass_gate-0 is \w+ after 0.01 s"):
            slow.result(timeout=0.01)
        with pytest.raises(TimeoutError):
            slow.result(timeout=0)
        slow.wait(timeout=0.01)
        assert not slow.done()
        done, not_done = wait([slow, quick], timeout=0.01)
        assert (done, not_done) == ({quick}, {slow})
        with pytest.raises(TimeoutError, match="1 of 2 futures are not done after 0 s"):
            list(as_completed([slow, quick], timeout=0))
        gate.open()
        done, not_done = wait([slow, quick])
        assert (done, not_done) == ({slow, quick}, set())
        return slow.result(timeout=0)

    assert deadlines() == "slow"


@PARALLEL
def test_a_done_callback_gets_its_future(where, tmp_path):
    gate = Gate(tmp_path)
    told: list[object] = []
    called = threading.Event()

    @flow(task_runner=where)
    def calling_back():
        slow, bad = pass_gate.submit(gate, 1), odd.submit(2)
        slow.add_done_callback(lambda future: (told.append(future), called.set()))
        bad.add_done_callback(lambda future: 1 / 0)  # logged; the flow goes on
        gate.open()
        slow.wait()
        assert called.wait(10)
        slow.add_done_callback(told.append)
        assert told == [slow, slow]
        bad.wait()
        return bad.state.name

    assert calling_back() == "Failed"


@PARALLEL
def test_waiting_in_a_done_callback_is_an_error_and_no_deadlock(where, tmp_path):
    first, second = Gate(tmp_path, "first"), Gate(tmp_path, "second")
    errors: list[BaseException] = []
    called = threading.Event()

    @flow(task_runner=where)
    def deadlock():
        one, other = pass_gate.submit(first, 1), pass_gate.submit(second, 2)

        def waits(_):
            try:
                other.result()
            except UsageError as error:
                errors.append(error)
            called.set()

        one.add_done_callback(waits)
        first.open()
        told = called.wait(10)
        second.open()
        return told

    assert deadlock()
    assert ["inside a done callback" in str(error) for error in errors] == [True]


def test_a_flow_fails_for_failures_that_nobody_looked_at(where):
    @flow(task_runner=where)
    def careless():
        futures = odd.map(range(4))
        wait(futures)
        return "value"

    with pytest.raises(FlowFailed) as caught:
        careless()
    assert "2 task runs ended badly" in str(caught.value)
    assert "odd-0 (Failed: ValueError: 0 is even); odd-2 (Failed: ValueError: 2" in str(
        caught.value
    )
    assert [each.rpartition("-")[2] for each in caught.value.task_run_ids] == ["0", "2"]
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize(
    "look",
    [
        pytest.param(lambda future: future.result(raise_on_failure=False), id="result"),
        pytest.param(lambda future: future.wait() or future.state, id="state"),
        pytest.param(
            lambda future: odd.submit(future).result(raise_on_failure=False),
            id="result-of-a-dependent",
        ),
    ],
)
def test_a_failure_that_was_looked_at_is_the_flows_business(look):
    @flow(task_runner="sync")
    def careful():
        look(odd.submit(2))
        return "value"

    assert careful() == "value"


def test_a_state_asked_for_too_early_is_no_look(tmp_path):
    gate = Gate(tmp_path)

    @task
    def fails_late():
        gate.wait()
        raise ValueError("late")

    @flow(task_runner="threads")
    def early():
        future = fails_late.submit()
        assert not future.state.is_final()
        gate.open()

    with pytest.raises(FlowFailed, match="late"):
        early()


@PARALLEL
def test_a_large_result_goes_with_its_cluster_and_says_so(where):
    kept = []

    @task
    def large():
        return b"x" * 100_000

    @flow(task_runner=where)
    def keeps():
        kept.extend([large.submit(), echo.submit([1])])
        for future in kept:
            future.wait()

    keeps()
    assert kept[1].result() == [1]
    if where == "threads":
        assert len(kept[0].result()) == 100_000
    else:
        with pytest.raises(UsageError, match="large-0 went with the cluster of its flow run"):
            kept[0].result()


def test_only_futures_can_be_waited_for():
    @flow(task_runner="sync")
    def wrong(function):
        list(function([echo.submit(1), 3]))

    for function, name in ((wait, "wait"), (as_completed, "as_completed")):
        with pytest.raises(UsageError, match=rf"{name}\(\) takes futures, but number 1 is 3"):
            wrong(function)
