"""What is told of a worker's death, and for how long it is waited for."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys

import pytest
from distributed.core import Status

from daskflow.runner.cluster.deaths import (
    Death,
    Deaths,
    about_death,
    describe_death,
    executing_on,
    last_lines,
    tell_death,
)
from daskflow.runner.cluster.executor import recorder
from daskflow.runner.cluster.executor.recorder import (
    Executing,
    FlightRecorder,
    LastLine,
    flight_file,
)
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


class Nanny:
    """One whose worker has just ended, as far as `tell_death` looks at it."""

    status = Status.running

    def __init__(self, worker_address=None):
        self.worker_address = worker_address
        self.told = []

    def log_event(self, topic, message):
        self.told.append(Death(*pickle.loads(message[1])))


def written_by(pid, path, monkeypatch):
    monkeypatch.setattr(recorder.os, "getpid", lambda: pid)
    FlightRecorder(path)
    monkeypatch.undo()


def test_a_worker_that_died_before_its_nanny_knew_its_address_is_told_once(tmp_path, monkeypatch):
    folder, gone = str(tmp_path), 2**22 + 1  # more than a pid can be
    later = "tcp://10.0.0.1:4712"
    nanny = Nanny(WORKER)
    written_by(gone, flight_file(folder, WORKER), monkeypatch)
    tell_death(nanny, -11, folder, "topic")
    written_by(gone, flight_file(folder, later), monkeypatch)
    tell_death(nanny, -9, folder, "topic")  # it has the address of the one before still
    tell_death(nanny, -7, folder, "topic")  # that of one which has written nothing
    assert [(death.worker, death.exit_code) for death in nanny.told] == [
        (os.path.basename(flight_file("", WORKER)), -11),
        (os.path.basename(flight_file("", later)), -9),
    ]
    unknown = Nanny()
    written_by(gone, flight_file(folder, "tcp://10.0.0.1:4713"), monkeypatch)
    tell_death(unknown, -9, folder, "topic")
    assert len(unknown.told) == 1


def test_the_worker_of_another_nanny_is_left_to_that_one(tmp_path, monkeypatch):
    folder, process = str(tmp_path), subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it is a zombie from now on
    written_by(process.pid, flight_file(folder, WORKER), monkeypatch)
    nanny = Nanny()
    tell_death(nanny, -9, folder, "topic")
    process.wait()
    assert nanny.told == []


def test_nothing_is_waited_for_where_nobody_tells():
    assert not Deaths(lambda: False).may_come(WORKER)
