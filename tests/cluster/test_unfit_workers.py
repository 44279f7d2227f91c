"""Workers that lack what a flow needs are told of before the first task run, by name."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from daskflow import flow, task
from daskflow.config import get_settings
from daskflow.errors import ClusterError, StoreError, UsageError
from daskflow.runner.store import open_store
from tests.foreign import ForeignCluster

OTHER_VERSIONS = """
from importlib.metadata import version

from distributed import versions

system = {**versions.get_system_info(), "python": "3.9.1.final.0"}  # Dask loads this file twice
versions.get_system_info = lambda: system
versions.version = lambda name: "0.0.1" if name == "daskflow" else version(name)
"""


def refusal(where: str, error: type[Exception], submitted) -> str:
    """What a flow is told whose only task must not run; no attempt of it was made."""

    @flow(task_runner=where)
    def unfit():
        return submitted().result()

    with pytest.raises(error) as caught:
        unfit()
    with open_store(get_settings().store.url) as store:
        flow_run = store.find_flow_run("@last")
        assert flow_run.state == "Failed"
        [run] = store.task_runs(flow_run.flow_run_id)
        ended = "Failed" if error is StoreError else "Crashed"
        assert (run.state, run.started_at) == (ended, None)
    return str(caught.value)


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder from which this process alone imports."""
    folder = tmp_path / "only-here"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    known = set(sys.modules)
    yield folder
    for name in set(sys.modules) - known:
        if getattr(sys.modules[name], "__file__", None) and str(folder) in str(
            sys.modules[name].__file__
        ):
            del sys.modules[name]


def test_a_package_that_workers_lack_is_named_with_the_worker(external_address, packages):
    (packages / "frames_of_mine.py").write_text("def total(x): return x")
    frames = importlib.import_module("frames_of_mine")

    @task
    def uses_it(x):
        return frames.total(x)

    @task
    def imports_it(x):
        import frames_of_mine

        return frames_of_mine.total(x)

    for each in (uses_it, imports_it):
        text = refusal(external_address, ClusterError, lambda each=each: each.submit(1))
        assert text.startswith(f"task {each.name} cannot run, so it was not sent: worker tcp://")
        assert text.count(" lacks frames_of_mine") == 2
        assert "; install there what this process has" in text


def test_an_import_that_the_body_may_do_without_is_nobodys_fault(external_address, packages):
    (packages / "faster_of_mine.py").write_text("")

    @task
    def tries(x):
        try:
            import faster_of_mine
        except ImportError:
            return "slow"
        return faster_of_mine

    @flow(task_runner=external_address)
    def fits():
        return tries.submit(1).result()

    assert fits() == "slow"


def test_a_module_that_travels_because_workers_lack_it_is_told_once(
    external_address, packages, caplog
):
    (packages / "project_of_mine.py").write_text(
        "from daskflow import task\n"
        "import steps_of_mine\n"
        "@task\n"
        "def one(x): return steps_of_mine.step(x)\n"
        "@task\n"
        "def two(x): return steps_of_mine.step(x)\n"
    )
    (packages / "steps_of_mine.py").write_text("def step(x): return x + 1")
    project = importlib.import_module("project_of_mine")

    @flow(task_runner=external_address)
    def travels():
        return project.two.submit(project.one.submit(1)).result()

    with caplog.at_level(logging.WARNING, "daskflow.flow_runs"):
        assert travels() == 3
    [told] = [each.getMessage() for each in caplog.records]
    assert "lacks project_of_mine, steps_of_mine; worker tcp://" in told
    assert "which task one uses: what it uses travels with it, as it is here" in told


@pytest.mark.parametrize("options", [{"persist_result": True}, {"cache_key_fn": lambda *_: "k"}])
def test_a_result_storage_that_workers_do_not_share_is_told(
    external_address, tmp_path, monkeypatch, options
):
    monkeypatch.chdir(tmp_path)  # the workers have a folder of that name of their own

    @task(result_storage="results", **options)
    def kept(x):
        return x

    text = refusal(external_address, UsageError, lambda: kept.submit(1))
    assert text.startswith("results are to be kept in 'results', which worker tcp://127.0.0.1:")
    assert "does not share with this process" in text
    assert "set result_storage= or DASKFLOW_RESULTS__STORAGE to a folder or a URL" in text
    assert list((tmp_path / "results").iterdir()) == []


@pytest.mark.filterwarnings("ignore:The 'future.infer_string' option")
def test_a_worker_that_makes_other_cache_keys_of_equal_values_is_told(
    external_address, tmp_path, caplog
):
    @task(persist_result=True, result_storage=str(tmp_path / "results"))
    def kept(x):
        return x

    @flow(task_runner=external_address)
    def told(x):
        return kept.submit(x).result()

    with caplog.at_level(logging.WARNING, "daskflow.flow_runs"):
        assert told(1) == 1
        assert not caplog.records
        with pd.option_context("future.infer_string", False):  # a text column is another then
            assert told(2) == 2
    texts = [each.getMessage() for each in caplog.records]
    here = f"pandas ({pd.__version__} there, {pd.__version__} here)"
    assert len(texts) == 2  # workers
    assert all(f"gets other digests than this process for values of {here}" in t for t in texts)


def test_a_storage_where_workers_may_not_write_is_told_before_the_first_task(
    external_address, tmp_path
):
    (tmp_path / "file").write_text("in the way of a folder")

    @task(persist_result=True, result_storage=str(tmp_path / "file" / "results"))
    def kept(x):
        return x

    text = refusal(external_address, StoreError, lambda: kept.submit(1))
    assert text.startswith("worker tcp://127.0.0.1:")
    assert f" cannot keep results: cannot write '{tmp_path}/file/results/" in text


def test_a_worker_of_another_python_and_daskflow_is_named(tmp_path):
    @task
    def one(x):
        return x

    (tmp_path / "other.py").write_text(OTHER_VERSIONS)
    cluster = ForeignCluster(tmp_path, n_workers=0)
    try:
        cluster.add_worker("--preload", str(tmp_path / "other.py"))

        @flow(task_runner=cluster.address)
        def unfit():
            return one.submit(1).result()

        with pytest.raises(ClusterError) as caught:
            unfit()
    finally:
        cluster.close()
    text = str(caught.value)
    assert "worker tcp://127.0.0.1:" in text
    assert " runs Python 3.9.1, this process 3." in text
    assert " has daskflow 0.0.1, this process has " in text
