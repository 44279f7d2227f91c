"""The last worker dies: waiting is told, and it ends."""

from __future__ import annotations

import time
from pathlib import Path

from daskflow import flow, task
from daskflow.config import reset_settings
from daskflow.errors import ClusterError
from daskflow.runner.store import open_store
from tests.foreign import eventually


@task
def hold(number, gate):
    Path(gate).with_suffix(f".{number}").touch()
    eventually(Path(gate).exists, within_s=60)
    return number


def test_a_flow_without_workers_says_so_and_goes_on_or_ends(
    lonely, tmp_path, monkeypatch, caplog, home, figure
):
    monkeypatch.setenv("DASKFLOW_RUNNER__NO_WORKERS_TIMEOUT_SECONDS", "4")
    reset_settings()
    gate = tmp_path / "gate"

    def told(text):
        return [record for record in caplog.records if text in record.getMessage()]

    @flow(task_runner=lonely.address)
    def waits():
        futures = hold.map(range(3), str(gate))
        eventually(gate.with_suffix(".0").exists, within_s=30)
        lonely.kill_worker("foreign-0")
        killed = time.monotonic()
        eventually(lambda: told("no worker is left"), within_s=3)
        shown_s = time.monotonic() - killed
        gate.touch()
        lonely.add_worker()
        results = futures.result(timeout=30)
        eventually(lambda: told("the flow goes on"), within_s=3)

        gate.unlink()
        more = hold.map(range(3, 6), str(gate))
        eventually(gate.with_suffix(".3").exists, within_s=30)
        lonely.kill_worker("foreign-1")
        killed = time.monotonic()
        more.wait()
        ended_s = time.monotonic() - killed
        gate.touch()
        return results, shown_s, ended_s, [(f.state.name, f.state.result(False)) for f in more]

    results, shown_s, ended_s, ends = waits()

    figure(f"stall shown after {shown_s:.2f} s; ended {ended_s:.2f} s after the loss, 4 s allowed")
    assert results == [0, 1, 2]
    assert shown_s < 2
    assert 4 <= ended_s < 5
    assert {state for state, _ in ends} == {"Crashed"}
    assert {type(error) for _, error in ends} == {ClusterError}
    assert "no worker was there for 4." in str(ends[0][1])
    with open_store(f"sqlite:///{home}/runs.db") as store:
        events = [e.event for e in store.events(store.find_flow_run("@last").flow_run_id)]
    assert "daskflow.cluster.stalled" in events
    assert "daskflow.cluster.resumed" in events
