"""What the record keeps of the environment: the versions that are installed."""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys

import pytest

from daskflow.runner import environment


@pytest.fixture(autouse=True)
def fresh():
    environment._versions.cache_clear()
    yield
    environment._versions.cache_clear()


def told() -> dict[str, str]:
    return json.loads(environment.environment_json())


def test_versions_are_those_that_are_installed():
    names = ("dask", "distributed", "cloudpickle", "pyarrow", "pandas", "numpy")
    assert {name: told()[name] for name in names} == {
        name: importlib.metadata.version(name) for name in names
    }
    assert told()["daskflow"] == importlib.metadata.version("daskflow")


def test_first_of_two_installations_counts_and_what_is_missing_is_left_out(tmp_path, monkeypatch):
    for place, version in (("first", "2.0+local"), ("second", "1.0")):
        (tmp_path / place / f"Dask-{version}.dist-info").mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [*map(str, (tmp_path / "first", tmp_path / "second")), "/no"])
    assert told()["dask"] == "2.0+local"
    assert "distributed" not in told()


@pytest.mark.parametrize("name", ["dask.egg-info", "dask-3.0-py3.11.egg-info"])
def test_package_of_an_older_layout_is_asked_for_its_version(tmp_path, monkeypatch, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: dask\nVersion: 3.0\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert told()["dask"] == "3.0"
    assert os.getcwd() == told()["cwd"]
