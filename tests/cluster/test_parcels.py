"""The parcel protocol on a real cluster: what travels together, what never waits, who sees what."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from daskflow import DaskTaskRunner, as_completed, flow, get_run_logger, task, unmapped
from daskflow.errors import ClusterError
from daskflow.runner.cluster.dispatch import Dispatch
from daskflow.runner.store import open_store
from tests.foreign import eventually


def waits_for(path):
    """A body's way to block until the test lets it go."""
    import pathlib
    import time

    deadline = time.monotonic() + 60
    while not pathlib.Path(path).exists():
        assert time.monotonic() < deadline, f"nobody made {path}"
        time.sleep(0.005)


@pytest.fixture
def parcels(monkeypatch):
    """Every parcel that is sent, as a list of the names of its runs."""
    sent: list[list[str]] = []
    plain = Dispatch.send

    def send(self, batch):
        sent.extend([[run.label for run in parcel.runs] for parcel in batch])
        plain(self, batch)

    monkeypatch.setattr(Dispatch, "send", send)
    return sent


@task
def noop(number):
    return number


@task
def inc(number):
    return number + 1


@task
def until(path):
    waits_for(path)
    return path


def test_ten_thousand_short_runs_travel_in_few_parcels(cluster, parcels):
    @flow(task_runner=cluster)
    def many():
        return sum(noop.map(range(10_000)).result())

    assert many() == 49_995_000
    assert len(parcels) < 200


def test_a_chain_needs_one_parcel(cluster, parcels):
    @flow(task_runner=cluster)
    def chain():
        value = 0
        for _ in range(300):
            value = inc.submit(value)
        return value.result()

    assert chain() == 300
    assert len(parcels) <= 3


def test_short_runs_never_wait_behind_a_long_one(cluster, tmp_path):
    gate = tmp_path / "gate"

    @task
    def mixed(number):
        if number == 1_500:
            waits_for(gate)
        return number

    @flow(task_runner=cluster)
    def one_is_slow():
        mixed.map(range(50)).result()  # the estimate says: short
        futures = mixed.map(range(100, 3_000))
        others = [future for future in futures if future.name != futures[1_400].name]
        for future in others:
            future.result(timeout=60)
        assert not futures[1_400].done()  # all others are home while it still executes
        gate.touch()
        return futures[1_400].result()

    assert one_is_slow() == 1_500


def test_a_run_that_lasts_is_seen_running_with_its_log_lines(cluster, tmp_path, home):
    gate = tmp_path / "gate"

    @task
    def talks():
        get_run_logger().info("under way")
        waits_for(gate)

    @flow(task_runner=cluster)
    def watched():
        future = talks.submit()
        eventually(lambda: future.state.is_running(), within_s=20)

        def line_is_stored():
            with open_store(f"sqlite:///{home}/runs.db") as store:
                run = store.find_flow_run("@last")
                rows = store.task_runs(run.flow_run_id)
                lines = store.logs(run.flow_run_id)
                return [row.state for row in rows] == ["Running"] and lines

        eventually(line_is_stored, within_s=20)
        gate.touch()
        return future.result()

    assert watched() is None


def test_async_runs_overlap_beyond_the_number_of_slots(cluster, tmp_path):
    @task
    async def meets(number, folder, expected):
        import asyncio
        import os

        os.close(os.open(f"{folder}/{number}", os.O_CREAT))
        async with asyncio.timeout(60):  # each ends only when all have started
            # the others are in another process: the folder is all that they share
            while len(os.listdir(folder)) < expected:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return number

    @flow(task_runner=cluster)
    def meeting():
        return meets.map(range(60), str(tmp_path), 60).result()

    assert meeting() == list(range(60))


def test_results_stream_while_later_runs_execute(cluster, tmp_path):
    gates = [tmp_path / str(number) for number in range(2)]

    @flow(task_runner=cluster)
    def streaming():
        futures = until.map([str(gate) for gate in gates])
        gates[1].touch()
        completed = as_completed(futures, timeout=60)
        first = next(completed).result()
        gates[0].touch()
        return first, next(completed).result()

    assert streaming() == (str(gates[1]), str(gates[0]))


def test_dask_sees_a_bounded_window_only(cluster):
    most = 0

    @task
    def brief(number):
        import time

        time.sleep(0.001)
        return number

    @flow(task_runner=cluster)
    def windowed():
        nonlocal most
        for _ in as_completed(brief.map(range(3_000))):
            most = max(most, len(cluster.scheduler.tasks))

    windowed()
    assert 0 < most < 30


def test_a_large_argument_of_a_map_is_sent_once(cluster, monkeypatch):
    from distributed import Client

    scattered = []
    plain = Client.scatter

    def scatter(self, data, **options):
        scattered.append(len(data))
        return plain(self, data, **options)

    monkeypatch.setattr(Client, "scatter", scatter)
    table = np.arange(500_000)

    @task
    def pick(array, place):
        return int(array[place])

    @flow(task_runner=cluster)
    def shared():
        return pick.map(unmapped(table), range(20)).result()

    assert shared() == list(range(20))
    assert len(scattered) == 1


def test_large_results_stay_on_the_workers_and_leave_with_their_future(cluster):
    @task
    def make():
        return np.zeros(200_000)

    @task
    def size(array):
        return array.nbytes

    @flow(task_runner=cluster)
    def large():
        future = make.submit()
        assert size.submit(future).result() == 1_600_000
        keys = [key for key in cluster.scheduler.tasks if "make-result" in str(key)]
        assert len(keys) == 1
        del future
        eventually(lambda: keys[0] not in cluster.scheduler.tasks, within_s=20)

    large()


def test_parcels_that_somebody_cancels_on_the_cluster_are_sent_again(cluster, parcels, tmp_path):
    gate = tmp_path / "gate"

    @task  # of its own: nothing is known of how long it takes, so its runs go as probes
    def cancelled(path):
        waits_for(path)
        return path

    @flow(task_runner=cluster)
    def disturbed():
        futures = cancelled.map([str(gate)] * 2)
        keys = []

        def both_are_there():
            keys[:] = [key for key in cluster.scheduler.tasks if str(key).startswith("cancelled-")]
            return len(keys) == 2

        eventually(both_are_there, within_s=20)
        cluster.loop.add_callback(
            cluster.scheduler.client_releases_keys,
            keys,
            next(iter(cluster.scheduler.tasks[keys[0]].who_wants)).client_key,
            "a test",
        )
        cluster.loop.add_callback(cluster.scheduler.report, {"op": "cancelled-keys", "keys": keys})
        eventually(lambda: len(parcels) == 4, within_s=20)
        gate.touch()
        return futures.result()

    assert disturbed() == [str(gate)] * 2


def is_whole(path):
    """Whether a scheduler file is there, and written to its end."""
    return path.exists() and path.read_text().rstrip().endswith("}")


def test_the_scheduler_needs_neither_daskflow_nor_user_code(tmp_path):
    """A scheduler that cannot import daskflow carries closures and classes of the flow's module."""
    scheduler_file = tmp_path / "scheduler.json"
    blocked = (
        "import sys; sys.modules['daskflow'] = None\n"
        "from distributed.cli.dask_scheduler import main\n"
        "main(['--host', '127.0.0.1', '--port', '0', '--no-show', '--dashboard-address',"
        f" '127.0.0.1:0', '--scheduler-file', {str(scheduler_file)!r}])"
    )
    log = (tmp_path / "log").open("wb")
    scheduler = subprocess.Popen([sys.executable, "-c", blocked], stdout=log, stderr=log)
    worker = subprocess.Popen(
        [
            *(sys.executable, "-m", "dask", "worker", "--scheduler-file", str(scheduler_file)),
            *("--host", "127.0.0.1", "--nthreads", "1", "--no-dashboard", "--no-nanny"),
            *("--local-directory", str(tmp_path)),
        ],
        stdout=log,
        stderr=log,
    )
    try:

        class Mine:
            def __init__(self, value):
                self.value = value

        @task
        def wrap(value):
            return Mine(value)

        @task
        def unwrap(mine):
            return mine.value

        eventually(lambda: is_whole(scheduler_file), within_s=30)
        address = json.loads(scheduler_file.read_text())["address"]

        @flow(task_runner=address)
        def with_own_classes():
            return unwrap.map(wrap.map(range(20))).result()

        assert with_own_classes() == list(range(20))
    finally:
        for process in (worker, scheduler):
            process.terminate()
            process.wait(20)
        log.close()


def test_a_delayed_retry_holds_no_slot(tmp_path: Path):
    """On one worker with one thread: the other run executes while the first waits to go again."""
    order = tmp_path / "order"

    @task(retries=1, retry_delay_seconds=1.5)
    def flaky():
        with order.open("a") as file:
            file.write("flaky\n")
        if order.read_text().count("flaky") == 1:
            raise ValueError("not yet")

    @task
    def other():
        with order.open("a") as file:
            file.write("other\n")

    @flow(task_runner=DaskTaskRunner(cluster_kwargs={"n_workers": 1, "threads_per_worker": 1}))
    def one_slot():
        first = flaky.submit()
        eventually(lambda: first._run.state == "AwaitingRetry", within_s=20)
        other.submit().result()
        first.result()

    one_slot()
    assert order.read_text().split() == ["flaky", "other", "flaky"]


def test_a_defect_of_the_driver_ends_every_future(cluster, monkeypatch):
    def send(self, batch):
        raise RuntimeError("a defect")

    monkeypatch.setattr(Dispatch, "send", send)
    ended = []

    @flow(task_runner=cluster)
    def defective():
        futures = noop.map(range(20))
        ended.extend(future.state.name for future in as_completed(futures, timeout=30))
        return futures[0].result()

    with pytest.raises(ClusterError, match="a defect"):
        defective()
    assert ended == ["Crashed"] * 20


def test_no_thread_or_port_of_a_flow_is_open_to_the_network():
    import psutil

    seen = []

    @flow(task_runner="processes")
    def listening():
        noop.submit(1).result()
        me = psutil.Process()
        for process in [me, *me.children(recursive=True)]:
            seen.extend(c.laddr.ip for c in process.net_connections("tcp") if c.status == "LISTEN")

    listening()
    assert seen
    assert set(seen) == {"127.0.0.1"}
    assert not [t for t in threading.enumerate() if t.name == "daskflow-driver"]
