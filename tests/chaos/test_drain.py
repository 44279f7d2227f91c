"""Workers that are told to go while they execute: what runs ends once, and nobody is charged."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest
from distributed import Client

from daskflow import DaskTaskRunner, flow, task
from tests.foreign import eventually

RUNS = 12
GOING = ("closing_gracefully", "gone")


@task
def hold(number, folder):
    mine = Path(folder) / str(number)
    with open(mine, "a") as file:
        file.write(f"{os.getpid()}\n")
    eventually((Path(folder) / "gate").exists, within_s=60)
    return number


def started(folder):
    """Process ids of every execution so far."""
    return [int(pid) for path in Path(folder).glob("[0-9]*") for pid in path.read_text().split()]


def executions(folder):
    return len(started(folder))


def address_of(client, name):
    workers = client.scheduler_info(n_workers=-1)["workers"]
    return next((address for address, w in workers.items() if w["name"] == name), None)


def status_of(client, address):
    def look(dask_scheduler):
        ws = dask_scheduler.workers.get(address)
        return ws.status.name if ws else "gone"

    return client.run_on_scheduler(look)


def retire(cluster, client, name):
    """Retire in a thread; returns how to wait for the end of it."""
    address = address_of(client, name)
    thread = threading.Thread(target=client.retire_workers, args=([address],), daemon=True)
    thread.start()
    eventually(lambda: status_of(client, address) in GOING)
    assert status_of(client, address) != "gone"  # it is there until its run has ended
    return thread.join


def terminate(cluster, client, name):
    os.kill(cluster.workers[name].pid, signal.SIGTERM)
    address = address_of(client, name)
    eventually(lambda: status_of(client, address) != "running")
    return lambda timeout: cluster.workers[name].wait(timeout)


def live_out(cluster, client, name):
    address = address_of(client, name)
    eventually(lambda: status_of(client, address) in GOING, within_s=20)
    return lambda timeout: cluster.workers[name].wait(timeout)


@pytest.mark.parametrize(
    ("go", "options"),
    [
        pytest.param(retire, (), id="retire"),
        pytest.param(terminate, (), id="SIGTERM"),
        pytest.param(live_out, ("--lifetime", "4 seconds"), id="lifetime"),
    ],
)
def test_what_a_leaving_worker_executes_ends_there_and_once(lonely, go, options, tmp_path, figure):
    folder = str(tmp_path)

    @flow(task_runner=lonely.address)
    def leaves():
        with Client(lonely.address, set_as_default=False) as client:
            name = lonely.add_worker(*options, nanny=True)
            client.wait_for_workers(2, timeout=30)
            futures = hold.map(range(RUNS), folder)
            eventually(lambda: executions(folder) == 2, within_s=30)
            try:
                ended = go(lonely, client, name)
            finally:
                (tmp_path / "gate").touch()
            ended(20)
            return futures.result(), sum(future._run.crashes for future in futures)

    results, charged = leaves()

    figure(f"{executions(folder)} executions of {RUNS} runs, {charged} charged")
    assert results == list(range(RUNS))
    assert executions(folder) == RUNS
    assert charged == 0


def test_an_adaptive_cluster_scales_down_without_a_second_execution(tmp_path, figure):
    folder = str(tmp_path)
    runner = DaskTaskRunner(
        adapt_kwargs={"minimum": 1, "maximum": 2, "interval": "100ms", "wait_count": 1}
    )

    @flow(task_runner=runner)
    def adapts():
        first = hold.map(range(4), folder)
        eventually(lambda: len(set(started(folder))) == 2, within_s=40)  # it has grown
        (tmp_path / "gate").touch()
        first.wait()
        (tmp_path / "gate").unlink()
        # one long run is left: the other worker is told to go, and so may be the one that runs it
        last = hold.submit(4, folder)
        eventually(lambda: executions(folder) == 5, within_s=30)
        eventually(lambda: len(_workers()) == 1, within_s=30)
        (tmp_path / "gate").touch()
        return [*first.result(), last.result()], [f._run.crashes for f in [*first, last]]

    def _workers():
        from daskflow import get_client

        with get_client() as client:
            return client.scheduler_info(n_workers=-1)["workers"]

    results, charged = adapts()
    figure(f"{executions(folder)} executions of 5 runs, {sum(charged)} charged")
    assert results == list(range(5))
    assert executions(folder) == 5
    assert sum(charged) == 0
