"""What a map takes besides its items: how many may fail, how many at a time, and iterators."""

from __future__ import annotations

import gc
import itertools
import os
import threading
import time
import weakref

import pytest

from daskflow import FutureList, TaskFuture, allow_failure, as_completed, flow, task
from daskflow.errors import TooManyFailed, UsageError

PARALLEL = pytest.mark.parametrize("where", ["processes", "threads", "external"], indirect=True)


@task
def double(x):
    return 2 * x


@task
def bad_from(x, limit):
    if x >= limit:
        raise ValueError("too large") if x % 2 else KeyError("no such day")
    return x


@task
def total(values):
    return sum(value for value in values if isinstance(value, int))


@task
def pass_gate(gate, value):
    gate.wait()
    return value


# ---- tolerate


@pytest.mark.parametrize(("limit", "tolerate"), [(8, 2), (8, 0.2), (10, 0), (0, 1.0)])
def test_failures_within_the_tolerance_do_not_fail_the_flow(where, limit, tolerate):
    @flow(task_runner=where)
    def tolerant(ask):
        parts = bad_from.map(range(10), limit, tolerate=tolerate)
        if ask:
            return [type(each).__name__ for each in parts.result()]
        return "value"

    failed = [("KeyError", "ValueError")[x % 2] for x in range(limit, 10)]
    assert tolerant(True) == ["int"] * limit + failed
    assert tolerant(False) == "value"


@pytest.mark.parametrize("ask", [True, False])
def test_one_failure_too_many_is_one_error_that_groups_them(where, ask):
    @flow(task_runner=where)
    def strict():
        parts = bad_from.map(range(12), 5, tolerate=6)
        return parts.result() if ask else "value"

    with pytest.raises(TooManyFailed) as caught:
        strict()
    message = caught.value.message
    assert "7 of 12 runs of bad_from.map() failed, 6 may (tolerate=6)" in message
    assert "4 × ValueError: too large (bad_from-5, bad_from-7, bad_from-9, …)" in message
    assert "3 × KeyError: 'no such day' (bad_from-6, bad_from-8, bad_from-10)" in message
    assert len(caught.value.task_run_ids) == 7
    assert isinstance(caught.value.__cause__, Exception)


def test_looking_at_the_good_ones_does_not_raise_the_tolerance(where):
    @flow(task_runner=where)
    def looks():
        parts = bad_from.map(range(4), 1, tolerate=0.5)
        return len(parts.ok), len(parts.failed)

    with pytest.raises(TooManyFailed, match="3 of 4 runs"):
        looks()


def test_a_flow_that_catches_the_error_goes_on(where):
    @flow(task_runner=where)
    def goes_on():
        parts = bad_from.map(range(4), 1, tolerate=1)
        with pytest.raises(TooManyFailed):
            parts.result()
        return "went on"

    assert goes_on() == "went on"


def test_a_returned_map_with_tolerated_failures_completes_the_flow(where):
    @flow(task_runner=where)
    def returns(limit):
        return bad_from.map(range(4), limit, tolerate=1)

    assert returns(3)[:3] == [0, 1, 2]
    with pytest.raises(TooManyFailed):
        returns(2)


@pytest.mark.parametrize("tolerate", [-1, 1.5, True, "10%", float("nan")])
def test_a_tolerance_that_cannot_be_is_refused(tolerate):
    @flow(task_runner="sync")
    def wrong():
        double.map([1], tolerate=tolerate)

    with pytest.raises(UsageError, match=r"a number of runs such as 3, or a fraction"):
        wrong()


def test_the_first_error_of_a_list_tells_of_the_others(where):
    @flow(task_runner=where)
    def several():
        parts = bad_from.map(range(9), 4)
        parts.wait()
        parts.result()

    with pytest.raises(KeyError) as caught:
        several()
    assert caught.value.__notes__ == [
        "bad_from-4 is one of 5 runs of 9 in this list that ended badly; the others: "
        "2 × ValueError, 2 × KeyError"
    ]


def test_an_error_that_is_alone_and_one_that_is_asked_for_twice_get_no_further_notes(where):
    @flow(task_runner=where)
    def twice():
        alone, several = bad_from.map(range(4), 3), bad_from.map(range(4), 2)
        several.wait()
        notes = []
        for futures in (alone, several, several):
            with pytest.raises((KeyError, ValueError)) as caught:
                futures.result()
            notes.append(len(getattr(caught.value, "__notes__", ())))
        return notes

    assert twice() == [0, 1, 1]


# ---- max_in_flight


@task
def enter(folder, number):
    """Who is inside at the same time; a run stays until the next one could have come."""
    mine = os.path.join(folder, f"inside-{number}")
    open(mine, "w").close()
    time.sleep(0.02)
    inside = len(os.listdir(folder))
    os.remove(mine)
    return inside


def test_a_map_keeps_its_limit_and_returns_at_once(where, tmp_path):
    folder = str(tmp_path / "inside")
    os.mkdir(folder)

    @task
    def maps():
        return max(enter.map([folder] * 6, range(6), max_in_flight=1).result())

    @flow(task_runner=where)
    def bounded():
        futures = enter.map([folder] * 6, range(6), max_in_flight=1)
        assert isinstance(futures, FutureList)
        states = [future.done() for future in futures]
        most = max(futures.result())
        return states, most, maps.submit().result(timeout=60)

    states, most, nested_most = bounded()
    assert (most, nested_most) == (1, 1)
    assert states == [where == "sync"] * 6


@PARALLEL
def test_runs_that_wait_for_room_are_inputs_like_others(where):
    @flow(task_runner=where)
    def summed():
        first = double.map(range(6), max_in_flight=2)
        second = double.map(first, max_in_flight=1)
        return sum(second.result()), double.submit(first[-1]).result()

    assert summed() == (60, 20)


@PARALLEL
def test_runs_that_wait_for_room_are_not_left_behind(where, tmp_path):
    written = tmp_path / "written"

    @task
    def writes(number):
        with written.open("a") as file:
            file.write(f"{number}\n")

    @flow(task_runner=where)
    def leaves():
        writes.map(range(5), max_in_flight=1)

    leaves()
    assert written.read_text().split() == ["0", "1", "2", "3", "4"]


@PARALLEL
def test_runs_that_wait_for_room_are_cancelled_with_their_flow(where):
    futures = []

    @flow(task_runner=where)
    def breaks():
        futures.extend(double.map(range(50), max_in_flight=1))
        raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        breaks()
    assert {future.state.name for future in futures} <= {"Completed", "Cancelled"}
    assert futures[-1].state.is_cancelled()


def test_no_run_at_a_time_is_refused():
    @flow(task_runner="sync")
    def wrong(number):
        double.map([1], max_in_flight=number)

    for number in (0, -1, 1.5, True):
        with pytest.raises(UsageError, match="max_in_flight"):
            wrong(number)


# ---- iterators


def test_a_generator_that_ends_gives_what_a_list_gives(where):
    @flow(task_runner=where)
    def finite():
        results = double.map(x for x in range(20)).result()
        kept = double.map(iter(range(5)))
        return (
            results,
            total.submit(double.map(iter(range(4)))).result(),
            total.submit(allow_failure(bad_from.map(iter(range(4)), 3))).result(),
            [future.result() for future in kept.ok],
            len(kept.failed),
            [future.result() for future in kept],
            double.map(double.map(iter(range(4)))).result(),
            double.map(iter([])).result(),
        )

    doubled = [0, 2, 4, 6, 8]
    assert finite() == ([2 * x for x in range(20)], 12, 3, doubled, 0, doubled, [0, 4, 8, 12], [])


@pytest.mark.parametrize("how", [iter, as_completed])
def test_an_endless_map_streams_in_flat_memory(where, how):
    @flow(task_runner=where)
    def endless():
        pulled, taken = 0, []
        threads = set()

        def numbers():
            nonlocal pulled
            for pulled in itertools.count():
                threads.add(threading.current_thread())
                yield pulled

        most, seen = 0, weakref.WeakSet()
        for future in how(double.map(numbers(), max_in_flight=100)):
            taken.append(future.result())
            seen.add(future)
            most = max(most, pulled + 1 - len(taken))
            if len(taken) == 5_000:
                break
        del future
        gc.collect()
        alive = len(seen)
        return sorted(taken)[:4_900], most, alive, threads == {threading.current_thread()}

    taken, most, alive, here = endless()
    assert taken == [2 * x for x in range(4_900)]
    assert most <= 100
    assert alive <= 100
    assert here


def test_a_generator_is_first_asked_when_somebody_waits_and_its_end_is_the_flows(where):
    asked = []

    def numbers():
        for x in range(5):
            asked.append(x)
            yield x

    @flow(task_runner=where)
    def leaves():
        double.map(numbers())
        return list(asked)

    assert leaves() == []
    assert asked == [0, 1, 2, 3, 4]


def test_an_error_of_the_generator_is_raised_where_it_is_waited_for(where):
    def breaks():
        yield 1
        raise RuntimeError("no more days")

    @flow(task_runner=where)
    def stops():
        futures = double.map(breaks())
        with pytest.raises(RuntimeError, match="no more days"):
            futures.result()
        return "went on"

    assert stops() == "went on"


def test_iterators_of_unequal_lengths_are_an_error(where):
    @flow(task_runner=where)
    def unequal(*iterables):
        return bad_from.map(*iterables).result()

    with pytest.raises(UsageError, match="argument 1 ended after 2, another goes on"):
        unequal(itertools.count(), iter([9, 9]))
    with pytest.raises(UsageError, match="argument 0 has 3, argument 1 has 4"):
        unequal([1, 2, 3], itertools.count())


def test_futures_that_were_handed_out_cannot_be_asked_for_together(where):
    @flow(task_runner=where)
    def again():
        futures = double.map(iter(range(3)))
        assert isinstance(next(futures), TaskFuture)
        with pytest.raises(UsageError, match=r"keep them in a list, list\(task.map"):
            futures.result()
        return [future.result() for future in futures]

    assert again() == [2, 4]


def test_a_stream_may_tolerate_a_fraction_of_what_it_will_be(where):
    @flow(task_runner=where)
    def streaming(limit):
        for future in as_completed(bad_from.map(iter(range(10)), limit, tolerate=0.2)):
            future.wait()

    streaming(8)
    with pytest.raises(TooManyFailed, match=r"3 of 10 runs of bad_from.map\(\) failed, 2 may"):
        streaming(7)


@PARALLEL
def test_a_task_streams_what_it_submits(where):
    @task
    def parent():
        return sorted(
            f.result() for f in as_completed(double.map(iter(range(30)), max_in_flight=4))
        )

    @flow(task_runner=where)
    def nested():
        return parent.submit().result(timeout=60)

    assert nested() == [2 * x for x in range(30)]
