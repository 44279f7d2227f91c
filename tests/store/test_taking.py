"""A flow run that ended goes on in one process, and its row and rows say so."""

from __future__ import annotations

import os
import threading

import pytest

from daskflow.errors import RunHeld
from daskflow.runner.store import open_store, this_process
from daskflow.runner.store.leases import RunLeases
from daskflow.runner.store.taking import check_not_held, take_over
from tests.store import made


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/runs.db"


def recorded(tmp_path, rows, task_runs=()):
    changes = [("flow_run", row.flow_run_id, (row,), None) for row in rows]
    changes += [("task_runs", rows[0].flow_run_id, task_runs, None)] if task_runs else []
    made.commit(tmp_path / "runs.db", *changes)


def test_it_is_of_this_process_in_a_new_attempt_and_open_task_runs_have_crashed(tmp_path, url):
    run = made.flow_run(state="Crashed", ended_at=110.0)
    child = made.flow_run("c" * 32, state="Crashed", parent_flow_run_id=run.flow_run_id)
    open_run = made.task_run(1, state="Running", ended_at=None)
    recorded(tmp_path, [run, child], [made.task_run(0, state="Completed"), open_run])
    lease = take_over(url, [run, child])
    assert lease.fence > 1
    with open_store(url) as store:
        row = store.find_flow_run(run.flow_run_id)
        assert (row.state, row.attempt, row.message, row.ended_at) == ("Retrying", 2, None, None)
        assert (row.pid, row.host) == (os.getpid(), this_process().host)
        assert row.created_at == run.created_at
        first, second = store.task_runs(run.flow_run_id)
        assert (first.state, second.state) == ("Completed", "Crashed")
        assert second.message == "its flow process was gone"
        assert second.ended_at == 110.0


def test_one_of_many_that_try_at_once_gets_it_in_each_of_50_races(tmp_path, url):
    runs = [made.flow_run(f"{n:032x}", state="Failed") for n in range(50)]
    recorded(tmp_path, runs)
    owners, refused = [], []
    barrier = threading.Barrier(4)

    def race():
        for run in runs:
            barrier.wait(timeout=30)
            try:
                owners.append(take_over(url, [run]).flow_run_id)
            except RunHeld as error:
                refused.append(str(error))

    racers = [threading.Thread(target=race) for _ in range(4)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(timeout=60)
    assert sorted(owners) == [run.flow_run_id for run in runs]
    assert len(refused) == 150
    assert all(f"{os.getpid()} on '{this_process().host}'" in text for text in refused)


def test_one_that_was_resumed_and_ended_since_it_was_read_is_left_alone(tmp_path, url):
    run = made.flow_run(state="Failed")
    recorded(tmp_path, [run._replace(attempt=2)])
    with pytest.raises(RunHeld, match="was resumed by another process meanwhile"):
        take_over(url, [run])
    with RunLeases(url) as leases:  # the lease was let go
        leases.take(run.flow_run_id)


def test_a_run_whose_process_lives_is_refused_by_pid_and_host():
    alive = made.flow_run(state="Running")._replace(**this_process()._asdict())
    with pytest.raises(RunHeld, match=f"is Running: process {os.getpid()} on .* executes it"):
        check_not_held(alive)
    check_not_held(alive._replace(state="Failed"))
    check_not_held(alive._replace(pid=2**22 + 1))
