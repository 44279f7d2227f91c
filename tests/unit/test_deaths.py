"""What is told of a worker's death, and for how long it is waited for."""

from __future__ import annotations

import pickle

import pytest

from daskflow.runner.cluster.deaths import (
    Death,
    Deaths,
    about_death,
    describe_death,
    executing_on,
    last_lines,
)
from daskflow.runner.cluster.executor.recorder import Executing, LastLine
from daskflow.runner.cluster.protocol import WITH_NANNY

WORKER = "tcp://10.0.0.1:4711"
MIB = 2**20


@pytest.mark.parametrize(
    ("death", "said"),
    [
        pytest.param(Death(WORKER, None), "died", id="unknown"),
        pytest.param(Death(WORKER, 7), "ended with exit code 7", id="exit"),
        pytest.param(Death(WORKER, -11), "was killed by SIGSEGV", id="signal"),
        pytest.param(
            Death(WORKER, -9, 100 * MIB, peak_memory=50 * MIB),
            "was killed by SIGKILL; peak memory 50.00 MiB of 100.00 MiB",
            id="kill",
        ),
        pytest.param(
            Death(WORKER, -9, 100 * MIB, peak_memory=90 * MIB),
            "was killed by SIGKILL, as the kernel does when memory runs out; peak memory "
            "90.00 MiB of 100.00 MiB",
            id="out-of-memory",
        ),
        pytest.param(
            Death(WORKER, -15, 100 * MIB, over_limit=97 * MIB, peak_memory=98 * MIB),
            "was ended by its nanny for its memory: 98.00 MiB at its peak, the limit is "
            "100.00 MiB (memory_limit)",
            id="limit",
        ),
    ],
)
def test_a_death_is_told_in_one_line(death, said):
    assert describe_death(death) == f"worker {WORKER} {said}"


def test_the_last_lines_are_those_of_the_run_that_is_blamed():
    lines = [LastLine(float(n), n % 2, f"line {n}") for n in range(10)]
    assert last_lines(Death(WORKER, -9, lines=lines), 1) == ["line 5", "line 7", "line 9"]


def test_what_was_executing_is_known_from_the_nanny_or_not_at_all():
    entry = Executing(3, 30, 1.0)
    told = Death(WORKER, -9, executing=[entry])
    assert executing_on(WORKER, told, WITH_NANNY) == [entry]
    assert executing_on(WORKER, Death(WORKER, -9), WITH_NANNY) == []  # it never wrote
    assert executing_on(WORKER, None, WITH_NANNY) is None
    assert executing_on(WORKER, None, None) is None
    assert about_death(told, {})["exit_code"] == -9


def test_a_note_is_waited_for_and_once_in_vain():
    now = 0.0
    deaths = Deaths(lambda: True, clock=lambda: now)
    assert deaths.may_come(WORKER)
    now = 1.4
    assert deaths.may_come(WORKER)
    now = 1.6
    assert not deaths.may_come(WORKER)
    assert not deaths.may_come("tcp://10.0.0.2:1")  # no nanny has told of the first one

    deaths.note(pickle.dumps(tuple(Death(WORKER, -9))))
    assert deaths.of(WORKER) == Death(WORKER, -9)
    assert not deaths.may_come(WORKER)
    assert deaths.may_come("tcp://10.0.0.2:1")


def test_nothing_is_waited_for_where_nobody_tells():
    assert not Deaths(lambda: False).may_come(WORKER)
