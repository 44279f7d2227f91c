"""Hooks: each is called once, in the flow process, with what it needs, and never breaks a run."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest

from daskflow import flow, get_run_logger, task
from daskflow.config import get_settings
from daskflow.errors import UsageError
from daskflow.runner.store import open_store
from tests.gates import Gate


class Told:
    """A hook that remembers its calls; it does not pickle, and never has to."""

    def __init__(self):
        self.calls = []
        self.places = set()
        self.lock = threading.Lock()

    def hook(self, name):
        def remember(subject, run, state):
            with self.lock:
                self.calls.append((name, subject.name, run.name, run.attempt, state.name))
                self.places.add((os.getpid(), threading.current_thread().name))
            assert run.state is state

        return remember

    def all(self, *names):
        return {f"on_{name}": self.hook(name) for name in names}


TASK = ("running", "completion", "failure", "crashed", "retry")
FLOW = ("running", "completion", "failure", "crashed", "cancellation")


def test_each_hook_of_a_task_is_called_once_and_in_order(where):
    told = Told()

    @task(**told.all(*TASK))
    def good(x):
        return x

    @task(retries=2, **told.all(*TASK))
    def bad():
        raise ValueError("no")

    @task(**told.all(*TASK))
    def never(x):
        return x

    @task(**told.all(*TASK))
    def leaves():
        raise SystemExit(3)

    @flow(task_runner=where)
    def runs():
        good.map(range(3)).result()
        failed = bad.submit()
        never.submit(failed).wait()
        if where != "sync":
            leaves.submit().wait()
        return failed.state

    runs(return_state=True)

    def of(name):
        return [(call[0], *call[2:]) for call in told.calls if call[1] == name]

    assert sorted(of("good")) == [
        *(("completion", f"good-{n}", 1, "Completed") for n in range(3)),
        *(("running", f"good-{n}", 1, "Running") for n in range(3)),
    ]
    assert of("bad") == [
        ("running", "bad-0", 1, "Running"),
        ("retry", "bad-0", 1, "AwaitingRetry"),
        ("retry", "bad-0", 2, "AwaitingRetry"),
        ("failure", "bad-0", 3, "Failed"),
    ]
    assert of("never") == []
    if where != "sync":
        assert of("leaves") == [
            ("running", "leaves-0", 1, "Running"),
            ("crashed", "leaves-0", 1, "Crashed"),
        ]
    assert told.places == {(os.getpid(), "daskflow-hooks")}


@pytest.mark.parametrize("where", ["processes", "threads", "external"], indirect=True)
def test_on_running_of_a_long_run_comes_while_it_runs(where, tmp_path):
    gate, running = Gate(tmp_path), threading.Event()
    calls = []

    @task
    def waits(gate):
        gate.wait()

    @waits.on_running
    def first(task, task_run, state):
        calls.append(task_run.attempt)
        running.set()

    @flow(task_runner=where)
    def runs():
        future = waits.submit(gate)
        seen = running.wait(20)
        gate.open()
        future.result()
        return seen

    assert runs()
    assert calls == [1]


def test_a_hook_gets_the_result_or_the_error(where):
    results = []

    @task
    def large():
        return b"x" * 200_000

    @task
    def bad():
        raise ValueError("no")

    @large.on_completion
    def keep(task, task_run, state):
        results.append(len(state.result()))

    @bad.on_failure
    async def keep_error(task, task_run, state):
        await asyncio.sleep(0)
        results.append(str(state.result(raise_on_failure=False)))

    @flow(task_runner=where)
    def runs():
        large.submit()  # nobody holds its future
        bad.submit().wait()

    runs(return_state=True)
    assert sorted(map(str, results)) == ["200000", "no"]


def test_an_error_in_a_hook_is_logged_and_goes_no_further(where):
    calls = []

    def breaks(subject, run, state):
        raise SystemExit("hook broke")

    def logs(subject, run, state):
        calls.append(run.name)
        get_run_logger().warning("told of %s", run.name)

    @task(on_completion=[breaks, logs])
    def good():
        return 1

    @flow(task_runner=where, flow_run_name="mine", on_running=breaks, on_completion=[breaks, logs])
    def runs():
        return good.submit().result()

    assert runs() == 1
    assert calls == ["good-0", "mine"]
    with open_store(get_settings().store.url) as store:
        lines = [row.message for row in store.logs(store.find_flow_run("@last").flow_run_id)]
    assert any("hook breaks of good-0 raised" in line and "hook broke" in line for line in lines)
    assert "told of good-0" in lines


def test_hooks_of_calls_inside_a_flow_and_outside():
    told = Told()

    @task(retries=1, **told.all(*TASK))
    def flaky(fails: list):
        if fails:
            raise ValueError(fails.pop())
        return 1

    assert flaky([1]) == 1
    assert [call[0] for call in told.calls] == ["running", "retry", "completion"]
    told.calls.clear()

    @flow
    def calls():
        return flaky([])

    assert calls() == 1
    assert [call[0] for call in told.calls] == ["running", "completion"]


def test_hooks_of_async_tasks_called_outside_of_a_flow():
    told = Told()

    @task(**told.all(*TASK))
    async def one():
        return 1

    assert asyncio.run(one()) == 1
    assert [call[0] for call in told.calls] == ["running", "completion"]


@pytest.mark.parametrize(
    ("error", "names"),
    [
        pytest.param(None, ["running", "completion"], id="completed"),
        pytest.param(ValueError("no"), ["running", "failure"], id="failed"),
        pytest.param(SystemExit(1), ["running", "crashed"], id="crashed"),
        pytest.param(KeyboardInterrupt(), ["running", "cancellation"], id="cancelled"),
    ],
)
@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
def test_each_hook_of_a_flow_is_called_once(error, names, is_async):
    told = Told()

    def body(x: int):
        if error is not None:
            raise error

    async def body_async(x: int):
        if error is not None:
            raise error

    if is_async and isinstance(error, (KeyboardInterrupt, SystemExit)):
        pytest.skip("an event loop ends with these")
    runs = flow(body_async if is_async else body, name="runs", task_runner="sync")
    runs = runs.with_options(flow_run_name="r", **told.all(*FLOW))
    result = runs(1, return_state=True)
    state = asyncio.run(result) if is_async else result
    assert [call[0] for call in told.calls] == names
    assert told.calls[-1] == (names[-1], "runs", "r", 1, state.name)


def test_a_hook_of_a_flow_is_told_of_its_run():
    seen = []

    @flow(task_runner="sync", flow_run_name="mine")
    def runs(x: int):
        return x

    @runs.on_completion
    async def tell(flow, flow_run, state):
        seen.append((flow is runs, flow_run.parameters, state.result()))

    @runs.on_completion
    def tell_too(flow, flow_run, state):
        seen.append(len(flow_run.id))

    async def on_a_loop():
        return runs(4)

    assert runs(3) == 3
    assert asyncio.run(on_a_loop()) == 4
    assert seen == [(True, {"x": 3}, 3), 32, (True, {"x": 4}, 4), 32]


def test_hooks_have_ended_when_the_flow_returns(where, tmp_path):
    gate = Gate(tmp_path)
    done = []

    @task
    def good():
        return 1

    @good.on_completion
    def slow(task, task_run, state):
        gate.wait()
        done.append(task_run.name)

    @flow(task_runner=where)
    def runs():
        good.submit()
        opener = threading.Thread(target=gate.open)
        opener.start()
        return opener

    opener = runs()
    opener.join()
    assert done == ["good-0"]


def test_hooks_of_tasks_that_tasks_submit_are_called_here(where):
    told = Told()

    @task(**told.all("completion", "failure"))
    def inner(x):
        if x:
            raise ValueError("no")
        return x

    @task
    def outer():
        inner.submit(1).wait()
        return inner.submit(0).result()

    @flow(task_runner=where)
    def runs():
        return outer.submit().result()

    runs(return_state=True)
    assert sorted(call[0] for call in told.calls) == ["completion", "failure"]
    assert {pid for pid, _ in told.places} == {os.getpid()}


@pytest.mark.parametrize("decorator", [task, flow], ids=["task", "flow"])
def test_what_cannot_be_called_is_no_hook(decorator):
    with pytest.raises(UsageError, match=r"on_failure=3 must be a function, or a list"):
        decorator(lambda: None, on_failure=[print, 3])


def test_with_options_replaces_the_hooks_of_one_kind():
    first, second = (lambda *told: None), (lambda *told: None)
    plain = task(lambda: None, on_failure=first)
    plain.on_failure(second)
    other = plain.with_options(on_failure=[second], on_retry=first)
    assert plain.options["on_failure"].functions == (first, second)
    assert plain.options["on_retry"] is None
    assert other.options["on_failure"].functions == (second,)
    assert plain.with_options(on_failure=None).options["on_failure"] is None
