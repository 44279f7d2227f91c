"""The soak, short: one flow on workers of its own, with a fixed seed; see `tests/README.md`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

from tests.foreign import ROOT, eventually

SOAK = [sys.executable, "-m", "tests.chaos.soak", "--json", "--size", "60"]


def started(tmp_path, *options):
    return subprocess.Popen(
        [*SOAK, "--folder", str(tmp_path), *options],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_flow_under_random_faults_keeps_the_invariants(tmp_path, figure):
    with started(tmp_path, "--seed", "5", "--flow", "7") as soak:
        told, log = soak.communicate(timeout=240)
    assert soak.returncode == 0, log
    said = json.loads(told)
    figure(", ".join(f"{name} {count}" for name, count in said.items()))
    assert (said["violations"], said["flows"]) == (0, 1)
    assert said["executions"] > 100
    assert list(tmp_path.glob("soak-*")) == []


def test_an_interrupted_soak_tells_what_it_has_seen_and_leaves_nothing(tmp_path):
    with started(tmp_path, "--seed", "3") as soak:
        eventually(lambda: list(tmp_path.glob("soak-*/flow-0/log.txt")), within_s=60)
        soak.send_signal(signal.SIGINT)
        told, log = soak.communicate(timeout=60)
    assert "interrupted" in log
    assert (soak.returncode, json.loads(told)["violations"]) == (0, 0)
    assert list(tmp_path.glob("soak-*")) == []
