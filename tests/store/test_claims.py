"""Claims on cache keys in the run store: who gets one, and when somebody else's may be taken."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from daskflow.caching.claims import claim_place
from daskflow.runner.core.leases import Lease
from daskflow.runner.store import RunLeases, claims, open_store, open_writer, this_process
from daskflow.runner.store.claims import IDLE_S, KeyClaims
from daskflow.runner.store.leases import LEASE_S
from tests.store import made

CLAIM = """
import sys
from daskflow.runner.store.claims import KeyClaims
held = KeyClaims(sys.argv[1], "ab" * 16)
held.take({"k"})
held.executing({"k"}, True)
print("ready", flush=True)
input()
"""


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/runs.db"


@pytest.fixture
def clock():
    return [100.0]


@pytest.fixture
def drivers(url, clock):
    """Claims of two drivers of different flow runs, on one clock."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(closing(KeyClaims(url, run, clock=lambda: clock[0])))
            for run in (made.RUN, "ab" * 16)
        ]


def test_one_driver_gets_a_claim_and_the_other_one_when_it_is_released(drivers):
    mine, theirs = drivers
    assert mine.take({"k", "l"}).refused == set()
    assert mine.take({"k"}).refused == set()  # once more, with the next parcel
    assert theirs.take({"k", "m"}).refused == {"k"}
    assert theirs.free({"k", "l", "n"}) == {"n"}
    theirs.release({"k"})  # which is not its own
    assert theirs.free({"k"}) == set()
    mine.release({"k"})
    assert theirs.free({"k"}) == {"k"}
    assert theirs.take({"k"}).refused == set()


def test_a_driver_that_closes_gives_everything_up(url, drivers):
    with closing(KeyClaims(url, made.RUN)) as gone:
        gone.take({"k"})
    assert drivers[0].take({"k"}).refused == set()


@pytest.mark.parametrize("executing", [True, False])
def test_a_claim_is_respected_for_long_only_while_its_run_executes(drivers, clock, executing):
    mine, theirs = drivers
    mine.take({"k"})
    mine.executing({"k"}, executing)
    assert theirs.take({"k"}).refused == {"k"}
    clock[0] += 0.9 * IDLE_S
    assert theirs.free({"k"}) == set()
    clock[0] += 0.2 * IDLE_S
    assert theirs.free({"k"}) == (set() if executing else {"k"})
    mine.executing({"k"}, False)  # it waits for another run
    theirs.free({"k"})
    clock[0] += 1.1 * IDLE_S
    assert theirs.take({"k"}).refused == set()
    assert mine.take({"k"}).refused == {"k"}


def test_two_drivers_that_wait_for_each_others_unstarted_runs_both_go_on(drivers, clock):
    mine, theirs = drivers
    mine.take({"k"}), theirs.take({"l"})
    assert (mine.take({"l"}).refused, theirs.take({"k"}).refused) == ({"l"}, {"k"})
    clock[0] += 1.1 * IDLE_S
    assert mine.take({"l"}).refused | theirs.take({"k"}).refused == set()


def test_the_claim_of_a_dead_process_is_free_at_once(url, drivers):
    with subprocess.Popen(
        [sys.executable, "-c", CLAIM, url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "ready\n"
        assert drivers[0].take({"k"}).refused == {"k"}
        process.kill()
        process.wait()
    assert drivers[0].free({"k"}) == {"k"}
    assert drivers[0].take({"k"}).refused == set()


def test_the_claim_of_another_host_goes_with_the_lease_of_its_flow_run(
    url, drivers, clock, monkeypatch
):
    mine, theirs = drivers
    elsewhere = this_process()._replace(host="elsewhere.example")
    monkeypatch.setattr(claims, "this_process", lambda: elsewhere)
    theirs.take({"k"})
    theirs.executing({"k"}, True)
    with RunLeases(url) as leases:
        lease = Lease("ab" * 16)
        for _ in range(3):
            assert mine.take({"k"}).refused == {"k"}
            clock[0] += 0.9 * LEASE_S
            leases.renew(lease)
    assert mine.take({"k"}).refused == {"k"}
    clock[0] += 1.1 * LEASE_S
    assert mine.take({"k"}).refused == set()


def test_a_run_that_is_marked_crashed_leaves_no_claim_behind(url):
    held = KeyClaims(url, made.RUN)
    held.take({"k"})  # and is not closed: its process was killed
    mine = this_process()._asdict() | {"process_started_at": 1.0}
    with closing(open_writer(url)) as writer:
        writer.flow_run(made.flow_run(state="Running", **mine))
        assert writer.flush()
    with open_store(url), closing(KeyClaims(url, "ab" * 16)) as other:
        assert other.take({"k"}).refused == set()
    held.close()


def test_a_place_tells_stores_apart_and_no_password():
    place = claim_place("s3://user:secret@bucket", "k" * 64)
    assert place != claim_place("s3://bucket", "k" * 64)
    assert "secret" not in place


def test_a_driver_hears_when_others_have_given_something_up(drivers):
    mine, theirs = drivers
    assert mine.take({"k"}).others_at == 0.0
    mine.release({"k"})
    assert mine.take({"k"}).others_at == 0.0
    before = time.time()
    theirs.take({"l"})
    theirs.release({"l"})
    theirs.close()
    assert before <= mine.take({"k"}).others_at <= time.time()
