"""Flow runs: results, subflows, threads, names, failures, and what is left when they end."""

from __future__ import annotations

import gc
import logging
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from daskflow import State, flow, runtime, task
from daskflow.config import get_settings
from daskflow.errors import FlowFailed, ParameterError, UsageError
from daskflow.runner.core.graph import Run
from daskflow.runner.store import open_store
from tests.gates import Gate

PARALLEL = pytest.mark.parametrize("where", ["processes", "threads", "external"], indirect=True)


@task
def inc(x):
    return x + 1


@task
def bad(text="no"):
    raise ValueError(text)


@task
def pass_gate(gate):
    gate.wait()
    return "through"


def test_futures_in_a_result_stand_for_their_results(where):
    shapes = {
        "future": lambda: inc.submit(1),
        "list": lambda: [inc.submit(1), inc.submit(2)],
        "map": lambda: inc.map([1, 2]),
        "tuple": lambda: (inc.submit(1), 7),
        "dict": lambda: {"a": inc.submit(1), "b": [inc.submit(2)]},
        "state": lambda: inc(1, return_state=True),
        "states": lambda: [inc(1, return_state=True), inc.submit(2)],
        "nothing": lambda: None,
        "large": lambda: task(lambda: b"x" * 100_000).submit(),
    }

    @flow(task_runner=where)
    def shaped(name: str):
        return shapes[name]()

    assert {name: shaped(name) for name in shapes} == {
        "future": 2,
        "list": [2, 3],
        "map": [2, 3],
        "tuple": (2, 7),
        "dict": {"a": 2, "b": [3]},
        "state": 2,
        "states": [2, 3],
        "nothing": None,
        "large": b"x" * 100_000,
    }


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        pytest.param(lambda: bad.submit(), "ValueError: no", id="future"),
        pytest.param(lambda: [bad.submit(), inc.submit(1)], "1 of 2 returned", id="list"),
        pytest.param(lambda: {"a": bad.submit(), "b": 1}, "ValueError: no", id="dict"),
        pytest.param(lambda: bad(return_state=True), "ValueError: no", id="state"),
    ],
)
def test_a_failed_future_in_the_result_fails_the_flow(shape, message):
    @flow(task_runner="sync")
    def returns():
        return shape()

    state = returns(return_state=True)
    assert state.name == "Failed"
    assert message in state.message
    with pytest.raises(ValueError, match="no"):
        returns()


def test_a_returned_state_is_the_flows_state():
    @flow(task_runner="sync")
    def says(state):
        return state

    assert says(State("Cancelled", "enough"), return_state=True).name == "Cancelled"
    assert says(State("Completed", load=lambda: 5)) == 5


def test_return_state_raises_nothing(where):
    @flow(task_runner=where)
    def some(fails: bool):
        if fails:
            raise KeyError("k")
        return inc.submit(1).result()

    good, failed = some(False, return_state=True), some(True, return_state=True)
    assert (good.is_completed(), good.result()) == (True, 2)
    assert (failed.is_failed(), failed.message) == (True, "KeyError: 'k'")


def test_a_subflow_shares_the_cluster_and_is_linked_to_its_parent(where):
    @flow
    def child(x: int):
        return inc.submit(x).result(), runtime.flow_run.name, runtime.flow_run.id

    @flow
    def failing_child():
        bad.submit()

    @flow(task_runner=where)
    def parent():
        mine = runtime.flow_run.id
        future = inc.submit(1)
        results = [child(future.result()), child(5)]
        assert runtime.flow_run.id == mine
        with pytest.raises(FlowFailed, match="bad-0"):
            failing_child()
        return results, mine

    results, mine = parent()
    assert [value for value, _, _ in results] == [3, 6]
    with open_store(get_settings().store.url) as store:
        children = {row.flow_run_id: row for row in store.children(mine)}
        assert {row.state for row in children.values()} == {"Completed", "Failed"}
        assert {each for _, _, each in results} < set(children)
        assert {row.parent_flow_run_id for row in children.values()} == {mine}
        assert len({row.task_runner for row in store.flow_runs()}) == 1


def test_a_subflow_may_run_elsewhere():
    @flow(task_runner="sync")
    def child():
        return task(threading.get_ident).submit().result()

    @flow(task_runner="threads")
    def parent():
        return child(), task(threading.get_ident).submit().result()

    inner, outer = parent()
    assert inner == threading.get_ident() != outer


def test_a_task_under_sync_may_call_a_flow_that_submits():
    @flow
    def child():
        assert runtime.task_run.id is None
        return inc.submit(1).result()

    @flow(task_runner="sync")
    def parent():
        return task(lambda: child()).submit().result()

    assert parent() == 2


@PARALLEL
def test_two_flows_at_once_in_two_threads(where, tmp_path):
    gates = [Gate(tmp_path, "a"), Gate(tmp_path, "b")]

    @flow(task_runner=where)
    def one(number: int):
        future = pass_gate.submit(gates[number])
        return future.result(), runtime.flow_run.parameters["number"], inc.map(range(5)).result()

    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(one, number) for number in (0, 1)]
        for gate in gates:  # each flow is at its gate while the other one runs
            gate.open()
        results = [each.result(30) for each in running]
    assert results == [("through", number, [1, 2, 3, 4, 5]) for number in (0, 1)]


@PARALLEL
def test_a_body_that_raises_lets_running_tasks_end_and_starts_no_queued_one(where, tmp_path):
    gate = Gate(tmp_path)
    marks = tmp_path / "marks"
    marks.mkdir()

    @task
    def after(x):
        (marks / str(x)).touch()

    @flow(task_runner=where)
    def broken():
        running = pass_gate.submit(gate)
        after.map(range(50), wait_for=[running])
        opener = threading.Timer(0, gate.open)
        opener.start()
        opener.join()
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        broken()
    with open_store(get_settings().store.url) as store:
        row = store.flow_runs()[0]
        counts = store.counts(row.flow_run_id)
    assert (row.state, row.message) == ("Failed", "KeyError: 'mine'")
    assert sum(counts.values()) == 51
    assert counts["Completed"] >= 1
    assert len(list(marks.iterdir())) == counts["Completed"] - 1
    assert set(counts) <= {"Completed", "Cancelled"}


def test_consumed_runs_leave_nothing_behind(where, eventually):
    alive: weakref.WeakSet[Run] = weakref.WeakSet()
    plain = Run.__init__

    def counting(self, *args, **kwargs):
        plain(self, *args, **kwargs)
        alive.add(self)

    Run.__init__ = counting
    try:

        @flow(task_runner=where)
        def many():
            gc.disable()  # reference counting alone has to do
            try:
                for _ in range(4):
                    futures = inc.map(range(250))
                    assert sum(futures.result()) == 31_375
                    del futures
                eventually(lambda: not alive)  # half a second: open runs are looked at then
            finally:
                gc.enable()

        many()
    finally:
        Run.__init__ = plain


def test_a_flow_is_named_by_template_or_callable():
    names = []

    @task
    def name():
        names.append(runtime.flow_run.name)

    @flow(task_runner="sync", flow_run_name="etl-{day}-{n:03d}")
    def template(day, n=7):
        name.submit()

    template("mon")
    template.with_options(flow_run_name=lambda: "called")("mon")
    template.with_options(flow_run_name=lambda parameters: f"got-{parameters['day']}")("tue")
    template.with_options(flow_run_name=None)("mon")
    assert names[:3] == ["etl-mon-007", "called", "got-tue"]
    assert names[3].count("-") == 1
    with pytest.raises(UsageError, match=r"filled in: KeyError\('nope'\); it may use day, n"):
        template.with_options(flow_run_name="{nope}")("mon")


def test_parameters_are_checked_before_anything_starts(monkeypatch):
    from daskflow.runner import engine

    monkeypatch.setattr(engine, "FlowRun", None)  # nothing may begin

    @flow(task_runner="tcp://127.0.0.1:1")
    def typed(months: list[int], out: str = "out", ratio: float = 0.5):
        return months

    with pytest.raises(ParameterError) as caught:
        typed(["a", 2], ratio="half", out=3)
    text = str(caught.value)
    for part in ("months.0", "'a'", "out:", "3", "ratio:", "'half'", "validate_parameters=False"):
        assert part in text
    with pytest.raises(ParameterError, match="missing a required argument: 'months'"):
        typed()
    with pytest.raises(ParameterError, match="unexpected keyword argument 'month'"):
        typed([1], month=[1])


def test_parameters_are_coerced_unless_told_otherwise():
    @flow(task_runner="sync")
    def typed(n: int, items: tuple[int, ...] = ()):
        return n, items

    assert typed("3", ["1", 2]) == (3, (1, 2))
    assert typed.with_options(validate_parameters=False)("3", [1]) == ("3", [1])


def test_flows_may_be_methods():
    class Jobs:
        base = 10

        @flow(task_runner="sync")
        def run(self, x: int):
            return inc.submit(self.base + x).result()

        @flow(task_runner="sync")
        @staticmethod
        def static(x: int):
            return inc(x)

        @flow(task_runner="sync")
        @classmethod
        def of_class(cls, x: int):
            return cls.base + x

    assert (Jobs().run("1"), Jobs.static(1), Jobs.of_class(1)) == (12, 2, 11)


def test_a_flow_leaves_logging_and_print_as_they_were(where):
    before = (print, list(logging.getLogger().handlers), sys.stdout)

    @flow(task_runner=where, log_prints=True)
    def prints():
        inc.submit(1).result()

    prints()
    assert (print, list(logging.getLogger().handlers), sys.stdout) == before
