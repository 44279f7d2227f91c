"""Process identities: stable while a process lives, and gone when it has ended."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from daskflow.runner.store.process import ProcessIdentity, process_is_gone, this_process

TELL = """
import json
from daskflow.runner.store import this_process
print(json.dumps(this_process()), flush=True)
input()
"""


@pytest.fixture
def child():
    process = subprocess.Popen(
        [sys.executable, "-c", TELL], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    yield process
    process.kill()
    process.communicate()


def identity_of(process: subprocess.Popen[str]):
    return ProcessIdentity(*json.loads(process.stdout.readline()))


def test_this_process_lives():
    assert process_is_gone(this_process()) is False
    assert this_process() == this_process()


def test_another_process_lives_until_it_has_ended_reaped_or_not(child, eventually):
    identity = identity_of(child)
    assert identity.pid == child.pid
    assert process_is_gone(identity) is False
    child.kill()
    eventually(lambda: process_is_gone(identity))  # nobody has waited for it yet
    child.wait()
    assert process_is_gone(identity) is True


def test_a_pid_that_was_given_to_another_process_is_gone():
    mine = this_process()
    assert process_is_gone(mine._replace(process_started_at=mine.process_started_at - 5)) is True


def test_a_process_of_an_earlier_boot_is_gone():
    assert process_is_gone(this_process()._replace(boot_id="another")) is True


def test_nobody_can_tell_about_another_host():
    assert process_is_gone(this_process()._replace(host="elsewhere.example")) is None
