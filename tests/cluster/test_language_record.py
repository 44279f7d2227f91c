"""What the record tells of a flow run afterwards, and that a flow never fails for it."""

from __future__ import annotations

import json
import logging

from daskflow import flow, task
from daskflow.config import get_settings, reset_settings
from daskflow.runner.store import open_store


@task(retries=1, tags=["x"], version="2")
def load(n):
    from daskflow import runtime  # travels by value to the external workers

    if n == 1 and runtime.task_run.attempt == 1:
        raise ValueError("flaky")
    return [n]


@task
def join(parts, *, extra=None):
    return [number for part in parts for number in part]


@task
def bad(_):
    raise KeyError("k")


def record():
    with open_store(get_settings().store.url) as store:
        row = store.find_flow_run("@last")
        run = row.flow_run_id
        return {
            "flow": row,
            "tasks": store.tasks(run),
            "runs": store.task_runs(run),
            "edges": sorted(store.edges(run)),
            "story": {
                r.number: [t.state for t in store.transitions(run, r.number)]
                for r in store.task_runs(run)
            },
            "counts": store.counts(run),
        }


def test_a_flow_run_is_recorded_whole(where):
    @flow(task_runner=where, name="etl", version="7", flow_run_name="monday")
    def etl(months: list[int], label: str = "x"):
        parts = load.map(months)
        whole = join.submit(parts, extra={"again": parts[0]})
        called = join([whole])
        bad.submit(whole).wait()
        after = join.submit([bad.submit(1), whole])
        after.wait()
        return called

    state = etl(["0", "1", "2"], return_state=True)
    told = record()

    row = told["flow"]
    assert (row.name, row.flow_name, row.flow_version) == ("monday", "etl", "7")
    assert (row.state, row.message) == (state.name, state.message)
    assert json.loads(row.parameters) == {"months": [0, 1, 2], "label": "x"}
    assert row.created_at <= row.started_at <= row.ended_at
    assert len(row.code_digest) == 32
    assert row.entrypoint.endswith("test_language_record.py:" + etl.fn.__qualname__)
    assert {"python", "daskflow", "dask", "cwd"} <= set(json.loads(row.environment))
    assert row.pid > 0

    tasks = {each.name: each for each in told["tasks"]}
    assert list(tasks) == ["load", "join", "bad"]
    assert (tasks["load"].version, json.loads(tasks["load"].tags)) == ("2", ["x"])
    assert json.loads(tasks["load"].options)["retries"] == 1
    assert len(tasks["load"].code_digest) == 32

    runs = {run.number: run for run in told["runs"]}
    assert [(run.state, run.attempt, run.crashes) for run in runs.values()] == [
        ("Completed", 1, 0),
        ("Completed", 2, 0),
        ("Completed", 1, 0),
        ("Completed", 1, 0),
        ("Completed", 1, 0),
        ("Failed", 1, 0),
        ("Failed", 1, 0),
        ("NotReady", 0, 0),
    ]
    assert runs[5].message == "KeyError: 'k'"
    assert runs[7].message == "bad-1 ended Failed: KeyError: 'k'"
    assert told["edges"] == [(3, 0), (3, 1), (3, 2), (4, 3), (5, 3), (7, 3), (7, 6)]
    assert told["story"][0] == ["Pending", "Running", "Completed"]
    assert told["story"][1] == ["Pending", "Running", "AwaitingRetry", "Retrying", "Completed"]
    assert told["story"][7][-1] == "NotReady"
    assert told["counts"] == {"Completed": 5, "Failed": 2, "NotReady": 1}
    for number in (0, 1, 2, 3, 4, 5, 6):
        run = runs[number]
        assert run.created_at <= run.started_at <= run.ended_at
        assert run.run_s >= 0
        assert run.cpu_s >= 0
        assert run.worker
        assert run.pid


def test_a_mapped_future_is_an_edge(where):
    @flow(task_runner=where)
    def maps():
        numbers = load.submit(5)
        bad.map(numbers).result(raise_on_failure=False)

    maps()
    assert record()["edges"] == [(1, 0)]


def test_bytes_of_results_are_recorded(cluster):
    @flow(task_runner=cluster)
    def sizes():
        futures = [task(lambda n: b"x" * n).submit(n) for n in (10, 1_000_000)]
        return [len(future.result()) for future in futures]

    assert sizes() == [10, 1_000_000]
    assert record()["runs"][1].result_bytes >= 1_000_000


def test_parameters_that_json_does_not_know_are_described():
    class Odd:
        def __repr__(self):
            raise RuntimeError

    @flow(task_runner="sync")
    def takes(a, b):
        return 1

    takes({1, 2}, Odd())
    told = json.loads(record()["flow"].parameters)
    assert told == {"a": "{1, 2}", "b": "<Odd whose repr raises RuntimeError>"}


def test_a_flow_runs_on_when_the_record_cannot_be_written(tmp_path, monkeypatch, where, caplog):
    blocked = tmp_path / "a file where the folder should be"
    blocked.write_text("")
    monkeypatch.setenv("DASKFLOW_HOME", str(blocked))
    reset_settings()

    @flow(task_runner=where)
    def goes_on():
        return load.map(range(3)).result()

    with caplog.at_level(logging.WARNING):
        assert goes_on() == [[0], [1], [2]]
    assert len([r for r in caplog.records if r.name.startswith("daskflow.runner.store")]) == 1


def test_nothing_is_recorded_where_the_record_is_off(monkeypatch, home, where):
    monkeypatch.setenv("DASKFLOW_STORE__RECORD", "false")
    reset_settings()

    @flow(task_runner=where)
    def unrecorded():
        return load.map(range(3)).result()

    assert unrecorded() == [[0], [1], [2]]
    assert not (home / "runs.db").exists()
