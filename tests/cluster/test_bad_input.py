"""What a flow's author gets wrong while a flow runs fails at the call, with what to do about it."""

from __future__ import annotations

import logging
import threading

import pytest

from daskflow import DaskTaskRunner, flow, task, unmapped
from daskflow.config import get_settings
from daskflow.errors import ClusterError, UsageError
from daskflow.runner.store import open_store

REMOTE = pytest.mark.parametrize("where", ["processes", "external"], indirect=True)
LOCAL = pytest.mark.parametrize("where", ["threads", "sync"], indirect=True)


@task
def one(x, y=2):
    return x


@task
def unpicklable():
    return threading.Lock()


def said_in_flow(where, call):
    """What `call` raises inside a flow; the flow goes on, and has run nothing."""

    @flow(task_runner=where)
    def wrong():
        with pytest.raises(UsageError) as caught:
            call()
        return str(caught.value)

    text = wrong()
    with open_store(get_settings().store.url) as store:
        assert store.counts(store.find_flow_run("@last").flow_run_id) == {}
    return text


@pytest.mark.parametrize(
    ("call", "text"),
    [
        pytest.param(
            lambda: one.submit(1, wait_for=[3]),
            "wait_for takes futures, not 3; pass what task.submit() and task.map() return",
            id="wait-for-number",
        ),
        pytest.param(
            lambda: one.submit(1, wait_for=3),
            "wait_for=3 must be a list of futures, such as wait_for=[future]",
            id="wait-for-no-list",
        ),
        pytest.param(
            lambda: one.map([1], wait_for="abc"),
            "wait_for='abc' must be a list of futures, such as wait_for=[future]",
            id="wait-for-text",
        ),
        pytest.param(
            lambda: one.submit(1, 2, 3),
            "task one(x, y=2) cannot be called like this: too many positional arguments",
            id="too-many",
        ),
        pytest.param(
            lambda: one.submit(z=3),
            "task one(x, y=2) cannot be called like this: missing a required argument: 'x'",
            id="missing",
        ),
        pytest.param(
            lambda: one.map([1, 2], y=[1]),
            "one.map() got iterables of unequal lengths: argument 0 has 2, argument 'y' has 1; "
            "make them equal, or wrap what every run should get in unmapped()",
            id="unequal",
        ),
        pytest.param(
            lambda: one.map(1, y=unmapped([1])),
            "one.map() got nothing to iterate over; pass at least one list, or use submit()",
            id="no-iterable",
        ),
    ],
)
def test_a_call_that_cannot_be_is_refused_before_anything_runs(call, text):
    assert said_in_flow("threads", call) == text


lock = threading.Lock()


@pytest.mark.parametrize(
    ("call", "text"),
    [
        pytest.param(
            lambda: one.submit(1, threading.Lock()),
            "argument 1 of one cannot be sent to a worker: a lock does not pickle (cannot pickle "
            "'_thread.lock' object); open it inside the task, or use task_runner=\"threads\"",
            id="argument",
        ),
        pytest.param(
            lambda: one.submit(x=threading.Lock()),
            "argument 'x' of one cannot be sent to a worker: a lock does not pickle",
            id="keyword",
        ),
        pytest.param(
            lambda: one.map([1], unmapped(threading.Lock())),
            "what every run of one.map() should get, a lock, cannot be sent to a worker",
            id="constant",
        ),
        pytest.param(
            lambda: task(name="closes")(lambda x, held=lock: (x, lock)).submit(1),
            "task 'closes' ",
            id="default",
        ),
    ],
)
@REMOTE
def test_what_cannot_be_pickled_is_named(where, call, text):
    assert said_in_flow(where, call).startswith(text)


@REMOTE
def test_a_variable_of_a_closure_that_cannot_be_pickled_is_named(where):
    held = threading.Lock()

    @task
    def closes(x):
        with held:
            return x

    assert said_in_flow(where, lambda: closes.submit(1)) == (
        "task 'closes' uses 'held', and a lock does not pickle (cannot pickle '_thread.lock' "
        'object); create it inside the task, pass plain data, or use task_runner="threads"'
    )


@REMOTE
def test_a_result_that_cannot_be_pickled_fails_its_run_and_says_what_to_do(where):
    @flow(task_runner=where)
    def results():
        with pytest.raises(TypeError, match=r"cannot pickle '_thread\.lock' object") as caught:
            unpicklable.submit().result()
        return caught.value.__notes__

    [note] = results()
    assert "result" in note


def ended_future():
    kept = []

    @flow(task_runner="sync", flow_run_name="earlier")
    def ends():
        kept.append(one.submit(5))

    ends()
    return kept[0]


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda future: one.submit(future), id="submit"),
        pytest.param(lambda future: one.submit(1, wait_for=[future]), id="wait_for"),
        pytest.param(lambda future: one.map([1], unmapped([future])), id="inside"),
        pytest.param(lambda future: one(future), id="direct"),
    ],
)
@LOCAL
def test_a_future_of_another_flow_run_is_refused_with_both_names(where, call):
    future = ended_future()
    earlier = future.task_run_id.rpartition("-")[0]
    text = said_in_flow(where, lambda: call(future))
    assert text.startswith(f"task one got one-0, a future of flow run earlier ({earlier}), but ")
    assert text.endswith(
        "which shares no cluster with it; pass its result instead: future.result()"
    )


def test_a_future_of_the_parent_is_an_input_in_a_subflow_that_shares_its_cluster(where):
    @flow(task_runner=where)
    def above():
        future = one.submit(7)

        @flow
        def below():
            return one.submit(future).result()

        return below()

    assert above() == 7


def test_a_future_of_the_parent_is_refused_in_a_subflow_with_a_cluster_of_its_own():
    @flow(task_runner="threads", flow_run_name="upper")
    def above():
        future = one.submit(7)

        @flow(task_runner="sync", flow_run_name="lower")
        def below():
            return one.submit(future).result()

        return below()

    with pytest.raises(UsageError, match=r"future of flow run upper .* runs in flow run lower "):
        above()


def test_a_future_of_the_parent_is_a_result_when_it_is_a_parameter():
    @flow(task_runner="sync")
    def below(number):
        return one.submit(number).result()

    @flow(task_runner="threads")
    def above():
        return below(one.submit(7))

    assert above() == 7


@REMOTE
def test_an_argument_over_ten_megabytes_is_warned_about_once(where, caplog):
    heavy = b"x" * 11_000_000

    @flow(task_runner=where)
    def heavily():
        return [one.submit(heavy, y).wait() for y in range(3)]

    with caplog.at_level(logging.WARNING, "daskflow.flow_runs"):
        heavily()
    [told] = [each for each in caplog.records if each.name == "daskflow.flow_runs"]
    assert told.getMessage() == (
        "An argument of task one is 11 MB. It is sent to the cluster once, not with every task "
        "run, but each submit pickles it anew. Hand it on by reference: return it from a task and "
        "pass that task's future, use unmapped() in a map, or pass a path that the workers can read"
    )


def test_modules_that_travel_with_a_task_are_told_at_debug_level(
    external_address, caplog, monkeypatch
):
    monkeypatch.setenv("DASKFLOW_LOGGING__LEVEL", "DEBUG")
    from daskflow.config import reset_settings

    reset_settings()

    @flow(task_runner=external_address)
    def travels():
        return one.submit(1).result()

    with caplog.at_level(logging.DEBUG, "daskflow.flow_runs"):
        travels()
    told = [each.getMessage() for each in caplog.records if "travels with it" in each.getMessage()]
    assert len(told) == 1
    assert told[0].startswith("one: workers cannot be expected to have ")
    assert __name__.rpartition(".")[2] in told[0] or "more modules" in told[0]


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "tcp://no-such-host.invalid:8786"])
def test_a_scheduler_that_cannot_be_reached_is_named_with_what_to_check(address):
    @flow(task_runner=DaskTaskRunner(address=address, client_kwargs={"timeout": 0.5}))
    def unreachable():
        return one.submit(1).result()

    with pytest.raises(ClusterError) as caught:
        unreachable()
    text = str(caught.value)
    assert text.startswith(f"The Dask scheduler at {address} could not be reached (")
    assert "check that it runs (dask scheduler)" in text


def test_an_argument_that_no_client_takes_is_refused(external_address):
    runner = DaskTaskRunner(address=external_address, client_kwargs={"tmeout": 3})

    @flow(task_runner=runner)
    def mistyped():
        return one.submit(1).result()

    with pytest.raises(UsageError, match=r"client_kwargs has 'tmeout', .* mean 'timeout'\?"):
        mistyped()


def test_tls_without_certificates_is_refused_before_it_connects():
    @flow(task_runner="tls://127.0.0.1:9")
    def bare():
        return one.submit(1).result()

    with pytest.raises(UsageError, match=r"speaks TLS and there are no certificates for it; pass"):
        bare()
