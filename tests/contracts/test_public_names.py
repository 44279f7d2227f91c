"""The front door: the names that users import, and what importing them costs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import daskflow

# Prefect's words where it has one; taking one away breaks somebody's flow.
PROMISED = {
    "CachePolicy",
    "DEFAULT",
    "FLOW_PARAMETERS",
    "INPUTS",
    "NO_CACHE",
    "RUN_ID",
    "ResultStorage",
    "STRICT",
    "TASK_SOURCE",
    "DaskTaskRunner",
    "DaskflowError",
    "Flow",
    "Task",
    "allow_failure",
    "as_completed",
    "flow",
    "get_client",
    "get_run_logger",
    "runtime",
    "tags",
    "task",
    "unmapped",
    "wait",
}


def test_no_promised_name_is_missing():
    assert set(daskflow.__all__) >= PROMISED


def test_every_exported_name_is_there_and_listed():
    for name in daskflow.__all__:
        assert getattr(daskflow, name) is not None
    assert set(daskflow.__all__) <= set(dir(daskflow))


def test_a_name_that_does_not_exist_is_an_attribute_error_that_says_so():
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = daskflow.no_such_name


def test_defining_a_flow_loads_neither_a_cluster_nor_tables():
    program = (
        "import json, sys\n"
        "from daskflow import flow, task\n"
        "@task\n"
        "def double(x: int) -> int: return 2 * x\n"
        "@flow\n"
        "def doubled(x: int) -> int: return double(x)\n"
        "heavy = ('bokeh', 'distributed', 'pandas', 'pyarrow', 'rich')\n"
        "print(json.dumps([name for name in heavy if name in sys.modules]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == []
