"""How a flow run is started again: from which file, with which parameters, as which module."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.cluster.resumed import account, last


def test_the_flow_may_be_in_another_file_now(failed):
    moved = failed.folder / "elsewhere_now.py"
    failed.path.rename(moved)
    done = failed("runs", "resume", "@last", code=3)
    assert f"no file '{failed.path}'" in done.stderr
    assert last()[0].attempt == 1
    failed("runs", "resume", "@last", moved)
    assert failed.ran() == {"clean2": 1, "loose": 4}


def test_parameters_that_do_not_fit_are_refused_before_anything_is_taken(failed):
    done = failed("runs", "resume", "@last", "-p", "count=many", code=2)
    assert "count: Input should be a valid integer" in done.stderr
    assert (last()[0].state, last()[0].attempt) == ("Failed", 1)
    failed("runs", "resume", "@last", "-p", "count=2")
    assert failed.ran() == {"loose": 2}


def test_parameters_come_back_as_they_were(script):
    script.write("""
@flow(task_runner=RUNNER)
def typed(day: date, sizes: tuple[int, ...], plain, *rest, **more):
    assert not broken()
    assert (day, sizes, plain) == (date(2026, 1, 2), (1, 2), {"a": [1.5, None]})
    assert (rest, more) == ((3, 4), {"x": "y"})

if __name__ == "__main__":
    typed("2026-01-02", [1, 2], {"a": [1.5, None]}, 3, 4, x="y")
""")
    code = f"import runpy; runpy.run_path({str(script.path)!r}, run_name='__main__')"
    with pytest.raises(AssertionError):
        exec(code, {})
    script.mend()("runs", "resume", "@last")
    assert last()[0].state == "Completed"


def test_a_run_that_python_started_finds_inputs_and_results_of_its_own_classes(script):
    script.write("""
from dataclasses import dataclass

@dataclass
class Order:
    n: int

@task(persist_result=True)
def price(order):
    ran("price")
    assert isinstance(order, Order)
    return Order(10 * order.n)

@task(persist_result=True, cache_policy=NO_CACHE)
def draw(order):
    ran("draw")
    return Order(1)

@flow(task_runner=RUNNER)
def orders(count):
    priced = [price(Order(n)) for n in range(count)]
    drawn = [draw(each) for each in priced]
    assert not broken()
    assert priced == [Order(0), Order(10)]
    assert drawn == [Order(1), Order(1)]

if __name__ == "__main__":
    orders(2)
""")
    done = subprocess.run([sys.executable, script.path], capture_output=True, text=True)
    assert "AssertionError" in done.stderr, done.stderr
    assert script.ran() == {"price": 2, "draw": 2}
    main = sys.modules["__main__"]
    found = account(script.mend()("runs", "resume", "@last", "--json"))
    assert script.ran() == {}
    assert (found["reused"], found["reused_with_changed_code"]) == ({"price": 2, "draw": 2}, {})
    assert sys.modules["__main__"] is main


def test_a_parameter_that_the_record_does_not_hold_is_asked_for(script):
    script.write("""
@flow(task_runner=RUNNER)
def secretive(n: int, given=None, key=None):
    assert not broken()
    assert (n, given) == (1, "again"), (n, given)

if __name__ == "__main__":
    secretive(1, given=object())
""")
    code = f"import runpy; runpy.run_path({str(script.path)!r}, run_name='__main__')"
    with pytest.raises(AssertionError):
        exec(code, {})
    done = script.mend()("runs", "resume", "@last", code=2)
    assert "does not hold given (a object) of flow secretive" in done.stderr
    assert "-p given=…" in done.stderr
    assert last()[0].attempt == 1
    script("runs", "resume", "@last", "-p", "given=again")
