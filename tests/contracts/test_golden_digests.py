"""Digests are the same on every machine, in every process and version of Python.

A test here that fails means that every stored result of every user would be missed, or worse.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.contracts.golden_digests import FILE
from tests.contracts.golden_values import digests

GOLDEN = json.loads(FILE.read_text())
HERE = dict(digests())


@pytest.mark.parametrize("name", GOLDEN)
def test_a_digest_is_the_one_that_was_written_down(name):
    assert HERE[name] == GOLDEN[name]


def test_every_value_has_its_digest_written_down():
    assert set(HERE) == set(GOLDEN)
    assert len(set(HERE.values())) == len(HERE)


@pytest.mark.parametrize("how", ["spawned", "forked"])
def test_another_process_with_another_hash_seed_finds_the_same_digests(how):
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    done = subprocess.run(
        [sys.executable, "-m", "tests.contracts.golden_digests", how],
        env=os.environ | {"PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert json.loads(done.stdout) == GOLDEN
